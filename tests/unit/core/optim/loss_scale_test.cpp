#include "core/optim/loss_scale.hpp"

#include "core/config.hpp"
#include "core/error.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <vector>

using namespace dither;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> after_both(LossScaler& scaler, std::vector<float> gradient) {
    scaler.multiply(gradient);
    CHECK(scaler.divide(gradient));
    return gradient;
}

bool takes(LossScaler& scaler, float value) {
    std::vector<float> gradient{1, value};
    return scaler.divide(gradient);
}

}  // namespace

TEST_SUITE("core/optim/loss_scale") {
    TEST_CASE("what was multiplied is divided again") {
        const std::vector<float> gradient{0.1F, -3e-20F, 0, 7};
        for (const char* kind : {"none", "static", "dynamic"}) {
            CAPTURE(kind);
            LossScaler scaler({.kind = kind, .value = 1024});
            CHECK(scaler.scale() == (std::string(kind) == "none" ? 1 : 1024));
            CHECK(after_both(scaler, gradient) == gradient);
        }
    }

    TEST_CASE("only dynamic scaling skips a step that is not finite, and halves the scale") {
        for (const char* kind : {"none", "static"}) {
            LossScaler scaler({.kind = kind});
            const float scale = scaler.scale();
            CHECK(takes(scaler, kInfinity));
            CHECK(scaler.scale() == scale);
            CHECK(scaler.skipped() == 0);
        }
        LossScaler scaler({.kind = "dynamic", .value = 64});
        CHECK_FALSE(takes(scaler, kInfinity));
        CHECK_FALSE(takes(scaler, std::numeric_limits<float>::quiet_NaN()));
        CHECK(scaler.scale() == 16);
        std::vector<float> finite{32};
        CHECK_FALSE(scaler.divide(finite, true));  // somebody else saw an overflow
        CHECK(scaler.scale() == 8);
        CHECK(scaler.skipped() == 3);
        CHECK(scaler.divide(finite));
        CHECK(finite[0] == 4);
    }

    TEST_CASE("two thousand good steps in a row double the scale, and no fewer") {
        LossScaler scaler({.kind = "dynamic", .value = 8});
        for (std::uint32_t step = 0; step < LossScaler::kPatience - 1; ++step)
            takes(scaler, 1);
        CHECK_FALSE(takes(scaler, kInfinity));
        CHECK(scaler.scale() == 4);
        for (std::uint32_t step = 0; step < LossScaler::kPatience - 1; ++step)
            takes(scaler, 1);
        CHECK(scaler.scale() == 4);
        takes(scaler, 1);
        CHECK(scaler.scale() == 8);
    }

    TEST_CASE("the scale stays finite and positive") {
        LossScaler large({.kind = "dynamic", .value = 1e38});
        for (std::uint32_t step = 0; step < 4 * LossScaler::kPatience; ++step)
            takes(large, 1);
        CHECK(large.scale() == std::numeric_limits<float>::max());
        LossScaler small({.kind = "dynamic", .value = 1e-37});
        for (int step = 0; step < 20; ++step)
            takes(small, kInfinity);
        CHECK(small.scale() > 0);
    }

    TEST_CASE("a good step in between keeps hope, too many skipped ones in a row end it") {
        LossScaler scaler({.kind = "dynamic"});
        for (std::uint32_t step = 0; step < LossScaler::kMostSkips; ++step)
            takes(scaler, kInfinity);
        CHECK_FALSE(scaler.hopeless());
        takes(scaler, 1);
        for (std::uint32_t step = 0; step < LossScaler::kMostSkips; ++step)
            takes(scaler, kInfinity);
        CHECK_FALSE(scaler.hopeless());
        takes(scaler, kInfinity);
        CHECK(scaler.hopeless());
    }

    TEST_CASE("a new client starts with the job's scale") {
        LossScaler scaler({.kind = "dynamic", .value = 64});
        takes(scaler, kInfinity);
        scaler.reset();
        CHECK(scaler.scale() == 64);
        CHECK(scaler.skipped() == 0);
    }

    TEST_CASE("an unknown kind is named") {
        CHECK_THROWS_WITH_AS(LossScaler({.kind = "automatic"}), doctest::Contains("automatic"), InputError);
    }
}
