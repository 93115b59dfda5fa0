#include "aggregator/detail/model_average.hpp"

#include "core/error.hpp"
#include "core/rng.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

using namespace dither;

namespace {

std::vector<float> model(std::uint32_t number) {
    std::vector<float> values(100);
    Stream(StreamKey{.round = number}).fill_normal(values);
    return values;
}

}  // namespace

TEST_SUITE("aggregator/model_average") {
    TEST_CASE("the running mean is the mean of all models") {
        ModelAverage average;
        CHECK(average.model().empty());
        std::vector<double> sum(100);
        for (std::uint32_t number = 0; number < 50; ++number) {
            average.add(model(number));
            for (std::size_t i = 0; i < sum.size(); ++i)
                sum[i] += model(number)[i];
        }
        CHECK(average.rounds() == 50);
        for (std::size_t i = 0; i < sum.size(); ++i)
            CHECK(std::abs(average.model()[i] - sum[i] / 50) < 1e-6);
    }

    TEST_CASE("the mean of one model is that model") {
        ModelAverage average;
        average.add(model(1));
        CHECK(std::vector<float>(average.model().begin(), average.model().end()) == model(1));
    }

    TEST_CASE("a restored average goes on to the same bits") {
        ModelAverage whole;
        ModelAverage second;
        for (std::uint32_t number = 0; number < 6; ++number) {
            if (number == 3)
                second.restore(whole.model(), whole.rounds());
            whole.add(model(number));
            if (number >= 3)
                second.add(model(number));
        }
        CHECK(std::equal(whole.model().begin(), whole.model().end(), second.model().begin()));
    }

    TEST_CASE("a model of another size and a state that nobody stored are refused") {
        ModelAverage average;
        average.add(model(0));
        CHECK_THROWS_AS(average.add(std::vector<float>(3)), PreconditionError);
        CHECK_THROWS_AS(average.restore(model(0), 0), PreconditionError);
    }
}
