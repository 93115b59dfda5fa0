#include "core/precision/allocation.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

using namespace dither;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

const Levels kDefault({4, 8, 16, 32});
const Levels kFine({2, 3, 4, 6, 8, 16, 32});

/// Calls visit(bits) for everything that the places may have.
void for_each_choice(std::span<const BitPlace> places, const Levels& levels,
                     const std::function<void(const std::vector<int>&)>& visit) {
    std::vector<int> bits;
    const std::function<void()> next = [&] {
        if (bits.size() == places.size()) {
            visit(bits);
            return;
        }
        const BitPlace place = places[bits.size()];
        for (const int level : levels.bits()) {
            if (level < place.least || level > place.most)
                continue;
            bits.push_back(level);
            next();
            bits.pop_back();
        }
    };
    next();
}

double cheapest_cost(std::span<const BitPlace> places, const Levels& levels, double error) {
    double best = kInfinity;
    for_each_choice(places, levels, [&](const std::vector<int>& bits) {
        if (error_of(places, bits) <= error)
            best = std::min(best, cost_of(places, bits));
    });
    return best;
}

double least_error(std::span<const BitPlace> places, const Levels& levels, double cost) {
    double best = kInfinity;
    for_each_choice(places, levels, [&](const std::vector<int>& bits) {
        if (cost_of(places, bits) <= cost)
            best = std::min(best, error_of(places, bits));
    });
    return best;
}

/// Costs over two orders of magnitude, errors over six.
std::vector<BitPlace> draw_places(std::size_t most) {
    const auto count = *rc::gen::inRange<std::size_t>(1, most + 1);
    std::vector<BitPlace> places;
    for (std::size_t i = 0; i < count; ++i)
        places.push_back({.cost = static_cast<double>(*rc::gen::inRange(1, 100)),
                          .error = std::ldexp(*rc::gen::inRange(1, 1000), *rc::gen::inRange(-20, 0))});
    return places;
}

double draw_limit() {
    return std::ldexp(*rc::gen::inRange(1, 1000), *rc::gen::inRange(-22, 2));
}

}  // namespace

TEST_SUITE("core/precision/allocation") {
    TEST_CASE("rounding to one more bit leaves about a quarter of the variance, and fp32 none") {
        CHECK(variance_factor(4) == 1);
        CHECK(variance_factor(2) == 49);
        CHECK(variance_factor(3) == doctest::Approx(49.0 / 9));
        CHECK(variance_factor(8) == doctest::Approx(49.0 / (127 * 127)));
        CHECK(variance_factor(16) == variance_factor(9));  // bf16
        CHECK(variance_factor(32) == 0);
        CHECK_THROWS_AS(variance_factor(1), PreconditionError);
        CHECK_THROWS_AS(variance_factor(17), PreconditionError);
    }

    TEST_CASE("each further level takes away less error for its cost than the one before it") {
        for (const Levels& levels : {kDefault, kFine}) {
            const std::span<const int> bits = levels.bits();
            const auto slope = [&](std::size_t i) {
                return (variance_factor(bits[i]) - variance_factor(bits[i + 1])) / (bits[i + 1] - bits[i]);
            };
            for (std::size_t i = 0; i + 2 < bits.size(); ++i)
                CHECK(slope(i) > slope(i + 1));
        }
    }

    TEST_CASE("an error that is met gets the lowest levels, and none at all gets 32 bits") {
        const std::vector<BitPlace> places{{.cost = 1, .error = 1}, {.cost = 2, .error = 3}};
        CHECK(cheapest_within_error(places, kDefault, 4) == std::vector{4, 4});
        CHECK(cheapest_within_error(places, kDefault, 0) == std::vector{32, 32});
        CHECK(cheapest_within_error({}, kDefault, 1).empty());
    }

    TEST_CASE("bits go where they take away the most error for their cost") {
        // Alike in error, the first costs ten times as much.
        const std::vector<BitPlace> places{{.cost = 10, .error = 1}, {.cost = 1, .error = 1}};
        CHECK(cheapest_within_error(places, kDefault, 1.5) == std::vector{4, 8});
        CHECK(best_within_cost(places, kDefault, 50) == std::vector{4, 8});
        // Alike in cost, the first feels ten times as much.
        const std::vector<BitPlace> uneven{{.cost = 1, .error = 10}, {.cost = 1, .error = 1}};
        CHECK(cheapest_within_error(uneven, kDefault, 1.5) == std::vector{8, 4});
        CHECK(best_within_cost(uneven, kDefault, 12) == std::vector{8, 4});
    }

    TEST_CASE("a step that overshoots gives back what it made needless") {
        // Greedily the small places rise first; then the large one must, and alone would have done.
        const std::vector<BitPlace> places{{.cost = 100, .error = 30}, {.cost = 1, .error = 1}};
        CHECK(cheapest_within_error(places, kDefault, 2) == std::vector{8, 4});
    }

    TEST_CASE("no choice is cheaper by more than one step than the one found, and none has the error of its cost") {
        CHECK(rc::check([] {
            const std::vector<BitPlace> places = draw_places(4);
            const Levels& levels = *rc::gen::arbitrary<bool>() ? kDefault : kFine;
            const double limit = draw_limit();
            const std::vector<int> bits = cheapest_within_error(places, levels, limit);
            RC_ASSERT(error_of(places, bits) <= limit);
            double step = 0;
            for (const BitPlace& place : places)
                step = std::max(step, 16 * place.cost);
            RC_ASSERT(cost_of(places, bits) <= cheapest_cost(places, levels, limit) + step);
        }));
    }

    TEST_CASE("what the greedy path passes through is optimal at its own cost") {
        CHECK(rc::check([] {
            const std::vector<BitPlace> places = draw_places(3);
            // A path's plan: no error may be taken away more cheaply than at this price, nor is any dearer taken.
            const double price = draw_limit();
            std::vector<int> bits;
            for (const BitPlace& place : places) {
                int best = 2;
                for (const int level : kFine.bits())
                    if (place.error * variance_factor(level) + price * place.cost * level <
                        place.error * variance_factor(best) + price * place.cost * best)
                        best = level;
                bits.push_back(best);
            }
            const double cost = cost_of(places, bits);
            const double error = error_of(places, best_within_cost(places, kFine, cost));
            RC_ASSERT(error <= error_of(places, bits) * (1 + 1e-12));
            RC_ASSERT(error <= least_error(places, kFine, cost) * (1 + 1e-12));
        }));
    }

    TEST_CASE("a budget is never exceeded, and more of it never gives more error") {
        CHECK(rc::check([] {
            const std::vector<BitPlace> places = draw_places(6);
            double unit = 0;
            for (const BitPlace& place : places)
                unit += place.cost;
            const double mean = *rc::gen::inRange(20, 320) / 10.0;
            const std::vector<int> bits = best_within_cost(places, kFine, mean * unit);
            const std::vector<int> more = best_within_cost(places, kFine, 1.3 * mean * unit);
            RC_ASSERT(cost_of(places, bits) <= mean * unit);
            RC_ASSERT(error_of(places, more) <= error_of(places, bits));
        }));
    }

    TEST_CASE("more error allowed never costs more") {
        CHECK(rc::check([] {
            const std::vector<BitPlace> places = draw_places(6);
            const double limit = draw_limit();
            RC_ASSERT(cost_of(places, cheapest_within_error(places, kFine, 1.3 * limit)) <=
                      cost_of(places, cheapest_within_error(places, kFine, limit)));
        }));
    }

    TEST_CASE("least and most are respected, even where the limit is not") {
        const std::vector<BitPlace> places{{.cost = 1, .error = 1, .least = 8, .most = 16},
                                           {.cost = 1, .error = 1, .least = 5, .most = 9}};
        CHECK(cheapest_within_error(places, kDefault, 100) == std::vector{8, 8});
        CHECK(cheapest_within_error(places, kDefault, 0) == std::vector{16, 8});
        CHECK(best_within_cost(places, kDefault, 0) == std::vector{8, 8});
        CHECK(best_within_cost(places, kDefault, 1000) == std::vector{16, 8});
        const std::vector<BitPlace> narrow{{.cost = 1, .error = 1, .least = 9, .most = 15}};
        CHECK_THROWS_AS(cheapest_within_error(narrow, kDefault, 1), PreconditionError);
    }

    TEST_CASE("an infinite error takes all bits that it may have and leaves the others theirs") {
        const std::vector<BitPlace> places{
            {.cost = 1, .error = kInfinity}, {.cost = 1, .error = 1}, {.cost = 1, .error = kInfinity, .most = 8}};
        CHECK(cheapest_within_error(places, kDefault, 1) == std::vector{32, 4, 8});
        CHECK(cheapest_within_error(places, kDefault, 0.01) == std::vector{32, 8, 8});
        CHECK(best_within_cost(places, kDefault, 44) == std::vector{32, 4, 8});
        CHECK(best_within_cost(places, kDefault, 24) == std::vector{8, 8, 8});
        CHECK(error_of(places, std::vector{32, 4, 8}) == kInfinity);
        CHECK(error_of(std::span(places).first(2), std::vector{32, 4}) == 1);
    }

    TEST_CASE("what feels no rounding stays at its least, and what costs nothing gets all it may") {
        const std::vector<BitPlace> places{{.cost = 5, .error = 0}, {.cost = 0, .error = 1}};
        CHECK(cheapest_within_error(places, kDefault, 0) == std::vector{4, 32});
        CHECK(best_within_cost(places, kDefault, 20) == std::vector{4, 32});
    }
}
