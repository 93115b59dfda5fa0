#include "aggregator/detail/attack.hpp"

#include "core/error.hpp"

#include <cmath>
#include <string>

#include <doctest/doctest.h>

using namespace dither;

namespace {

/// Three honest clients and two liars, of two parameters.
struct Scene {
    std::vector<std::vector<float>> honest{{1, 10}, {2, 10}, {6, 10}};
    std::vector<std::vector<float>> lies{{3, -4}, {5, 6}};

    std::vector<std::vector<float>> attacked(const std::string& kind, double scale, std::uint32_t round_number = 1) {
        AttackedRound round{
            .honest = {honest.begin(), honest.end()},
            .lies = {{4, lies[0]}, {9, lies[1]}},
            .scale = scale,
            .key = {.seed = 1, .purpose = Purpose::attack, .round = round_number},
        };
        attack_of({.kind = kind})(round);
        return lies;
    }
};

using Lies = std::vector<std::vector<float>>;

}  // namespace

TEST_SUITE("aggregator/detail/attack") {
    TEST_CASE("attacks replace updates by what their papers say") {
        CHECK(Scene().attacked("sign_flip", 2) == Lies{{-6, 8}, {-10, -12}});
        CHECK(Scene().attacked("ipm", 0.5) == Lies{{-1.5, -5}, {-1.5, -5}});
        CHECK(Scene().attacked("mimic", 1) == Lies{{1, 10}, {1, 10}});
        const float deviation = std::sqrt(14.0F / 3);  // of 1, 2 and 6: the mean of 4, 1 and 9
        for (const auto& lie : Scene().attacked("alie", 1.5)) {
            CHECK(lie[0] == doctest::Approx(3 - 1.5F * deviation));
            CHECK(lie[1] == 10);
        }
    }

    TEST_CASE("Gaussian noise has its deviation, and is another one for each client and round") {
        Scene scene;
        for (auto& lie : scene.lies)
            lie.resize(20000);
        const Lies lies = scene.attacked("gaussian", 3);
        double squares = 0, sum = 0;
        for (const float value : lies[0]) {
            squares += static_cast<double>(value) * value;
            sum += value;
        }
        CHECK(std::sqrt(squares / 20000) == doctest::Approx(3).epsilon(0.05));
        CHECK(std::abs(sum / 20000) < 0.15);
        CHECK(lies[0] != lies[1]);
        CHECK(lies != Scene(scene).attacked("gaussian", 3, 2));
    }

    TEST_CASE("where nobody is honest, nothing can be built upon it") {
        for (const std::string kind : {"alie", "ipm", "mimic"}) {
            CAPTURE(kind);
            Scene scene;
            scene.honest.clear();
            CHECK(scene.attacked(kind, 1) == Scene().lies);
        }
    }

    TEST_CASE("nothing is replaced without an attack, or where labels are flipped") {
        const auto replaces = [](const char* kind) { return attack_of({.kind = kind}) != nullptr; };
        CHECK_FALSE(replaces("none"));
        CHECK_FALSE(replaces("label_flip"));
        CHECK_THROWS_AS(attack_of({.kind = "bribe"}), InputError);
    }
}
