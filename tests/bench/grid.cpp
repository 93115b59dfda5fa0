// The grid codec on 4 MiB of made-up updates: every coder's encoding and decoding, and the sum of packed codes. What a
// payload decodes to is first compared with the definition in doubles. Bytes are those of fp32; `bits` is what a
// coordinate takes.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "core/config.hpp"
#include "core/simd.hpp"
#include "transport/codec.hpp"
#include "transport/expectation.hpp"

namespace dither {
namespace {

constexpr std::size_t kRows = 1024;
constexpr std::size_t kColumns = 1024;
constexpr std::size_t kCount = kRows * kColumns;
const StreamKey kKey{.seed = 1, .purpose = Purpose::uplink_rounding, .client = 3, .round = 5};

const Schema& schema() {
    static const Schema schema({{.name = "fc1",
                                 .count = kCount,
                                 .tensors = {{"weight", Shape{std::int64_t{kRows}, std::int64_t{kColumns}}, 0}}}});
    return schema;
}

/// As real updates are: rows and columns have scales of their own, and a seventh of the rows has not moved.
std::vector<float> update(std::uint32_t client) {
    std::vector<float> values(kCount);
    std::vector<float> scales(kRows + kColumns);
    Stream(kKey.with(Purpose::test)).fill_normal(scales);
    Stream({.purpose = Purpose::test, .client = client}).fill_normal(values);
    for (std::size_t i = 0; i < kCount; ++i) {
        const std::size_t row = i / kColumns;
        values[i] *= row % 7 == 0 ? 0.0F : std::exp(scales[row] + scales[kRows + i % kColumns]);
    }
    return values;
}

/// Needs codes of just that width.
std::vector<float> uniform(int width) {
    std::vector<float> values(kCount);
    Stream(kKey.with(Purpose::test)).fill_uniform(values);
    for (float& value : values)
        value = (value - 0.5F) * (std::ldexp(1.0F, width) - 2.1F);
    return values;
}

DITHER_CLONES void add(const std::int32_t* codes, std::size_t count, std::int32_t weight, std::int32_t* sums) {
    for (std::size_t i = 0; i < count; ++i)
        sums[i] += weight * codes[i];
}

/// An accumulator of 32 bits a parameter.
class Sums final : public IntegerSink {
public:
    void add(std::size_t /*layer*/, std::size_t offset, std::span<const std::int32_t> codes) override {
        dither::add(codes.data(), codes.size(), weight_, values_.data() + offset);
    }
    void add(std::size_t /*layer*/, std::size_t /*offset*/, std::span<const std::int64_t> /*codes*/) override {
        std::abort();  // of codes beyond 2^31
    }
    const std::vector<std::int32_t>& values() const { return values_; }

private:
    std::int32_t weight_ = 3;
    std::vector<std::int32_t> values_ = std::vector<std::int32_t>(kCount);
};

struct Setup {
    Setup(const char* coder, float step, bool expects)
        : codec(make_codec({.kind = "grid", .coder = coder}, schema())),
          steps(1, step),
          expectation(schema(), update(2)),
          terms{.steps = steps, .key = kKey, .expectation = expects ? &expectation : nullptr} {}

    /// Empty, or how the payload of `values` decodes to something else than it must.
    std::string problem(const std::vector<float>& values, std::vector<std::byte>& payload) const {
        std::vector<float> decoded(kCount);
        codec->encode(values, terms, payload);
        codec->decode(payload, terms, decoded);
        const double allowed = codec->unit(0, steps) < steps[0] ? 1.5 : 1;  // the control variate is up to a half
        double bias = 0;
        double variance = 0;
        for (std::size_t i = 0; i < kCount; ++i) {
            const double error = (decoded[i] - static_cast<double>(values[i])) / steps[0];
            if (!(std::abs(error) < allowed + 1e-4))
                return fmt::format("value {} is {} steps off", i, error);
            bias += error;
            variance += error * error;
        }
        return std::abs(bias) < 5 * std::sqrt(variance) ? "" : "biased";
    }

    std::unique_ptr<Codec> codec;
    std::vector<float> steps;
    Expectation expectation;
    Terms terms;
};

void report(benchmark::State& state, const std::vector<std::byte>& payload) {
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(kCount * sizeof(float)));
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kCount));
    state.counters["bits"] = 8 * static_cast<double>(payload.size()) / kCount;
}

void grid_encode(benchmark::State& state, const char* coder, int width) {
    const std::vector<float> values = width == 0 ? update(1) : uniform(width);
    const Setup setup(coder, static_cast<float>(state.range(0)), true);
    std::vector<std::byte> payload;
    if (const std::string problem = setup.problem(values, payload); !problem.empty())
        return state.SkipWithError(problem.c_str());
    for (auto _ : state) {
        setup.codec->encode(values, setup.terms, payload);
        benchmark::DoNotOptimize(payload.data());
    }
    report(state, payload);
}

void grid_decode(benchmark::State& state, const char* coder, int width) {
    const std::vector<float> values = width == 0 ? update(1) : uniform(width);
    const Setup setup(coder, static_cast<float>(state.range(0)), true);
    std::vector<std::byte> payload;
    if (const std::string problem = setup.problem(values, payload); !problem.empty())
        return state.SkipWithError(problem.c_str());
    std::vector<float> decoded(kCount);
    for (auto _ : state) {
        setup.codec->decode(payload, setup.terms, decoded);
        benchmark::DoNotOptimize(decoded.data());
    }
    report(state, payload);
}

void grid_accumulate(benchmark::State& state, int width) {
    const std::vector<float> values = uniform(width);
    const Setup setup("packed", 1, false);
    std::vector<std::byte> payload;
    if (const std::string problem = setup.problem(values, payload); !problem.empty())
        return state.SkipWithError(problem.c_str());
    Sums sums;
    setup.codec->accumulate(payload, setup.terms, sums);
    std::vector<float> decoded(kCount);
    setup.codec->decode(payload, setup.terms, decoded);
    for (std::size_t i = 0; i < kCount; ++i)
        if (static_cast<float>(sums.values()[i]) != 3 * decoded[i])
            return state.SkipWithError("the sum is not that of the decoded values");
    for (auto _ : state) {
        setup.codec->accumulate(payload, setup.terms, sums);
        benchmark::DoNotOptimize(sums.values().data());
    }
    report(state, payload);
}

void updates(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgNames({"step"})->Arg(64)->Arg(16)->Arg(4)->Arg(1);
}

BENCHMARK_CAPTURE(grid_encode, packed_4, "packed", 4)->Arg(1);
BENCHMARK_CAPTURE(grid_encode, packed_8, "packed", 8)->Arg(1);
BENCHMARK_CAPTURE(grid_accumulate, packed_4, 4)->Arg(1);
BENCHMARK_CAPTURE(grid_accumulate, packed_8, 8)->Arg(1);
BENCHMARK_CAPTURE(grid_encode, packed, "packed", 0)->Apply(updates);
BENCHMARK_CAPTURE(grid_encode, zstd, "zstd", 0)->Apply(updates);
BENCHMARK_CAPTURE(grid_encode, context, "context", 0)->Apply(updates);
BENCHMARK_CAPTURE(grid_decode, packed, "packed", 0)->Apply(updates);
BENCHMARK_CAPTURE(grid_decode, zstd, "zstd", 0)->Apply(updates);
BENCHMARK_CAPTURE(grid_decode, context, "context", 0)->Apply(updates);

}  // namespace
}  // namespace dither
