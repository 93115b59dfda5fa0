#include "core/quantize/quantizer.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>
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
    return {.rows = 1, .columns = count, .samples = 1};
}

std::vector<float> normal(std::size_t count, std::uint32_t seed = 1) {
    std::vector<float> values(count);
    Stream({.seed = seed, .purpose = Purpose::test}).fill_normal(values);
    return values;
}

std::vector<float> quantized(Quantizer& quantizer, const std::vector<float>& x, const QuantLayout& layout, int bits) {
    std::vector<float> out(x.size());
    quantizer.apply(x, out, layout, bits, kKey);
    return out;
}

/// The definition, in doubles, one value at a time.
float reference(float x, const ScaleZero& grid, int bits, Symmetry symmetry) {
    const int limit = (1 << (bits - 1)) - 1;
    const int low = symmetry == Symmetry::symmetric ? -limit : 0;
    const int high = symmetry == Symmetry::symmetric ? limit : (1 << bits) - 1;
    const int q = std::clamp(static_cast<int>(std::nearbyint(x / grid.scale)) + grid.zero_point, low, high);
    return grid.scale * static_cast<float>(q - grid.zero_point);
}

constexpr std::size_t kGroup = 4;

/// The values of group `group` of a [rows, columns] tensor.
std::vector<std::size_t> members(Granularity granularity, const QuantLayout& layout, std::size_t group) {
    std::vector<std::size_t> indices;
    const std::size_t per_sample = layout.rows / layout.samples * layout.columns;
    for (std::size_t i = 0; i < layout.rows * layout.columns; ++i) {
        const std::size_t in_group =
            layout.sums_rows ? i / (kGroup * layout.columns) * layout.columns + i % layout.columns : i / kGroup;
        const std::size_t owner = granularity == Granularity::per_channel  ? i % layout.columns
                                  : granularity == Granularity::per_sample ? i / per_sample
                                  : granularity == Granularity::per_group  ? in_group
                                                                           : 0;
        if (owner == group)
            indices.push_back(i);
    }
    return indices;
}

/// Those that have codes; every one fits every layout.
constexpr std::array kGranularities{Granularity::per_tensor, Granularity::per_channel, Granularity::per_sample};
constexpr std::array kSymmetries{Symmetry::symmetric, Symmetry::affine};

}  // namespace

TEST_SUITE("core/quantize/quantizer") {
    TEST_CASE("a symmetric scale reaches the larger end with its largest code") {
        CHECK(choose_scale(-2, 1, 8, Symmetry::symmetric) == ScaleZero{2.0F / 127, 0});
        CHECK(choose_scale(0.5F, 7, 4, Symmetry::symmetric) == ScaleZero{1, 0});
        CHECK(choose_scale(-3, 2, 2, Symmetry::symmetric) == ScaleZero{3, 0});
    }

    TEST_CASE("an affine scale covers the range and zero, and zero has a code") {
        CHECK(choose_scale(-1, 2, 2, Symmetry::affine) == ScaleZero{1, 1});
        CHECK(choose_scale(3, 15, 4, Symmetry::affine) == ScaleZero{1, 0});
        CHECK(choose_scale(-15, -3, 4, Symmetry::affine) == ScaleZero{1, 15});
        CHECK(rc::check([](float a, float b) {
            RC_PRE(std::isfinite(a) && std::isfinite(b));
            const int bits = *rc::gen::inRange(2, 17);
            const ScaleZero grid = choose_scale(std::min(a, b), std::max(a, b), bits, Symmetry::affine);
            return grid.scale > 0 && grid.zero_point >= 0 && grid.zero_point < (1 << bits);
        }));
    }

    TEST_CASE("an empty or vanishing range still has a usable scale") {
        for (const Symmetry symmetry : kSymmetries) {
            CHECK(choose_scale(0, 0, 8, symmetry) == ScaleZero{1, 0});
            CHECK(choose_scale(0, std::numeric_limits<float>::denorm_min(), 8, symmetry).scale > 0);
        }
        CHECK_THROWS_AS(choose_scale(0, 1, 1, Symmetry::symmetric), PreconditionError);
        CHECK_THROWS_AS(choose_scale(0, 1, 17, Symmetry::symmetric), PreconditionError);
    }

    TEST_CASE("values match the definition in every scheme, for every width") {
        struct Place {
            Granularity granularity;
            bool sums_rows;
        };
        for (const Place place : {Place{Granularity::per_tensor, false}, Place{Granularity::per_channel, false},
                                  Place{Granularity::per_sample, false}, Place{Granularity::per_group, false},
                                  Place{Granularity::per_group, true}})
            for (const Symmetry symmetry : kSymmetries)
                for (const std::size_t columns : {1UL, 3UL, 12UL, 300UL})
                    for (const int bits : {2, 4, 7, 8, 16}) {
                        const Granularity granularity = place.granularity;
                        if (granularity == Granularity::per_group && !place.sums_rows && columns % kGroup != 0)
                            continue;
                        const QuantLayout layout{
                            .rows = 12, .columns = columns, .samples = 4, .sums_rows = place.sums_rows};
                        const std::vector<float> x = normal(12 * columns);
                        Quantizer quantizer({.symmetry = symmetry,
                                             .granularity = granularity,
                                             .format16 = Format16::int16,
                                             .group_size = kGroup});
                        const std::vector<float> out = quantized(quantizer, x, layout, bits);
                        CHECK(quantizer.clipped() == 0);
                        std::size_t wrong = 0;
                        std::size_t seen = 0;
                        for (std::size_t g = 0; g < quantizer.scales().size(); ++g) {
                            float low = 0;
                            float high = 0;
                            for (const std::size_t i : members(granularity, layout, g)) {
                                low = std::min(low, x[i]);
                                high = std::max(high, x[i]);
                                ++seen;
                            }
                            const ScaleZero grid = quantizer.scales()[g];
                            const ScaleZero own = choose_scale(low, high, bits, symmetry);
                            CHECK(grid == own);
                            for (const std::size_t i : members(granularity, layout, g))
                                wrong += std::abs(out[i] - reference(x[i], grid, bits, symmetry)) > 1e-6F * grid.scale;
                        }
                        CHECK(wrong == 0);
                        CHECK(seen == x.size());
                    }
    }

    TEST_CASE("there is one scale for each tensor, channel or sample") {
        const QuantLayout layout{.rows = 12, .columns = 5, .samples = 4};
        const std::vector<std::size_t> expected{1, 5, 4};
        for (std::size_t g = 0; g < kGranularities.size(); ++g) {
            Quantizer quantizer({.granularity = kGranularities[g]});
            quantized(quantizer, normal(60), layout, 8);
            CHECK(quantizer.scales().size() == expected[g]);
        }
    }

    TEST_CASE(
        "where a product sums over samples, their symmetric scales differ by powers of two, up to a limit, and no "
        "sample is clipped") {
        std::vector<float> x = normal(60);
        for (std::size_t i = 0; i < x.size(); ++i)
            x[i] *= std::array{1.0F, 0.3F, 1e-6F, 0.0F}[i / 15];
        Quantizer quantizer({.granularity = Granularity::per_sample});
        quantized(quantizer, x, {.rows = 12, .columns = 5, .samples = 4, .sums_samples = true}, 8);
        CHECK(quantizer.clipped() == 0);
        const float largest = quantizer.scales()[0].scale;
        for (const ScaleZero& grid : quantizer.scales()) {
            const float ratio = largest / grid.scale;
            CHECK(ratio == std::ldexp(1.0F, std::ilogb(ratio)));
            CHECK(std::abs(std::ilogb(ratio)) <= kScaleSpan);
        }
        CHECK(largest / quantizer.scales()[2].scale == std::ldexp(1.0F, kScaleSpan));
    }

    TEST_CASE("2 bits, symmetric, are the codes -1, 0 and 1") {
        Quantizer quantizer({});
        CHECK(quantized(quantizer, {-2, -0.9F, 0.9F, 1.1F, 2}, flat(5), 2) == std::vector<float>{-2, 0, 0, 2, 2});
    }

    TEST_CASE("ties go to the even code") {
        Quantizer quantizer({});
        CHECK(quantized(quantizer, {-7, -2.5F, -1.5F, 0.5F, 1.5F, 2.5F, 7}, flat(7), 4) ==
              std::vector<float>{-7, -2, -2, 0, 2, 2, 7});
    }

    TEST_CASE("quantizing twice changes nothing more") {
        for (const Symmetry symmetry : kSymmetries)
            CHECK(rc::check([symmetry](std::uint32_t seed) {
                Quantizer quantizer({.symmetry = symmetry});
                const int bits = *rc::gen::inRange(2, 17);
                const std::vector<float> once = quantized(quantizer, normal(100, seed), flat(100), bits);
                std::vector<float> twice(once.size());
                quantizer.apply(once, twice, flat(100), bits, kKey, false);
                return once == twice;
            }));
    }

    TEST_CASE("exact zeros stay exact zeros in every scheme") {
        for (const Symmetry symmetry : kSymmetries)
            for (const Rounding rounding : {Rounding::nearest, Rounding::stochastic}) {
                std::vector<float> x = normal(64);
                for (std::size_t i = 0; i < x.size(); i += 2)
                    x[i] = 0;
                Quantizer quantizer({.symmetry = symmetry, .rounding = rounding});
                const std::vector<float> out = quantized(quantizer, x, flat(64), 5);
                for (std::size_t i = 0; i < out.size(); i += 2)
                    CHECK(out[i] == 0);
            }
    }

    TEST_CASE("a tensor of zeros, and an empty one, are left as they are") {
        Quantizer quantizer({.granularity = Granularity::per_channel});
        CHECK(quantized(quantizer, std::vector<float>(12, 0.0F), {.rows = 4, .columns = 3}, 8) ==
              std::vector<float>(12, 0.0F));
        CHECK(quantizer.clipped() == 0);
        Quantizer other({});
        CHECK(quantized(other, {}, {.rows = 0, .columns = 3}, 8).empty());
    }

    TEST_CASE("stochastic rounding is unbiased, and leaves values on the grid alone") {
        constexpr std::size_t kCount = 200'000;
        std::vector<float> x(kCount, 2.3F);
        x[0] = 7;  // 4 bits: scale 1
        Quantizer quantizer({.rounding = Rounding::stochastic});
        const std::vector<float> out = quantized(quantizer, x, flat(kCount), 4);
        const double mean = std::accumulate(out.begin() + 1, out.end(), 0.0) / (kCount - 1);
        CHECK(std::abs(mean - 2.3) < 5 * std::sqrt(0.3 * 0.7 / kCount));
        CHECK(std::all_of(out.begin() + 1, out.end(), [](float value) { return value == 2 || value == 3; }));
        std::vector<float> codes(kCount, -3.0F);
        codes[0] = 7;
        CHECK(quantized(quantizer, codes, flat(kCount), 4) == codes);
    }

    TEST_CASE("value i takes 16-bit half i of its stream, whatever the granularity and the size") {
        const QuantLayout layout{.rows = 21, .columns = 130, .samples = 7};
        std::vector<float> x(21 * 130);
        for (std::size_t i = 0; i < x.size(); ++i)
            x[i] = 3 * std::sin(static_cast<float>(i));
        // Every sample and every channel has the same range, so that all granularities share one grid.
        for (std::size_t i = 0; i < x.size(); ++i)
            if (i / 130 % 3 == 0)
                x[i] = 7;
        std::vector<std::uint16_t> halves(x.size());
        Stream(kKey).fill_halfwords(halves);
        for (const Granularity granularity : kGranularities) {
            Quantizer quantizer({.granularity = granularity, .rounding = Rounding::stochastic});
            const std::vector<float> out = quantized(quantizer, x, layout, 4);
            std::size_t wrong = 0;
            for (std::size_t i = 0; i < x.size(); ++i) {
                const double u = (halves[i] + 0.5) * 0x1p-16;
                const double floor = std::floor(x[i]);
                wrong += out[i] != static_cast<float>(u < x[i] - floor ? floor + 1 : floor);
            }
            CHECK(wrong == 0);
        }
    }

    TEST_CASE("quantization in place gives the same as out of place") {
        for (const Granularity granularity : kGranularities) {
            const QuantLayout layout{.rows = 33, .columns = 41, .samples = 3};
            std::vector<float> x = normal(33 * 41);
            Quantizer quantizer({.granularity = granularity, .rounding = Rounding::stochastic});
            const std::vector<float> expected = quantized(quantizer, x, layout, 6);
            quantizer.reset();
            quantizer.apply(x, x, layout, 6, kKey);
            CHECK(x == expected);
        }
    }

    TEST_CASE("32 bits copy and clip nothing") {
        const std::vector<float> x = normal(50);
        Quantizer quantizer({});
        CHECK(quantized(quantizer, x, flat(50), 32) == x);
        std::vector<float> gradient(50, 1.0F);
        quantizer.mask_gradient(x, gradient, flat(50));
        CHECK(gradient == std::vector<float>(50, 1.0F));
    }

    TEST_CASE("the moving average keeps nine tenths of the past") {
        Quantizer quantizer({.observer = Observer::moving_average_minmax});
        quantized(quantizer, {-1, 1}, flat(2), 8);
        CHECK(quantizer.scales()[0].scale == doctest::Approx(1.0 / 127));
        const std::vector<float> out = quantized(quantizer, {-2, 2}, flat(2), 8);
        CHECK(quantizer.scales()[0].scale == doctest::Approx(1.1 / 127));
        CHECK(out[1] == doctest::Approx(1.1));
        CHECK(quantizer.clipped() == 2);
        quantizer.reset();
        quantized(quantizer, {-4, 4}, flat(2), 8);
        CHECK(quantizer.scales()[0].scale == doctest::Approx(4.0 / 127));
    }

    TEST_CASE("without an update the ranges stay, and before any observation they are those of the tensor") {
        Quantizer quantizer({.symmetry = Symmetry::affine, .observer = Observer::moving_average_minmax});
        std::vector<float> x{0, 15};
        std::vector<float> out(2);
        quantizer.apply(x, out, flat(2), 4, kKey, false);
        CHECK(quantizer.scales()[0] == ScaleZero{1, 0});
        x = {0, 30};
        quantizer.apply(x, out, flat(2), 4, kKey, true);
        CHECK(quantizer.scales()[0] == ScaleZero{2, 0});
        x = {0, 60};
        quantizer.apply(x, out, flat(2), 4, kKey, false);
        CHECK(quantizer.scales()[0] == ScaleZero{2, 0});
        CHECK(out == std::vector<float>{0, 30});
        CHECK(quantizer.clipped() == 1);
    }

    TEST_CASE("samples are never averaged with those of another batch") {
        Quantizer quantizer({.granularity = Granularity::per_sample, .observer = Observer::moving_average_minmax});
        quantized(quantizer, {7, 14, 21}, {.rows = 3, .columns = 1, .samples = 3}, 4);
        quantized(quantizer, {28, 7}, {.rows = 2, .columns = 1, .samples = 2}, 4);
        REQUIRE(quantizer.scales().size() == 2);
        CHECK(quantizer.scales()[0].scale == 4);
        CHECK(quantizer.scales()[1].scale == 1);
        CHECK(quantizer.clipped() == 0);
    }

    TEST_CASE("the ends of a range are never clipped, whatever its rounding") {
        CHECK(rc::check([](std::uint32_t seed) {
            const int bits = *rc::gen::inRange(2, 17);
            std::vector<float> x = normal(37, seed);
            for (float& value : x)
                value = value * 1e-3F + 2e-4F;
            for (const Symmetry symmetry : kSymmetries)
                for (const bool update : {true, false}) {
                    Quantizer quantizer({.symmetry = symmetry});
                    quantized(quantizer, x, flat(37), bits);
                    std::vector<float> out(37);
                    quantizer.apply(x, out, flat(37), bits, kKey, update);
                    if (quantizer.clipped() != 0)
                        return false;
                }
            return true;
        }));
    }

    TEST_CASE("the gradient is zero exactly where the value was clipped") {
        for (const Granularity granularity : {Granularity::per_tensor, Granularity::per_channel}) {
            const QuantLayout layout{.rows = 30, .columns = 20, .samples = 1};
            const std::vector<float> x = normal(600, 5);
            std::vector<float> narrow = x;
            for (float& value : narrow)
                value = std::clamp(value, -1.0F, 1.0F);
            Quantizer quantizer({.granularity = granularity});
            quantized(quantizer, narrow, layout, 8);
            std::vector<float> out(600);
            quantizer.apply(x, out, layout, 8, kKey, false);
            std::vector<float> gradient(600, 3.0F);
            quantizer.mask_gradient(x, gradient, layout);
            std::size_t zeros = 0;
            std::size_t wrong = 0;
            for (std::size_t i = 0; i < x.size(); ++i) {
                zeros += gradient[i] == 0;
                wrong += std::abs(x[i]) <= 0.9F && gradient[i] != 3;
                wrong += std::abs(x[i]) > 1.02F && gradient[i] != 0;
            }
            CHECK(wrong == 0);
            CHECK(zeros == quantizer.clipped());
            CHECK(zeros > 100);
        }
    }

    TEST_CASE("a NaN or an infinity is refused, and the observer forgets nothing") {
        const float nan = std::numeric_limits<float>::quiet_NaN();
        const float infinity = std::numeric_limits<float>::infinity();
        for (const Granularity granularity : kGranularities)
            for (const float bad : {nan, infinity, -infinity})
                for (const std::size_t where : {0UL, 37UL, 599UL})
                    for (const bool update : {true, false}) {
                        const QuantLayout layout{.rows = 30, .columns = 20, .samples = 3};
                        std::vector<float> x = normal(600);
                        Quantizer quantizer({.granularity = granularity});
                        const std::vector<float> before = quantized(quantizer, x, layout, 8);
                        std::vector<float> broken = x;
                        broken[where] = bad;
                        std::vector<float> out(600);
                        CHECK_THROWS_AS(quantizer.apply(broken, out, layout, 8, kKey, update), TrainingError);
                        quantizer.apply(x, out, layout, 8, kKey, false);
                        CHECK(out == before);
                    }
    }

    TEST_CASE("a layout that does not fit the tensor is refused") {
        Quantizer quantizer({});
        std::vector<float> x(12);
        CHECK_THROWS_AS(quantizer.apply(x, x, {.rows = 3, .columns = 5}, 8, kKey), PreconditionError);
        CHECK_THROWS_AS(quantizer.apply(x, x, {.rows = 4, .columns = 3, .samples = 3}, 8, kKey), PreconditionError);
    }

    TEST_CASE("16 and 8 bits are the floating-point formats that the options choose, with one scale for the tensor") {
        const std::vector<float> x = normal(600);
        const float largest = std::max(-*std::ranges::min_element(x), *std::ranges::max_element(x));
        struct Case {
            int bits;
            QuantizerOptions options;
            FloatFormat format;
        };
        const std::array cases{Case{16, {}, FloatFormat::bf16},
                               Case{16, {.format16 = Format16::fp16}, FloatFormat::fp16},
                               Case{8, {.format8 = Format8::e4m3}, FloatFormat::e4m3},
                               Case{8, {.format8 = Format8::e5m2}, FloatFormat::e5m2}};
        for (const Case& c : cases)
            for (const Granularity granularity : kGranularities)
                for (const Symmetry symmetry : kSymmetries) {
                    CHECK(float_format(c.options, c.bits) == c.format);
                    QuantizerOptions options = c.options;
                    options.granularity = granularity;
                    options.symmetry = symmetry;
                    Quantizer quantizer(options);
                    const float scale = choose_float_scale(largest, c.format);
                    std::vector<float> expected(x.size());
                    round_nearest(x, expected, c.format, scale);
                    CHECK(quantized(quantizer, x, {.rows = 30, .columns = 20, .samples = 3}, c.bits) == expected);
                    CHECK(quantizer.scales().size() == 1);
                    CHECK(quantizer.scales()[0] == ScaleZero{scale, 0});
                    CHECK(quantizer.clipped() == 0);
                }
    }

    TEST_CASE("other widths are integers, whatever the formats, and so are 16 and 8 bits if asked") {
        const QuantizerOptions floats{.format16 = Format16::fp16, .format8 = Format8::e4m3};
        for (const int bits : {2, 4, 7, 9, 15, 32})
            CHECK_FALSE(float_format(floats, bits));
        CHECK_FALSE(float_format({.format16 = Format16::int16}, 16));
        CHECK_FALSE(float_format({}, 8));
    }

    TEST_CASE("floating-point formats have no codes") {
        Quantizer quantizer({.format8 = Format8::e4m3});
        const std::vector<float> x = normal(10);
        std::vector<std::uint8_t> codes(10);
        CHECK_THROWS_AS(quantizer.encode(x, codes, flat(10), 8, kKey, true), PreconditionError);
        quantizer.encode(x, codes, flat(10), 7, kKey, true);
    }

    TEST_CASE("a tensor may change between integers and floating-point formats; bf16 teaches the observer nothing") {
        const QuantLayout layout{.rows = 30, .columns = 20, .samples = 3};
        const std::vector<float> x = normal(600);
        std::vector<float> wide = x;
        wide[7] = 100;
        for (const Granularity granularity : kGranularities)
            for (const Format16 format : {Format16::bf16, Format16::fp16}) {
                const QuantizerOptions options{
                    .granularity = granularity, .observer = Observer::moving_average_minmax, .format16 = format};
                Quantizer quantizer(options);
                const std::vector<float> first = quantized(quantizer, x, layout, 8);
                quantized(quantizer, wide, layout, 16);
                std::vector<float> out(600);
                quantizer.apply(x, out, layout, 8, kKey, false);
                const bool learnt = format == Format16::fp16 && granularity != Granularity::per_sample;
                CHECK((out != first) == learnt);
            }
    }

    TEST_CASE("what a floating-point format saturates counts as clipped, is marked and gets no gradient") {
        const QuantLayout layout{.rows = 30, .columns = 20, .samples = 3};
        const std::vector<float> x = normal(600);
        for (const Format8 format : {Format8::e4m3, Format8::e5m2}) {
            Quantizer quantizer({.granularity = Granularity::per_channel, .format8 = format});
            std::vector<float> out(600, 1.0F);
            quantizer.apply(out, out, layout, 8, kKey);  // the observer learns that 1 is the largest
            quantizer.apply(x, out, layout, 8, kKey, false);
            const float bound = *std::ranges::max_element(out);
            CHECK(bound >= 1);
            CHECK(bound < 2);
            std::vector<float> gradient(600, 3.0F);
            quantizer.mask_gradient(x, gradient, layout);
            std::vector<std::uint8_t> marks(75);
            quantizer.mark_clipped(x, marks);
            std::size_t wrong = 0;
            for (std::size_t i = 0; i < x.size(); ++i) {
                const bool clipped = std::abs(x[i]) > bound;
                wrong += clipped != (gradient[i] == 0);
                wrong += clipped != ((marks[i / 8] >> (i % 8) & 1) != 0);
            }
            CHECK(wrong == 0);
            CHECK(quantizer.clipped() == static_cast<std::size_t>(std::ranges::count(gradient, 0.0F)));
            CHECK(quantizer.clipped() > 0);
        }
    }

    TEST_CASE("stochastic rounding to a floating-point format is unbiased and depends on its key") {
        const std::vector<float> x(100'000, 0.3F);
        Quantizer quantizer({.rounding = Rounding::stochastic, .format8 = Format8::e5m2});
        std::vector<float> with_largest = x;
        with_largest[0] = 1;
        const std::vector<float> out = quantized(quantizer, with_largest, flat(x.size()), 8);
        double sum = 0;
        for (std::size_t i = 1; i < out.size(); ++i)
            sum += out[i];
        // Between 0.25 and 0.3125.
        CHECK(std::abs(sum / 99'999 - 0.3) < 5 * 0.0625 * std::sqrt(0.8 * 0.2 / 99'999));
        std::vector<float> other(x.size());
        quantizer.apply(with_largest, other, flat(x.size()), 8, {.seed = 2, .purpose = Purpose::test});
        CHECK(other != out);
    }

    TEST_CASE("a NaN or an infinity is refused by the floating-point formats too") {
        for (const int bits : {8, 16})
            for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
                Quantizer quantizer({.format8 = Format8::e4m3});
                std::vector<float> x = normal(600);
                x[300] = bad;
                CHECK_THROWS_AS(quantized(quantizer, x, flat(600), bits), TrainingError);
            }
    }

    TEST_CASE("one bit more halves the error of a uniform tensor") {
        std::vector<float> x(50'000);
        Stream(kKey).fill_uniform(x);
        Quantizer quantizer({.symmetry = Symmetry::affine});
        double previous = 0;
        for (int bits = 3; bits <= 10; ++bits) {
            const QuantError found = quant_error(x, quantized(quantizer, x, flat(x.size()), bits));
            const double step = 1.0 / ((1 << bits) - 1);
            CHECK(std::sqrt(found.error / 50'000) == doctest::Approx(step / std::sqrt(12.0)).epsilon(0.03));
            CHECK(found.signal == doctest::Approx(50'000 / 3.0).epsilon(0.03));
            if (previous > 0)
                CHECK(std::sqrt(previous / found.error) == doctest::Approx(2).epsilon(0.2));
            previous = found.error;
        }
    }
}
