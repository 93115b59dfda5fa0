// Quantizers of 64 Ki floats, which stay in the second cache, and of 1 Mi floats, which do not. Every configuration is
// first compared with the definition in doubles. Bytes are those of the fp32 input.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/layers/detail/weighted_kernels.hpp"
#include "core/quantize/learned.hpp"
#include "core/quantize/quantizer.hpp"

namespace dither {
namespace {

constexpr std::size_t kColumns = 256;
const StreamKey kKey{.seed = 1, .purpose = Purpose::test};

std::vector<float> normal(std::size_t count) {
    std::vector<float> values(count);
    Stream(kKey).fill_normal(values);
    return values;
}

QuantLayout layout_of(std::size_t count, bool sums_rows) {
    return {.rows = count / kColumns, .columns = kColumns, .sums_rows = sums_rows};
}

/// Which of the quantizer's scales value i has.
std::size_t group_of(std::size_t i, const QuantizerOptions& options, const QuantLayout& layout) {
    const auto size = static_cast<std::size_t>(options.group_size);
    switch (options.granularity) {
        case Granularity::per_channel:
            return i % layout.columns;
        case Granularity::per_group:
            return layout.sums_rows ? i / (size * layout.columns) * layout.columns + i % layout.columns : i / size;
        case Granularity::per_sample:
        case Granularity::per_tensor:
            break;
    }
    return 0;
}

/// Whether every value is that of the code nearest to it, or of one of the two around it, within the codes' reach.
bool matches(const Quantizer& quantizer, const std::vector<float>& x, const std::vector<float>& out,
             const QuantLayout& layout, int bits) {
    const QuantizerOptions& options = quantizer.options();
    const bool symmetric = options.symmetry == Symmetry::symmetric;
    const double most = options.rounding == Rounding::nearest ? 0.5001 : 1.0001;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const ScaleZero& grid = quantizer.scales()[group_of(i, options, layout)];
        const int high = symmetric ? (1 << (bits - 1)) - 1 : (1 << bits) - 1 - grid.zero_point;
        const int low = symmetric ? -high : -grid.zero_point;
        const double code = out[i] / static_cast<double>(grid.scale);
        const double exact = std::clamp<double>(x[i] / static_cast<double>(grid.scale), low, high);
        if (std::abs(code - std::nearbyint(code)) > 1e-4 || std::abs(code - exact) > most)
            return false;
    }
    return true;
}

void count_bytes(benchmark::State& state, std::size_t count) {
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(count * sizeof(float)));
}

void quantize_apply(benchmark::State& state, QuantizerOptions options, int bits, bool weights = false) {
    const auto count = static_cast<std::size_t>(state.range(0));
    const std::vector<float> x = normal(count);
    std::vector<float> out(count);
    const QuantLayout layout = layout_of(count, weights);
    Quantizer quantizer(options);
    quantizer.apply(x, out, layout, bits, kKey);
    if (!matches(quantizer, x, out, layout, bits))
        return state.SkipWithError("deviates from the definition");
    for (auto _ : state) {
        quantizer.apply(x, out, layout, bits, kKey);
        benchmark::DoNotOptimize(out.data());
    }
    count_bytes(state, count);
}

void quantize_encode(benchmark::State& state, Rounding rounding) {
    const auto count = static_cast<std::size_t>(state.range(0));
    const std::vector<float> x = normal(count);
    std::vector<std::uint8_t> codes(count);
    std::vector<float> out(count);
    const QuantLayout layout = layout_of(count, false);
    Quantizer quantizer({.symmetry = Symmetry::affine, .rounding = rounding});
    const auto both_ways = [&] {
        quantizer.encode(x, codes, layout, 8, kKey, false);
        kernels::decode(codes.data(), quantizer.scales()[0].scale, quantizer.offset(0), count, out.data());
    };
    both_ways();
    if (!matches(quantizer, x, out, layout, 8))
        return state.SkipWithError("deviates from the definition");
    for (auto _ : state) {
        both_ways();
        benchmark::DoNotOptimize(out.data());
    }
    count_bytes(state, count);
}

/// A learned step: grid, rounding and the gradient of the step.
void quantize_learned(benchmark::State& state) {
    const auto count = static_cast<std::size_t>(state.range(0));
    const std::vector<float> x = normal(count);
    std::vector<float> out(count);
    const QuantLayout layout = layout_of(count, false);
    const QuantizerOptions options{.observer = Observer::lsq};
    Quantizer quantizer(options);
    LearnedRange range(options, 1);
    std::vector<float> value(1);
    std::vector<float> gradient(1);
    range.attach(value, gradient);
    const auto step = [&] {
        quantizer.set_grid(range.grid(x, layout, 4, true));
        quantizer.apply(x, out, layout, 4, kKey);
        range.backward(x, x, layout);
    };
    step();
    double sum = 0;  // dL/ds with dL/dx^ = x
    const float scale = quantizer.scales()[0].scale;
    for (const float value : x)
        sum += value * (std::abs(value) > 7 * scale ? std::copysign(7.0F, value)
                                                    : std::nearbyint(value / scale) - value / scale);
    const double expected = sum / std::sqrt(7.0 * static_cast<double>(count)) / (scale * std::log(2.0));
    if (std::abs(gradient[0] - expected) > 1e-3 * std::abs(expected))
        return state.SkipWithError(fmt::format("a gradient of {}, expected {}", gradient[0], expected).c_str());
    for (auto _ : state) {
        step();
        benchmark::DoNotOptimize(gradient.data());
    }
    count_bytes(state, count);
}

constexpr QuantizerOptions kSymmetric{};
constexpr QuantizerOptions kAffine{.symmetry = Symmetry::affine};
constexpr QuantizerOptions kChannel{.granularity = Granularity::per_channel};
constexpr QuantizerOptions kGroup{.granularity = Granularity::per_group};
constexpr QuantizerOptions kBlocks{.granularity = Granularity::per_group, .power_of_two = true};
constexpr QuantizerOptions kStochastic{.rounding = Rounding::stochastic};
constexpr QuantizerOptions kStochasticChannel{.granularity = Granularity::per_channel,
                                              .rounding = Rounding::stochastic};
constexpr QuantizerOptions kPercentile{.observer = Observer::percentile};
constexpr QuantizerOptions kLeastError{.observer = Observer::mse};

void sizes(benchmark::internal::Benchmark* benchmark) {
    benchmark->Arg(1 << 16)->Arg(1 << 20);
}

BENCHMARK_CAPTURE(quantize_apply, symmetric_8, kSymmetric, 8)->Apply(sizes);
BENCHMARK_CAPTURE(quantize_apply, symmetric_4, kSymmetric, 4)->Apply(sizes);
BENCHMARK_CAPTURE(quantize_apply, affine_8, kAffine, 8)->Apply(sizes);
BENCHMARK_CAPTURE(quantize_apply, affine_4, kAffine, 4)->Apply(sizes);
BENCHMARK_CAPTURE(quantize_apply, per_channel_8, kChannel, 8)->Apply(sizes);
BENCHMARK_CAPTURE(quantize_apply, per_group_32_8, kGroup, 8)->Apply(sizes);
BENCHMARK_CAPTURE(quantize_apply, per_group_32_8_weights, kGroup, 8, true)->Apply(sizes);
BENCHMARK_CAPTURE(quantize_apply, power_of_two_group_32_8, kBlocks, 8)->Apply(sizes);
BENCHMARK_CAPTURE(quantize_apply, stochastic_8, kStochastic, 8)->Apply(sizes);
BENCHMARK_CAPTURE(quantize_apply, stochastic_4_per_channel, kStochasticChannel, 4)->Apply(sizes);
BENCHMARK_CAPTURE(quantize_apply, percentile_8, kPercentile, 8)->Apply(sizes);
BENCHMARK_CAPTURE(quantize_apply, mse_4, kLeastError, 4)->Apply(sizes);
BENCHMARK_CAPTURE(quantize_encode, nearest, Rounding::nearest)->Apply(sizes);
BENCHMARK_CAPTURE(quantize_encode, stochastic, Rounding::stochastic)->Apply(sizes);
BENCHMARK(quantize_learned)->Apply(sizes);

}  // namespace
}  // namespace dither
