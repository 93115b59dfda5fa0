#include "core/config.hpp"
#include "core/error.hpp"
#include "core/noise/noise.hpp"

#include <doctest/doctest.h>

using namespace dither;

namespace {

NoiseOptions options_of(const char* ramp) {
    return {.ramp = ramp, .warmup_rounds = 4, .ramp_rounds = 8};
}

}  // namespace

TEST_SUITE("core/noise/ramp") {
    TEST_CASE("there is no noise during the warm-up, whatever the ramp") {
        for (const Choice& ramp : ramp_choices()) {
            CAPTURE(ramp.name);
            const NoiseOptions options = options_of(std::string(ramp.name).c_str());
            CHECK(noise_strength(options, 0) == 0);
            CHECK(noise_strength(options, 3.999) == 0);
        }
    }

    TEST_CASE("every ramp ends at full strength and stays there") {
        for (const Choice& ramp : ramp_choices()) {
            CAPTURE(ramp.name);
            const NoiseOptions options = options_of(std::string(ramp.name).c_str());
            CHECK(noise_strength(options, 12) == 1);
            CHECK(noise_strength(options, 1e6) == 1);
        }
    }

    TEST_CASE("ramps have their values at the corners") {
        CHECK(noise_strength(options_of("none"), 4) == 1);
        CHECK(noise_strength(options_of("step"), 4) == 0);
        CHECK(noise_strength(options_of("step"), 11.999) == 0);
        CHECK(noise_strength(options_of("linear"), 4) == 0);
        CHECK(noise_strength(options_of("linear"), 6) == 0.25F);
        CHECK(noise_strength(options_of("linear"), 8) == 0.5F);
        CHECK(noise_strength(options_of("cosine"), 4) == 0);
        CHECK(noise_strength(options_of("cosine"), 6) == doctest::Approx(0.1464466));
        CHECK(noise_strength(options_of("cosine"), 8) == 0.5F);
    }

    TEST_CASE("ramps never fall") {
        for (const Choice& ramp : ramp_choices()) {
            CAPTURE(ramp.name);
            float before = 0;
            for (double round = 0; round < 14; round += 1.0 / 64) {
                const float now = noise_strength(options_of(std::string(ramp.name).c_str()), round);
                REQUIRE(now >= before);
                before = now;
            }
        }
    }

    TEST_CASE("without warm-up and ramp all noise is there from the first step") {
        CHECK(noise_strength({}, 0) == 1);
    }

    TEST_CASE("an unknown ramp is named") {
        CHECK_THROWS_WITH_AS(noise_strength(options_of("steep"), 1), doctest::Contains("steep"), InputError);
    }
}
