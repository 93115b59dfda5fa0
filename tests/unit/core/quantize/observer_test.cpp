#include "core/error.hpp"
#include "core/quantize/quantizer.hpp"

#include <doctest/doctest.h>
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

using namespace dither;

namespace {

const StreamKey kKey{.seed = 1, .purpose = Purpose::test};

QuantLayout flat(std::size_t count) {
    return {.rows = 1, .columns = count};
}

std::vector<float> normal(std::size_t count, std::uint32_t seed = 1) {
    std::vector<float> values(count);
    Stream({.seed = seed, .purpose = Purpose::test}).fill_normal(values);
    return values;
}

/// A Laplacian's tails: the difference of two exponential variables has them.
std::vector<float> heavy(std::size_t count) {
    std::vector<float> a = normal(count, 2);
    const std::vector<float> b = normal(count, 3);
    const std::vector<float> c = normal(count, 4);
    for (std::size_t i = 0; i < count; ++i)
        a[i] *= 0.1F + b[i] * b[i] + c[i] * c[i];
    return a;
}

std::vector<float> quantized(Quantizer& quantizer, const std::vector<float>& x, const QuantLayout& layout, int bits,
                             bool update = true) {
    std::vector<float> out(x.size());
    quantizer.apply(x, out, layout, bits, kKey, update);
    return out;
}

double squared_error(const QuantizerOptions& options, const std::vector<float>& x, const QuantLayout& layout,
                     int bits) {
    Quantizer quantizer(options);
    return quant_error(x, quantized(quantizer, x, layout, bits)).error;
}

bool is_power_of_two(float scale) {
    return scale == std::ldexp(1.0F, std::ilogb(scale));
}

/// A scheme with what it says about a layout of 64 rows and 96 columns.
struct Scheme {
    Granularity granularity;
    Symmetry symmetry;
    bool sums_rows = false;

    QuantLayout layout() const { return {.rows = 64, .columns = 96, .samples = 4, .sums_rows = sums_rows}; }
    QuantizerOptions options(Observer observer = Observer::minmax, Rounding rounding = Rounding::nearest) const {
        return {.symmetry = symmetry,
                .granularity = granularity,
                .rounding = rounding,
                .observer = observer,
                .format16 = Format16::int16};
    }
};

std::vector<Scheme> schemes() {
    std::vector<Scheme> all;
    for (const Symmetry symmetry : {Symmetry::symmetric, Symmetry::affine}) {
        for (const Granularity granularity :
             {Granularity::per_tensor, Granularity::per_channel, Granularity::per_sample, Granularity::per_group})
            all.push_back({granularity, symmetry, false});
        all.push_back({Granularity::per_group, symmetry, true});
    }
    return all;
}

constexpr std::array kObservers{Observer::minmax, Observer::moving_average_minmax, Observer::percentile, Observer::mse};

}  // namespace

TEST_SUITE("core/quantize/observer") {
    TEST_CASE("zero is a value of the grid in every scheme, with every observer") {
        for (const Scheme& scheme : schemes())
            for (const Observer observer : kObservers)
                for (const Rounding rounding : {Rounding::nearest, Rounding::stochastic})
                    for (const bool power_of_two : {false, true})
                        for (const int bits : {2, 3, 8}) {
                            std::vector<float> x = normal(64 * 96);
                            for (std::size_t i = 0; i < x.size(); ++i)
                                x[i] = i % 3 == 0 ? 0 : x[i] + 0.7F;
                            QuantizerOptions options = scheme.options(observer, rounding);
                            options.power_of_two = power_of_two;
                            Quantizer quantizer(options);
                            const std::vector<float> out = quantized(quantizer, x, scheme.layout(), bits);
                            std::size_t wrong = 0;
                            for (std::size_t i = 0; i < x.size(); i += 3)
                                wrong += out[i] != 0;
                            CHECK(wrong == 0);
                        }
    }

    TEST_CASE("stochastic rounding is unbiased in every scheme") {
        // The error of a value that nothing clips has a standard deviation of at most half a scale. The ends of the
        // ranges are left out: there the rounding of a zero point may clip.
        for (const Scheme& scheme : schemes())
            for (const int bits : {3, 4, 8}) {
                const std::vector<float> x = normal(64 * 96, 5);
                double sum = 0;
                std::size_t count = 0;
                for (std::uint32_t draw = 0; draw < 20; ++draw) {
                    Quantizer quantizer(scheme.options(Observer::minmax, Rounding::stochastic));
                    std::vector<float> out(x.size());
                    quantizer.apply(x, out, scheme.layout(), bits, {.seed = draw, .purpose = Purpose::test});
                    for (std::size_t i = 0; i < x.size(); ++i)
                        if (std::abs(x[i]) < 0.7F) {
                            sum += out[i] - x[i];
                            ++count;
                        }
                }
                Quantizer quantizer(scheme.options());
                quantized(quantizer, x, scheme.layout(), bits);
                const float scale = std::ranges::max(quantizer.scales(), {}, &ScaleZero::scale).scale;
                CHECK(std::abs(sum / static_cast<double>(count)) <
                      4 * 0.5 * scale / std::sqrt(static_cast<double>(count)));
            }
    }

    TEST_CASE("channels may be in any order") {
        const std::vector<float> x = normal(64 * 96);
        std::vector<std::uint32_t> order(96);
        std::iota(order.begin(), order.end(), 0U);
        Stream(kKey).shuffle(order);
        std::vector<float> shuffled(x.size());
        for (std::size_t i = 0; i < x.size(); ++i)
            shuffled[i] = x[i / 96 * 96 + order[i % 96]];
        for (const Scheme& scheme : schemes())
            for (const Observer observer : kObservers) {
                if (scheme.granularity == Granularity::per_group && !scheme.sums_rows)
                    continue;  // channels share a scale there
                Quantizer quantizer(scheme.options(observer));
                const std::vector<float> out = quantized(quantizer, x, scheme.layout(), 4);
                Quantizer other(scheme.options(observer));
                const std::vector<float> found = quantized(other, shuffled, scheme.layout(), 4);
                std::size_t wrong = 0;
                for (std::size_t i = 0; i < x.size(); ++i)
                    wrong += found[i] != out[i / 96 * 96 + order[i % 96]];
                CHECK(wrong == 0);
            }
    }

    TEST_CASE("groups of a row that change places take their scales with them") {
        const std::vector<float> x = normal(64 * 96);
        std::vector<float> rotated(x.size());
        for (std::size_t i = 0; i < x.size(); ++i)
            rotated[i / 96 * 96 + (i + 32) % 96] = x[i];
        // i / 96 * 96 + (i + 32) % 96: 96 is a multiple of 32, and rows start at multiples of 96.
        Quantizer quantizer({.granularity = Granularity::per_group});
        const std::vector<float> out = quantized(quantizer, x, {.rows = 64, .columns = 96}, 4);
        const std::vector<float> found = quantized(quantizer, rotated, {.rows = 64, .columns = 96}, 4);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < x.size(); ++i)
            wrong += found[i / 96 * 96 + (i + 32) % 96] != out[i];
        CHECK(wrong == 0);
    }

    TEST_CASE("groups that do not divide what is summed over are refused with both numbers") {
        Quantizer quantizer({.granularity = Granularity::per_group, .group_size = 32});
        std::vector<float> x(40 * 96);
        const auto message = [&](const QuantLayout& layout) {
            try {
                quantizer.apply(x, x, layout, 8, kKey);
            } catch (const PreconditionError& error) {
                return std::string(error.what());
            }
            return std::string();
        };
        CHECK(message({.rows = 40, .columns = 96}).empty());
        const std::string rows = message({.rows = 40, .columns = 96, .sums_rows = true});
        CHECK(rows.find("32") != std::string::npos);
        CHECK(rows.find("40 rows") != std::string::npos);
        const std::string columns = message({.rows = 48, .columns = 80});
        CHECK(columns.find("80 columns") != std::string::npos);
        std::vector<std::uint8_t> codes(x.size());
        CHECK_THROWS_AS(quantizer.encode(x, codes, {.rows = 40, .columns = 96}, 8, kKey, true), PreconditionError);
    }

    TEST_CASE("groups that cross chunks and vectors match groups of their own") {
        for (const int group : {2, 5, 24, 32, 48, 100, 1500})
            for (const bool rows : {false, true})
                for (const Rounding rounding : {Rounding::nearest, Rounding::stochastic}) {
                    const std::size_t size = static_cast<std::size_t>(group);
                    const QuantLayout layout = rows ? QuantLayout{.rows = 2 * size, .columns = 7, .sums_rows = true}
                                                    : QuantLayout{.rows = 7, .columns = 2 * size};
                    const std::vector<float> x = normal(14 * size);
                    Quantizer quantizer(
                        {.granularity = Granularity::per_group, .rounding = rounding, .group_size = group});
                    const std::vector<float> out = quantized(quantizer, x, layout, 4);
                    // Narrow the ranges that hold for weights, and clip what is beyond.
                    std::size_t wrong = 0;
                    for (std::size_t i = 0; i < x.size(); ++i) {
                        const std::size_t g = rows ? i / (7 * size) * 7 + i % 7 : i / size;
                        const float scale = quantizer.scales()[g].scale;
                        const float code = out[i] / scale;
                        wrong += std::abs(code - std::nearbyint(code)) > 1e-4F ||
                                 std::abs(out[i] - x[i]) > (rounding == Rounding::nearest ? 0.501F : 1.001F) * scale;
                    }
                    CHECK(wrong == 0);
                }
    }

    TEST_CASE("groups of weights remember their ranges and clip; groups of activations never do") {
        const std::vector<float> x = normal(64 * 96);
        std::vector<float> wide = x;
        for (float& value : wide)
            value *= 2;
        const QuantizerOptions options{.granularity = Granularity::per_group,
                                       .observer = Observer::moving_average_minmax};
        Quantizer weights(options);
        const QuantLayout rows{.rows = 64, .columns = 96, .sums_rows = true};
        quantized(weights, x, rows, 8);
        const float scale = weights.scales()[5].scale;
        std::vector<float> gradient(x.size(), 1.0F);
        const std::vector<float> out = quantized(weights, wide, rows, 8);
        CHECK(weights.scales()[5].scale == doctest::Approx(1.1 * scale));
        CHECK(weights.clipped() > 0);
        weights.mask_gradient(wide, gradient, rows);
        std::vector<std::uint8_t> marks((x.size() + 7) / 8);
        weights.mark_clipped(wide, marks);
        std::size_t zeros = 0;
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            const float bound = 127 * weights.scales()[i / (32 * 96) * 96 + i % 96].scale;
            const bool clipped = std::abs(wide[i]) > bound * 1.000001F;
            zeros += gradient[i] == 0;
            wrong += clipped != (gradient[i] == 0);
            wrong += (gradient[i] == 0) != ((marks[i / 8] >> (i % 8) & 1) != 0);
        }
        CHECK(wrong == 0);
        CHECK(zeros == weights.clipped());

        Quantizer activations(options);
        const QuantLayout columns{.rows = 64, .columns = 96};
        quantized(activations, x, columns, 8);
        quantized(activations, wide, columns, 8);
        CHECK(activations.clipped() == 0);
        const std::vector<float> half(x.begin(), x.begin() + 32 * 96);
        quantized(activations, half, {.rows = 32, .columns = 96}, 8, false);
        CHECK(activations.scales().size() == 96);
    }

    TEST_CASE("scales are powers of two where asked, less than twice as large, and clip nothing more") {
        for (const Scheme& scheme : schemes())
            for (const Observer observer : kObservers)
                for (const int bits : {2, 4, 8, 16}) {
                    const std::vector<float> x = heavy(64 * 96);
                    Quantizer exact(scheme.options(observer));
                    quantized(exact, x, scheme.layout(), bits);
                    QuantizerOptions options = scheme.options(observer);
                    options.power_of_two = true;
                    Quantizer quantizer(options);
                    quantized(quantizer, x, scheme.layout(), bits);
                    REQUIRE(quantizer.scales().size() == exact.scales().size());
                    for (std::size_t g = 0; g < quantizer.scales().size(); ++g) {
                        const float scale = quantizer.scales()[g].scale;
                        CHECK(is_power_of_two(scale));
                        if (observer == Observer::mse)
                            continue;
                        CHECK(scale >= exact.scales()[g].scale);
                        CHECK(scale < 2 * exact.scales()[g].scale);
                    }
                    if (observer != Observer::mse)
                        CHECK(quantizer.clipped() <= exact.clipped());
                }
    }

    TEST_CASE("a percentile is the value of its rank, on either side") {
        std::vector<float> x(1000);
        for (std::size_t i = 0; i < x.size(); ++i)
            x[i] = static_cast<float>(i * 7 % 1000) - 499.5F;  // -499.5 .. 499.5, each once
        for (const double percentile : {60.0, 90.0, 99.0, 99.9, 100.0}) {
            Quantizer quantizer(
                {.symmetry = Symmetry::affine, .observer = Observer::percentile, .percentile = percentile});
            quantized(quantizer, x, flat(1000), 8);
            const double bound = percentile * 10 - 500.5;  // the value of rank percentile * 10
            CHECK(quantizer.scales()[0].scale == doctest::Approx(2 * bound / 255));
        }
    }

    TEST_CASE("a percentile ignores an outlier, and the outlier gets no gradient") {
        for (const Granularity granularity : {Granularity::per_tensor, Granularity::per_channel}) {
            std::vector<float> x = normal(5000 * 2);
            x[4242] = 1000;
            const QuantLayout layout{.rows = 5000, .columns = 2};
            Quantizer quantizer({.granularity = granularity, .observer = Observer::percentile});
            quantized(quantizer, x, layout, 8);
            CHECK(quantizer.scales()[0].scale < 4.0F / 127);
            CHECK(quantizer.clipped() > 0);
            CHECK(quantizer.clipped() < 40);
            std::vector<float> gradient(x.size(), 1.0F);
            quantizer.mask_gradient(x, gradient, layout);
            CHECK(gradient[4242] == 0);
        }
    }

    TEST_CASE("a percentile that leaves zero alone falls back to the extremes") {
        std::vector<float> x(10'000);
        x[17] = 3;
        Quantizer quantizer({.observer = Observer::percentile});
        CHECK(quantized(quantizer, x, flat(x.size()), 8) == x);
    }

    TEST_CASE("the least squared error beats the extremes on heavy tails, and never loses") {
        for (const Scheme& scheme : schemes())
            for (const int bits : {2, 3, 4, 8}) {
                const std::vector<float> x = heavy(64 * 96);
                const double extremes = squared_error(scheme.options(), x, scheme.layout(), bits);
                const double least = squared_error(scheme.options(Observer::mse), x, scheme.layout(), bits);
                CHECK(least <= extremes);
                if (scheme.granularity == Granularity::per_tensor && bits <= 4)
                    CHECK(least < 0.5 * extremes);
            }
    }

    TEST_CASE("the least squared error is that of the best share among 1, 0.975, ... 0.2") {
        const std::vector<float> x = heavy(4096);
        const auto [low, high] = std::ranges::minmax(x);
        const float bound = std::max(-low, high);
        for (const int bits : {2, 4, 6}) {
            double best = std::numeric_limits<double>::infinity();
            for (int share = 8; share <= 40; ++share) {
                const float scale = bound * static_cast<float>(share) / 40 / static_cast<float>((1 << (bits - 1)) - 1);
                double error = 0;
                for (const float value : x) {
                    const float limit = static_cast<float>((1 << (bits - 1)) - 1);
                    const double off = scale * std::clamp(std::nearbyint(value / scale), -limit, limit) - value;
                    error += off * off;
                }
                best = std::min(best, error);
            }
            CHECK(squared_error({.observer = Observer::mse}, x, flat(x.size()), bits) ==
                  doctest::Approx(best).epsilon(1e-4));
        }
    }

    TEST_CASE("percentile and mse take the last tensor's range, and keep it without an update") {
        for (const Observer observer : {Observer::percentile, Observer::mse}) {
            std::vector<float> x = normal(2000);
            std::vector<float> wide = x;
            for (float& value : wide)
                value *= 4;
            Quantizer fresh({.observer = observer});
            quantized(fresh, wide, flat(2000), 4);
            Quantizer quantizer({.observer = observer});
            quantized(quantizer, x, flat(2000), 4);
            quantized(quantizer, wide, flat(2000), 4);
            CHECK(quantizer.scales()[0] == fresh.scales()[0]);
            quantized(quantizer, x, flat(2000), 4, false);
            CHECK(quantizer.scales()[0] == fresh.scales()[0]);
        }
    }

    TEST_CASE("a NaN or an infinity is refused in every scheme by every observer") {
        for (const Scheme& scheme : schemes())
            for (const Observer observer : kObservers)
                for (const float bad :
                     {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()})
                    for (const std::size_t place : {0UL, 1717UL, 64 * 96 - 1UL}) {
                        std::vector<float> x = normal(64 * 96);
                        x[place] = bad;
                        Quantizer quantizer(scheme.options(observer));
                        CHECK_THROWS_AS(quantized(quantizer, x, scheme.layout(), 8), TrainingError);
                    }
    }

    TEST_CASE("floating-point formats have one scale in every scheme") {
        for (const Scheme& scheme : schemes())
            for (const Observer observer : {Observer::minmax, Observer::mse, Observer::lsq}) {
                QuantizerOptions options = scheme.options(observer);
                options.format8 = Format8::e4m3;
                const std::vector<float> x = normal(64 * 96);
                Quantizer quantizer(options);
                Quantizer plain({.format8 = Format8::e4m3});
                CHECK(quantized(quantizer, x, scheme.layout(), 8) == quantized(plain, x, scheme.layout(), 8));
                CHECK(quantizer.scales().size() == 1);
            }
    }
}
