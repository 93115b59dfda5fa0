#include "core/quantize/learned.hpp"

#include "core/error.hpp"
#include "core/vector_math.hpp"

#include <doctest/doctest.h>
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

using namespace dither;

namespace {

const StreamKey kKey{.seed = 1, .purpose = Purpose::test};

QuantLayout flat(std::size_t count) {
    return {.rows = count, .columns = 1};
}

std::vector<float> normal(std::size_t count, std::uint32_t seed = 1) {
    std::vector<float> values(count);
    Stream({.seed = seed, .purpose = Purpose::test}).fill_normal(values);
    return values;
}

std::vector<float> rectified(std::vector<float> x) {
    for (float& value : x)
        value = std::max(value, 0.0F);
    return x;
}

/// A range with parameters of its own.
struct Learner {
    LearnedRange range;
    Quantizer quantizer;
    std::vector<float> values;
    std::vector<float> gradients;

    explicit Learner(const QuantizerOptions& options, std::size_t channels = 1)
        : range(options, channels),
          quantizer(options),
          values(range.parameters()),
          gradients(range.parameters(), -1.0F) {
        range.attach(values, gradients);
    }

    std::vector<float> quantized(const std::vector<float>& x, const QuantLayout& layout, int bits,
                                 bool training = true) {
        quantizer.set_grid(range.grid(x, layout, bits, training));
        std::vector<float> out(x.size());
        quantizer.apply(x, out, layout, bits, kKey, training);
        return out;
    }
};

struct Case {
    Observer observer;
    Symmetry symmetry;
    bool rectify;

    QuantizerOptions options(Granularity granularity = Granularity::per_tensor) const {
        return {.symmetry = symmetry, .granularity = granularity, .observer = observer, .format16 = Format16::int16};
    }
    std::vector<float> values(std::size_t count, std::uint32_t seed = 1) const {
        const std::vector<float> x = normal(count, seed);
        return rectify ? rectified(x) : x;
    }
};
constexpr std::array kCases{
    Case{Observer::lsq, Symmetry::symmetric, false},  Case{Observer::lsq, Symmetry::affine, false},
    Case{Observer::lsq, Symmetry::affine, true},      Case{Observer::lsq_plus, Symmetry::affine, false},
    Case{Observer::lsq_plus, Symmetry::affine, true}, Case{Observer::pact, Symmetry::affine, true},
};

/// Codes counted from the zero point.
std::array<int, 2> reach(const QuantizerOptions& options, int bits, const ScaleZero& grid) {
    const int limit = (1 << (bits - 1)) - 1;
    if (options.symmetry == Symmetry::symmetric)
        return {-limit, limit};
    return {-grid.zero_point, (1 << bits) - 1 - grid.zero_point};
}

/// The largest code as t is measured in, and LSQ's gradient scale for n values.
double largest_code(const Case& c, int bits) {
    const bool half = c.observer == Observer::lsq && !c.rectify;
    return half ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
}

}  // namespace

TEST_SUITE("core/quantize/learned") {
    TEST_CASE("an LSQ step starts at twice the mean magnitude over the root of the largest code") {
        const std::vector<float> x{-1, 3, -2, 2, 0, 4};  // mean magnitude 2
        Learner learner({.observer = Observer::lsq});
        learner.quantized(x, flat(6), 4);
        CHECK(learner.values[0] == 2);
        CHECK(learner.quantizer.scales()[0].scale == doctest::Approx(4 / std::sqrt(7.0)));
        CHECK(learner.quantizer.scales()[0].zero_point == 0);
        learner.quantized(x, flat(6), 8);
        CHECK(learner.quantizer.scales()[0].scale == doctest::Approx(4 / std::sqrt(127.0)));
    }

    TEST_CASE("affine LSQ uses unsigned codes without negative values and shifted signed ones with them") {
        Learner learner({.symmetry = Symmetry::affine, .observer = Observer::lsq});
        learner.quantized({0, 1, 2, 5}, flat(4), 4);
        CHECK(learner.quantizer.scales()[0].zero_point == 0);
        CHECK(learner.quantizer.scales()[0].scale == doctest::Approx(4 / std::sqrt(15.0)));
        const std::vector<float> out = learner.quantized({-100, 1, 2, 100}, flat(4), 4);
        const ScaleZero grid = learner.quantizer.scales()[0];
        CHECK(grid.zero_point == 8);
        CHECK(grid.scale == doctest::Approx(4 / std::sqrt(7.0)));
        CHECK(out[0] == -8 * grid.scale);
        CHECK(out[3] == 7 * grid.scale);
        CHECK(learner.quantizer.clipped() == 2);
    }

    TEST_CASE("LSQ+ starts with as many codes below zero as the range is negative") {
        Learner learner({.symmetry = Symmetry::affine, .observer = Observer::lsq_plus});
        REQUIRE(learner.values.size() == 2);
        learner.quantized({-1, 0, 3, 1}, flat(4), 4);
        CHECK(learner.values[1] == 0.25F);
        CHECK(learner.quantizer.scales()[0].zero_point == 4);
        learner.quantized({-1, 0, 3, 1}, flat(4), 8);
        CHECK(learner.quantizer.scales()[0].zero_point == 64);
    }

    TEST_CASE("PACT starts at the largest value or at eight times the mean, and clips what is negative to zero") {
        Learner learner({.symmetry = Symmetry::affine, .observer = Observer::pact});
        const std::vector<float> out = learner.quantized({0, 1, 2, 4, -3}, flat(5), 4);
        CHECK(learner.values[0] == 2);
        CHECK(learner.quantizer.scales()[0].scale == doctest::Approx(4.0 / 15));
        CHECK(out[4] == 0);
        CHECK(learner.quantizer.clipped() == 1);
        std::vector<float> rare(64);
        rare[0] = 16;
        Learner other({.symmetry = Symmetry::affine, .observer = Observer::pact});
        other.quantized(rare, flat(64), 4);
        CHECK(other.values[0] == 1);  // 8 * 16 / 64
    }

    TEST_CASE("channels have ranges of their own") {
        std::vector<float> x = normal(2000);
        for (std::size_t i = 0; i < x.size(); i += 2)
            x[i] *= 8;
        for (const Case& c : kCases) {
            Learner learner(c.options(Granularity::per_channel), 2);
            std::vector<float> values = c.rectify ? rectified(x) : x;
            learner.quantized(values, {.rows = 1000, .columns = 2}, 4);
            CHECK(learner.values[0] - learner.values[1] == doctest::Approx(3).epsilon(0.1));
            CHECK(learner.quantizer.scales().size() == 2);
        }
    }

    TEST_CASE("a range is set by training alone, and what sets it does not change it again") {
        for (const Case& c : kCases) {
            Learner learner(c.options());
            const std::vector<float> x = c.values(1000);
            const std::vector<float> tried = learner.quantized(x, flat(1000), 4, false);
            CHECK(learner.values[0] == 0);
            CHECK(learner.quantized(x, flat(1000), 4, true) == tried);
            const std::vector<float> set = learner.values;
            CHECK(set[0] != 0);
            std::vector<float> other = c.values(1000, 2);
            for (float& value : other)
                value *= 3;
            learner.quantized(other, flat(1000), 4, true);
            CHECK(learner.values == set);
        }
    }

    TEST_CASE("zeros set nothing and get no gradient") {
        const std::vector<float> x(100);
        for (const Case& c : kCases) {
            Learner learner(c.options());
            CHECK(learner.quantized(x, flat(100), 4) == x);
            CHECK(learner.values == std::vector<float>(learner.values.size()));
            learner.range.backward(x, normal(100), flat(100));
            CHECK(learner.gradients == std::vector<float>(learner.values.size()));
        }
    }

    TEST_CASE("a learned range clips exactly at its codes, and what it clips gets no gradient") {
        for (const Case& c : kCases)
            for (const Granularity granularity : {Granularity::per_tensor, Granularity::per_channel})
                for (const int bits : {2, 3, 5, 16}) {
                    const QuantLayout layout{.rows = 700, .columns = 3};
                    const std::vector<float> x = c.values(2100);
                    Learner learner(c.options(granularity), 3);
                    const std::vector<float> out = learner.quantized(x, layout, bits);
                    std::vector<float> gradient(x.size(), 1.0F);
                    learner.quantizer.mask_gradient(x, gradient, layout);
                    std::size_t clipped = 0;
                    std::size_t wrong = 0;
                    for (std::size_t i = 0; i < x.size(); ++i) {
                        const auto grids = learner.quantizer.scales();
                        const ScaleZero grid = grids[i % grids.size()];
                        const auto [low, high] = reach(c.options(), bits, grid);
                        const bool outside =
                            x[i] < grid.scale * static_cast<float>(low) || x[i] > grid.scale * static_cast<float>(high);
                        const float code = std::clamp(std::nearbyint(x[i] / grid.scale), static_cast<float>(low),
                                                      static_cast<float>(high));
                        clipped += outside;
                        wrong += outside != (gradient[i] == 0) || out[i] != grid.scale * code;
                    }
                    CHECK(wrong == 0);
                    CHECK(learner.quantizer.clipped() == clipped);
                }
    }

    TEST_CASE("codes of learned ranges stand for the same values") {
        for (const Case& c : kCases)
            for (const bool per_channel : {false, true}) {
                if (per_channel && c.symmetry == Symmetry::affine)
                    continue;
                const QuantLayout layout{.rows = 200, .columns = 5};
                const std::vector<float> x = c.values(1000);
                Learner learner(c.options(per_channel ? Granularity::per_channel : Granularity::per_tensor), 5);
                const std::vector<float> out = learner.quantized(x, layout, 6);
                std::vector<std::uint8_t> codes(1000);
                for (const bool signed_codes : {false, true}) {
                    if (signed_codes ? c.symmetry == Symmetry::affine : per_channel)
                        continue;
                    learner.quantizer.encode(x, codes, layout, 6, kKey, signed_codes);
                    std::size_t wrong = 0;
                    for (std::size_t i = 0; i < x.size(); ++i) {
                        const auto grids = learner.quantizer.scales();
                        const int code =
                            signed_codes ? static_cast<std::int8_t>(codes[i]) : codes[i] - learner.quantizer.offset(0);
                        wrong += out[i] != grids[i % grids.size()].scale * static_cast<float>(code);
                    }
                    CHECK(wrong == 0);
                }
            }
    }

    // The straight-through estimator takes the rounding error of x / s as it is now, so that s moves the values
    //     x^(s) = x + s e  inside, e = round(x / s) - x / s held,      s low or s high  outside
    // and a linear loss sum(dy x^) is smooth in s: its central difference is dL/ds. Under a clip alone (PACT) e counts
    // as no rounding at all: x^ = x inside.
    TEST_CASE("gradients are the differences of the loss with the rounding errors held") {
        for (const Case& c : kCases)
            for (const Granularity granularity : {Granularity::per_tensor, Granularity::per_channel})
                for (const int bits : {2, 3, 4, 8}) {
                    constexpr std::size_t kChannels = 3;
                    constexpr std::size_t kRows = 900;
                    const QuantLayout layout{.rows = kRows, .columns = kChannels};
                    const std::vector<float> x = c.values(kRows * kChannels);
                    std::vector<float> dy = normal(x.size(), 9);
                    for (float& value : dy)
                        value *= 0x1p-16F;  // so that no gradient is beyond its bound
                    Learner learner(c.options(granularity), kChannels);
                    learner.quantized(x, layout, bits);
                    for (std::size_t r = 0; r < learner.quantizer.scales().size(); ++r)
                        learner.values[r] -= 1.5F;  // so that many values are clipped
                    learner.quantized(x, layout, bits);
                    learner.range.backward(x, dy, layout);

                    const auto grids = learner.quantizer.scales();
                    const double n = static_cast<double>(x.size()) / static_cast<double>(grids.size());
                    const double gamma = 1 / std::sqrt(n * largest_code(c, bits));
                    for (std::size_t r = 0; r < grids.size(); ++r) {
                        const auto [low, high] = reach(c.options(), bits, grids[r]);
                        const auto loss = [&, low = low, high = high](double scale, double offset) {
                            double sum = 0;
                            for (std::size_t i = 0; i < x.size(); ++i) {
                                if (i % grids.size() != r)
                                    continue;
                                const double held = grids[r].scale;
                                const double error =
                                    c.observer == Observer::pact ? 0 : std::nearbyint(x[i] / held) - x[i] / held;
                                const double value = x[i] < held * low    ? scale * low + offset
                                                     : x[i] > held * high ? scale * high + offset
                                                                          : x[i] + scale * error;
                                sum += dy[i] * value;
                            }
                            return sum;
                        };
                        const double scale = grids[r].scale;
                        const double h = 1e-3 * scale;
                        const double slope = (loss(scale + h, 0) - loss(scale - h, 0)) / (2 * h);
                        CHECK(learner.gradients[r] ==
                              doctest::Approx(gamma * slope / (scale * std::numbers::ln2)).epsilon(2e-3));
                        if (c.observer != Observer::lsq_plus)
                            continue;
                        // offset = -(2^b - 1) s share
                        const double offset_slope = (loss(scale, h) - loss(scale, -h)) / (2 * h);
                        const double expected = -gamma * offset_slope / (((1 << bits) - 1) * scale);
                        const float found = learner.gradients[grids.size() + r];
                        const bool at_bound = learner.values[grids.size() + r] == 0 && expected > 0;
                        CHECK(found == doctest::Approx(at_bound ? 0 : expected).epsilon(2e-3));
                    }
                }
    }

    // Over many values of a smooth distribution the true loss is smooth in s as well: the mean of (x^ - x)^2 is
    // continuous, for a value jumps between two codes where it is equally far from both. Its derivative is sum 2 (x^ -
    // x) q; LSQ leaves out the part x / s of the code q = x / s + e, for errors have no mean over a cell. So the two
    // agree where cells are small against the distribution.
    TEST_CASE("the gradient of LSQ is the difference of the squared error over a smooth distribution") {
        const std::vector<float> x = normal(200'000);
        for (const int bits : {4, 5, 6}) {
            Learner learner({.observer = Observer::lsq});
            const auto error_at = [&](float t) {
                learner.values[0] = t;
                return quant_error(x, learner.quantized(x, flat(x.size()), bits)).error;
            };
            learner.quantized(x, flat(x.size()), bits);
            const float start = learner.values[0];
            for (const float t : {start - 0.5F, start, start - 1.5F}) {
                const float h = 0.02F;
                const double slope = (error_at(t + h) - error_at(t - h)) / (2 * static_cast<double>(h));
                learner.values[0] = t;
                const std::vector<float> out = learner.quantized(x, flat(x.size()), bits);
                std::vector<float> dy(x.size());
                constexpr float kSmall = 0x1p-16F;  // so that no gradient is beyond its bound
                for (std::size_t i = 0; i < x.size(); ++i)
                    dy[i] = kSmall * 2 * (out[i] - x[i]);
                learner.range.backward(x, dy, flat(x.size()));
                // G = gamma dL/ds / (s ln 2), and dL/dt = dL/ds s ln 2
                const double s = learner.quantizer.scales()[0].scale;
                const double gamma = 1 / std::sqrt(200'000.0 * ((1 << (bits - 1)) - 1));
                const double scaled =
                    learner.gradients[0] / kSmall / gamma * (s * std::numbers::ln2) * (s * std::numbers::ln2);
                CHECK(scaled == doctest::Approx(slope).epsilon(0.05));
            }
        }
    }

    TEST_CASE("a gradient that would throw the range far away says the way and no more") {
        const std::vector<float> x = normal(1000);
        Learner learner({.observer = Observer::lsq});
        learner.quantized(x, flat(x.size()), 4);
        for (const float way : {-1000.0F, 1000.0F}) {
            std::vector<float> dy(x.size());
            std::ranges::transform(x, dy.begin(), [way](float value) { return way * value; });
            learner.values[0] -= 3;  // most values are clipped
            learner.quantized(x, flat(x.size()), 4);
            learner.range.backward(x, dy, flat(x.size()));
            CHECK(learner.gradients[0] == (way < 0 ? -1.0F : 1.0F));
            learner.values[0] += 3;
        }
    }

    TEST_CASE("descent finds a step whose squared error is within a few percent of the best one") {
        const std::vector<float> all = normal(20'000, 3);
        for (const Case& c : kCases) {
            if (c.observer == Observer::pact)
                continue;
            for (const int bits : {2, 3, 4}) {
                const std::vector<float> x = c.rectify ? rectified(all) : all;
                const QuantLayout layout = flat(x.size());
                Learner learner(c.options());
                std::vector<float> dy(x.size());
                double error = 0;
                for (int step = 0; step < 400; ++step) {
                    const std::vector<float> out = learner.quantized(x, layout, bits);
                    error = quant_error(x, out).error;
                    for (std::size_t i = 0; i < x.size(); ++i)
                        dy[i] = 2 * (out[i] - x[i]) / static_cast<float>(x.size());
                    learner.range.backward(x, dy, layout);
                    for (std::size_t p = 0; p < learner.values.size(); ++p)
                        learner.values[p] -= 60 * learner.gradients[p];
                }
                double best = error;
                const std::int32_t zero_point = learner.quantizer.scales()[0].zero_point;
                for (float scale = 0.05F; scale < 3; scale *= 1.03F) {
                    const std::array grid{ScaleZero{scale, zero_point}};
                    learner.quantizer.set_grid(grid);
                    std::vector<float> out(x.size());
                    learner.quantizer.apply(x, out, layout, bits, kKey);
                    best = std::min(best, quant_error(x, out).error);
                }
                CHECK(error <= 1.03 * best);
            }
        }
    }

    TEST_CASE("PACT's clip grows where clipped values should be larger and shrinks where they should be smaller") {
        const std::vector<float> x = rectified(normal(1000));
        for (const float sign : {-1.0F, 1.0F}) {
            Learner learner({.symmetry = Symmetry::affine, .observer = Observer::pact});
            learner.quantized(x, flat(1000), 4);
            learner.values[0] = -1;  // alpha = 1/2
            learner.quantized(x, flat(1000), 4);
            learner.range.backward(x, std::vector<float>(1000, sign), flat(1000));
            CHECK(learner.gradients[0] * sign > 0);
        }
    }

    TEST_CASE("steps are powers of two where asked") {
        for (const Case& c : kCases) {
            QuantizerOptions options = c.options();
            options.power_of_two = true;
            Learner exact(c.options());
            Learner learner(options);
            const std::vector<float> x = c.values(1000);
            exact.quantized(x, flat(1000), 5);
            learner.quantized(x, flat(1000), 5);
            const float scale = learner.quantizer.scales()[0].scale;
            CHECK(scale == std::ldexp(1.0F, std::ilogb(scale)));
            CHECK(scale >= exact.quantizer.scales()[0].scale);
            CHECK(scale < 2 * exact.quantizer.scales()[0].scale);
        }
    }

    TEST_CASE("what cannot be learned is refused by name") {
        const auto message = [](const QuantizerOptions& options) {
            try {
                LearnedRange range(options, 4);
            } catch (const InputError& error) {
                return std::string(error.what());
            }
            return std::string();
        };
        CHECK(message({.granularity = Granularity::per_sample, .observer = Observer::lsq}).find("per_sample") !=
              std::string::npos);
        CHECK(message({.granularity = Granularity::per_group, .observer = Observer::lsq}).find("per_group") !=
              std::string::npos);
        CHECK(message({.observer = Observer::lsq_plus}).find("lsq_plus") != std::string::npos);
        CHECK(message({.observer = Observer::pact}).find("affine") != std::string::npos);
        CHECK(message({.observer = Observer::lsq}).empty());
        CHECK_THROWS_AS(LearnedRange(QuantizerOptions{}, 1), PreconditionError);
    }

    TEST_CASE("a quantizer with a learned observer needs a grid, at integer widths") {
        Quantizer quantizer({.observer = Observer::lsq});
        std::vector<float> x = normal(10);
        CHECK_THROWS_AS(quantizer.apply(x, x, flat(10), 8, kKey), PreconditionError);
        quantizer.apply(x, x, flat(10), 16, kKey);  // bf16
        quantizer.apply(x, x, flat(10), 32, kKey);
        quantizer.set_grid(std::array{ScaleZero{0.5F, 0}});
        quantizer.apply(x, x, flat(10), 8, kKey);
        quantizer.reset();
        CHECK_THROWS_AS(quantizer.apply(x, x, flat(10), 8, kKey), PreconditionError);
    }

    TEST_CASE("values and ranges that are not finite stop the training") {
        for (const Case& c : kCases) {
            std::vector<float> x = c.values(100);
            Learner learner(c.options());
            learner.quantized(x, flat(100), 4);
            const std::vector<float> set = learner.values;
            x[50] = std::numeric_limits<float>::quiet_NaN();
            CHECK_THROWS_AS(learner.quantized(x, flat(100), 4), TrainingError);
            Learner fresh(c.options());
            CHECK_THROWS_AS(fresh.quantized(x, flat(100), 4), TrainingError);
            CHECK(fresh.values == std::vector<float>(set.size()));
            x = c.values(100);
            for (const float bad : {std::numeric_limits<float>::quiet_NaN(), 200.0F, -200.0F})
                for (std::size_t p = 0; p < set.size(); ++p) {
                    learner.values = set;
                    learner.values[p] = bad;
                    CHECK_THROWS_AS(learner.quantized(x, flat(100), 4), TrainingError);
                }
        }
    }
}
