#include "core/optim/clip.hpp"

#include "core/error.hpp"
#include "core/rng.hpp"
#include "core/vector_math.hpp"
#include "tests/unit/core/schema_of.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

using namespace dither;

namespace {

/// A layer of two weights and a running mean, and one of a single weight.
Schema with_running_mean() {
    LayerSpec norm{.name = "bn1", .offset = 0, .count = 3, .tensors = {}, .macs = 0};
    norm.tensors = {{.name = "weight", .shape = {2}, .offset = 0},
                    {.name = "mean", .shape = {1}, .offset = 2, .trained = false}};
    const LayerSpec linear{.name = "fc1",
                           .offset = 3,
                           .count = 1,
                           .tensors = {{.name = "weight", .shape = {1, 1}, .offset = 3}},
                           .macs = 1};
    return Schema({norm, linear});
}

}  // namespace

TEST_SUITE("core/optim/clip") {
    TEST_CASE("a gradient beyond the limit keeps its direction and gets the limit for its norm") {
        const Schema schema = schema_of({{.count = 700}, {.count = 300}});
        std::vector<float> gradient(1000);
        Stream(StreamKey{.seed = 5}).fill_normal(gradient);
        const std::vector<float> before = gradient;
        const double norm = std::sqrt(squared_norm(std::span<const float>(before)));
        CHECK(clip_gradients(schema, gradient, 2) == doctest::Approx(norm));
        CHECK(std::sqrt(squared_norm(std::span<const float>(gradient))) == doctest::Approx(2).epsilon(1e-5));
        for (std::size_t i = 0; i < gradient.size(); ++i)
            CHECK(gradient[i] == doctest::Approx(before[i] * 2 / norm).epsilon(1e-5));
    }

    TEST_CASE("a gradient within the limit keeps its bits") {
        const Schema schema = schema_of({{.count = 2}});
        std::vector<float> gradient{3, 4};
        CHECK(clip_gradients(schema, gradient, 5) == 5);
        CHECK(gradient == std::vector<float>{3, 4});
    }

    TEST_CASE("what is not trained neither counts nor changes") {
        std::vector<float> gradient{3, 0, 1e6F, 4};
        CHECK(clip_gradients(with_running_mean(), gradient, 1) == 5);
        CHECK(gradient[0] == doctest::Approx(0.6));
        CHECK(gradient[2] == 1e6F);
        CHECK(gradient[3] == doctest::Approx(0.8));
    }

    TEST_CASE("a gradient that is not finite stays as it is, so that its cause shows") {
        std::vector<float> gradient{std::numeric_limits<float>::infinity(), 1};
        CHECK_FALSE(std::isfinite(clip_gradients(schema_of({{.count = 2}}), gradient, 1)));
        CHECK(gradient[1] == 1);
    }

    TEST_CASE("operands that do not fit are refused") {
        std::vector<float> gradient(3);
        CHECK_THROWS_AS(clip_gradients(schema_of({{.count = 2}}), gradient, 1), PreconditionError);
        CHECK_THROWS_AS(clip_gradients(schema_of({{.count = 3}}), gradient, 0), PreconditionError);
    }
}
