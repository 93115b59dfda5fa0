// The Walsh-Hadamard transform, the rotation that is made of it, and the two codecs that quantize after it, on 4 MiB of
// LogNormal values and on as many as CNN-2 has parameters. A transform is first compared with its inverse, a codec's
// error with what its rate promises. Bytes are those of fp32; `bits` is what a coordinate takes.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <vector>

#include "core/config.hpp"
#include "core/vector_math.hpp"
#include "transport/codec.hpp"
#include "transport/hadamard.hpp"
#include "transport/rotation.hpp"

namespace dither {
namespace {

constexpr std::int64_t kMebi = 1 << 20;
constexpr std::int64_t kCnn2 = 206'922;
const StreamKey kKey{.seed = 1, .purpose = Purpose::uplink_rounding, .client = 3, .round = 5};

std::vector<float> lognormal(std::int64_t count) {
    std::vector<float> values(static_cast<std::size_t>(count));
    Stream(kKey.with(Purpose::test)).fill_normal(values);
    exponentials(values, values);
    return values;
}

/// ||a - b||^2 / ||a||^2.
double distortion(const std::vector<float>& a, const std::vector<float>& b) {
    double error = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        error += std::pow(a[i] - static_cast<double>(b[i]), 2);
    return error / squared_norm(a);
}

void count_bytes(benchmark::State& state, std::size_t values) {
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(values * sizeof(float)));
}

void hadamard(benchmark::State& state) {
    const auto values = lognormal(state.range(0));
    auto v = values;
    hadamard_transform(v);
    hadamard_transform(v);
    for (float& value : v)
        value /= static_cast<float>(v.size());
    if (distortion(values, v) > 1e-12)
        return state.SkipWithError("twice is not n times");
    std::fill(v.begin(), v.end(), 0.0F);  // whose sums stay finite for ever
    for (auto _ : state) {
        hadamard_transform(v);
        benchmark::ClobberMemory();
    }
    count_bytes(state, v.size());
}
BENCHMARK(hadamard)->ArgName("count")->Arg(4096)->Arg(1 << 17)->Arg(kMebi);

void rotation(benchmark::State& state) {
    const auto values = lognormal(state.range(0));
    const Rotation rotation(values.size(), kKey);
    auto v = values;
    std::vector<float> scratch(v.size());
    rotation.apply(v, scratch);
    rotation.invert(v, scratch);
    if (distortion(values, v) > 1e-11)
        return state.SkipWithError("the inverse does not take it back");
    for (auto _ : state) {
        rotation.apply(v, scratch);
        benchmark::ClobberMemory();
    }
    count_bytes(state, v.size());
}
BENCHMARK(rotation)->ArgName("count")->Arg(kCnn2)->Arg(kMebi);

/// The largest vNMSE that a codec may have at a rate.
struct Goal {
    double rate;
    double vnmse;
};
constexpr std::array<Goal, 5> kEden{
    {{0.5, 2.14 * 1.03}, {1, 0.5708 * 1.03}, {2, 0.1331 * 1.03}, {3, 0.0358 * 1.03}, {4, 0.00959 * 1.03}}};
constexpr std::array<Goal, 5> kTrellis{{{0.5, 1.20}, {1, 0.40}, {2, 0.082}, {3, 0.019}, {4, 0.0046}}};

/// A codec of one layer, whose result has been checked.
class Checked {
public:
    Checked(const char* kind, const Goal& goal, std::int64_t count)
        : values(lognormal(count)),
          schema({{.name = "fc1", .count = values.size(), .tensors = {{"weight", Shape{count}, 0}}}}),
          codec(make_codec({.kind = kind, .rate = goal.rate}, schema)),
          decoded(values.size()) {
        codec->encode(values, {.key = kKey}, payload);
        codec->decode(payload, {.key = kKey}, decoded);
        bits = 8 * static_cast<double>(payload.size()) / static_cast<double>(values.size());
        const double vnmse = distortion(values, decoded);
        if (vnmse > goal.vnmse || bits > goal.rate + 40.0 / static_cast<double>(count))
            problem = fmt::format("a vNMSE of {} at {} bits", vnmse, bits);
    }

    std::vector<float> values;
    Schema schema;
    std::unique_ptr<Codec> codec;
    std::vector<std::byte> payload;
    std::vector<float> decoded;
    double bits = 0;
    std::string problem;
};

void encode(benchmark::State& state, const char* kind, Goal goal, std::int64_t count) {
    Checked checked(kind, goal, count);
    if (!checked.problem.empty())
        return state.SkipWithError(checked.problem.c_str());
    for (auto _ : state)
        checked.codec->encode(checked.values, {.key = kKey}, checked.payload);
    count_bytes(state, checked.values.size());
    state.counters["bits"] = checked.bits;
}

void decode(benchmark::State& state, const char* kind, Goal goal, std::int64_t count) {
    Checked checked(kind, goal, count);
    if (!checked.problem.empty())
        return state.SkipWithError(checked.problem.c_str());
    for (auto _ : state)
        checked.codec->decode(checked.payload, {.key = kKey}, checked.decoded);
    count_bytes(state, checked.values.size());
    state.counters["bits"] = checked.bits;
}

const bool kRegistered = [] {
    for (const std::int64_t count : {kCnn2, kMebi})
        for (const auto& [kind, goals] : {std::pair{"eden", kEden}, {"trellis", kTrellis}})
            for (const Goal& goal : goals) {
                const auto name = [&](const char* what) {
                    return fmt::format("rotated/{}/{}/rate:{}/count:{}", kind, what, goal.rate, count);
                };
                benchmark::RegisterBenchmark(name("encode").c_str(), encode, kind, goal, count);
                benchmark::RegisterBenchmark(name("decode").c_str(), decode, kind, goal, count);
            }
    return true;
}();

}  // namespace
}  // namespace dither
