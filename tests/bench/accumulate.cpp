// Adding one client's packed codes into the exact sum of a round, without turning them into floats: the streaming
// aggregator's inner loop. First the mean of two such updates is compared with that of their decoded values.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "aggregator/accumulator.hpp"
#include "core/config.hpp"
#include "core/rng.hpp"
#include "transport/codec.hpp"

namespace dither {
namespace {

constexpr std::uint64_t kWeight = 300;  // samples of a client
constexpr std::size_t kUpdates = 20;    // of a round: sums that 32 bits hold

Schema schema_of(std::size_t parameters) {
    const auto count = static_cast<std::int64_t>(parameters);
    return Schema({{.name = "fc1",
                    .offset = 0,
                    .count = parameters,
                    .tensors = {{"weight", Shape{count}, 0}},
                    .macs = static_cast<double>(parameters)}});
}

/// Whole numbers that just need `bits` bits: the step is 1.
std::vector<float> codes_of(std::size_t count, int bits) {
    std::vector<float> codes(count);
    Stream(StreamKey{.seed = 1, .purpose = Purpose::test}).fill_normal(codes);
    const auto largest = static_cast<float>((1 << (bits - 1)) - 1);
    for (float& code : codes)
        code = std::clamp(std::nearbyint(code * largest / 3), -largest, largest);
    codes.front() = largest;
    return codes;
}

struct Round {
    Schema schema;
    std::unique_ptr<Codec> codec;
    std::vector<float> steps{1.0F};
    std::vector<std::byte> payload;
    std::vector<std::uint64_t> largest{0};
    Accumulator accumulator;

    Round(std::size_t parameters, int bits)
        : schema(schema_of(parameters)),
          codec(make_codec({.kind = "grid", .coder = "packed"}, schema)),
          accumulator(schema) {
        codec->encode(codes_of(parameters, bits), {.steps = steps}, payload);
        codec->validate(payload, {.steps = steps}, largest);
        accumulator.reset(kUpdates);
    }

    void add(std::uint64_t weight) { accumulator.add(*codec, {.steps = steps}, payload, largest, weight); }

    bool adds_up(const std::vector<float>& codes) {
        add(kWeight);
        add(2 * kWeight);
        std::vector<float> mean(codes.size());
        accumulator.mean(*codec, steps, mean);
        return std::ranges::equal(mean, codes, [](float a, float b) { return std::abs(a - b) <= 1e-6F * std::abs(b); });
    }
};

void accumulate(benchmark::State& state) {
    const auto bits = static_cast<int>(state.range(0));
    const auto parameters = static_cast<std::size_t>(state.range(1));
    Round round(parameters, bits);
    if (round.payload.size() > parameters * static_cast<std::size_t>(bits) / 8 + 64)
        return state.SkipWithError("the codes are not packed at their width");
    if (!round.adds_up(codes_of(parameters, bits)))
        return state.SkipWithError("the mean is not that of the updates");
    round.accumulator.reset(kUpdates);
    std::size_t added = 0;
    for (auto _ : state) {
        if (added++ == kUpdates) {
            state.PauseTiming();
            round.accumulator.reset(kUpdates);
            added = 1;
            state.ResumeTiming();
        }
        round.add(kWeight);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(parameters));
}

BENCHMARK(accumulate)->ArgNames({"bits", "parameters"})->ArgsProduct({{4, 8}, {206'922, 16'000'000}});

}  // namespace
}  // namespace dither
