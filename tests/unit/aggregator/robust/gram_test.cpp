#include "aggregator/robust/gram.hpp"

#include "tests/unit/aggregator/robust/cohorts.hpp"

#include <doctest/doctest.h>

using namespace dither;
using namespace dither::test;

namespace {

Gram gram_of(const Updates& updates) {
    return dither::gram_of(std::vector<UpdateRow>(updates.begin(), updates.end()));
}

}  // namespace

TEST_SUITE("aggregator/robust/gram") {
    TEST_CASE("products and distances are those of the updates, of any number and size") {
        for (const std::size_t clients : {1, 2, 5, 9})
            for (const std::size_t parameters : {1, 255, 256, 700}) {
                const Updates updates = normal_updates(clients, parameters);
                const Gram gram = gram_of(updates);
                for (std::size_t i = 0; i < clients; ++i)
                    for (std::size_t j = 0; j < clients; ++j) {
                        double product = 0;
                        for (std::size_t k = 0; k < parameters; ++k)
                            product += static_cast<double>(updates[i][k]) * updates[j][k];
                        CHECK(gram(i, j) == doctest::Approx(product));
                        CHECK(std::sqrt(gram.squared_distance(i, j)) ==
                              doctest::Approx(distance(updates[i], updates[j])));
                    }
            }
    }

    TEST_CASE("equal updates are at distance zero, to the bit") {
        const Updates updates(3, normal_updates(1, 1000).front());
        CHECK(gram_of(updates).squared_distance(0, 2) == 0);
    }

    TEST_CASE("the distance to a combination is that to the point") {
        const Updates updates = normal_updates(3, 40);
        std::vector<float> point(40);
        for (std::size_t j = 0; j < 40; ++j)
            point[j] = 0.5F * updates[0][j] - 0.25F * updates[2][j];
        const auto distances = gram_of(updates).distances(std::vector{0.5, 0.0, -0.25});
        for (std::size_t i = 0; i < 3; ++i)
            CHECK(distances[i] == doctest::Approx(distance(updates[i], point)));
    }

    TEST_CASE("of neighbours that are equally near, the first comes first") {
        const Updates updates{{0}, {2}, {-2}, {1}};
        CHECK(neighbours_of(gram_of(updates)) == Neighbours{{3, 1, 2}, {3, 0, 2}, {0, 3, 1}, {0, 1, 2}});
    }
}
