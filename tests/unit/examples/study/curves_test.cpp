#include "examples/study/curves.hpp"

#include <doctest/doctest.h>

#include <optional>
#include <utility>
#include <vector>

namespace dither {
namespace {

std::vector<std::pair<double, double>> pairs(std::vector<std::optional<double>> x,
                                             std::vector<std::optional<double>> y) {
    std::vector<std::pair<double, double>> found;
    for (const Point& point : pair_with_next(std::move(x), std::move(y)))
        found.emplace_back(point.x, point.y);
    return found;
}

TEST_SUITE("examples/study/curves") {
    TEST_CASE("what was measured in a round is paired with the bits of the next one") {
        CHECK(pairs({1, 2, 3}, {32, 8, 4}) == std::vector<std::pair<double, double>>{{1, 8}, {2, 4}});
        CHECK(pairs({1}, {32}).empty());
        CHECK(pairs({}, {}).empty());
    }

    TEST_CASE("a round without a measurement has the one before, and none before the first") {
        CHECK(pairs({std::nullopt, 2, std::nullopt, 5}, {32, 16, 8, 4}) ==
              std::vector<std::pair<double, double>>{{2, 8}, {2, 4}});
    }
}

}  // namespace
}  // namespace dither
