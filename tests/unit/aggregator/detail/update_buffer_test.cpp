#include "aggregator/detail/update_buffer.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "tests/unit/aggregator/fixtures.hpp"

#include <array>
#include <cmath>
#include <span>

#include <doctest/doctest.h>

using namespace dither;
using namespace dither::test;

namespace {

struct Federation {
    std::unique_ptr<Codec> codec =
        make_codec(CodecOptions{.kind = "grid", .bits = 8, .coder = "packed"}, small_schema());
    UpdateBuffer buffer{*codec, 1};
    Accumulator sums{small_schema()};

    /// An update that is `value` everywhere, which lies on the grid.
    void keep(std::uint32_t client, std::uint32_t round, std::uint64_t weight, float value, float step) {
        const std::array<float, 2> steps{step, step};
        const std::vector<float> update(small_schema().parameters(), value);
        const Terms terms{.steps = steps,
                          .key = {.seed = 1, .purpose = Purpose::uplink_rounding, .client = client, .round = round}};
        UpdateBuffer::Entry entry{.report = {.client = client, .round = round, .weight = weight}, .largest = {0, 0}};
        codec->encode(update, terms, entry.payload);
        entry.report.update_norm = std::sqrt(codec->validate(entry.payload, terms, entry.largest));
        buffer.keep(std::move(entry));
    }
    void begin(std::uint32_t round, float step) { buffer.begin(round, std::array<float, 2>{step, step}, nullptr); }
    float mean(const NormBound& bound = NormBound()) {
        buffer.mean(sums, bound);
        for (const float value : sums.memory())
            CHECK(value == sums.memory()[0]);
        return sums.memory()[0];
    }
};

}  // namespace

TEST_SUITE("aggregator/detail/update_buffer") {
    TEST_CASE("stale updates count for 1 / sqrt(1 + staleness) of a mean over all weights") {
        Federation federation;
        federation.begin(1, 0.5F);
        federation.keep(7, 1, 30, 2, 0.5F);
        federation.keep(3, 1, 10, -1, 0.5F);
        federation.begin(2, 0.25F);
        federation.keep(1, 2, 20, 0.75F, 0.25F);
        federation.begin(4, 1);
        federation.keep(2, 4, 40, 5, 1);
        for (const std::uint32_t client : {2U, 7U, 1U, 3U})
            federation.buffer.count(client);
        const double expected = (40 * 5.0 + 20 * 0.75 / std::sqrt(3.0) + (30 * 2.0 - 10) / std::sqrt(4.0)) / 100;
        CHECK(federation.mean() == doctest::Approx(expected).epsilon(1e-6));
    }

    TEST_CASE("only what a round counts is in its mean, and the rest waits") {
        Federation federation;
        federation.begin(1, 1);
        federation.keep(0, 1, 1, 2, 1);
        federation.keep(1, 1, 1, 4, 1);
        federation.buffer.count(0);
        CHECK(federation.mean() == 2);
        federation.begin(2, 1);
        CHECK(federation.buffer.find(0) == nullptr);
        REQUIRE(federation.buffer.find(1) != nullptr);
        CHECK(federation.buffer.find(1)->round == 1);
        federation.keep(0, 2, 1, 6, 1);
        federation.buffer.count(1);
        CHECK(federation.mean() == doctest::Approx(4 / std::sqrt(2.0)).epsilon(1e-6));
        federation.buffer.drop(0);
        CHECK(federation.buffer.find(0) == nullptr);
    }

    TEST_CASE("an update that is longer than the bound counts for less, however stale") {
        Federation federation;
        federation.begin(1, 1);
        federation.keep(0, 1, 1000, 4, 1);  // of norm 4 sqrt(8)
        federation.begin(2, 1);
        federation.buffer.count(0);
        NormBound bound(1);
        bound.restore(std::sqrt(8.0));
        CHECK(federation.mean(bound) == doctest::Approx(1 / std::sqrt(2.0)).epsilon(1e-3));
    }

    TEST_CASE("the order in which updates come and are counted does not show") {
        std::array<std::array<float, 8>, 2> means{};
        for (const bool backward : {false, true}) {
            Federation federation;
            for (const std::uint32_t round : {1U, 2U}) {
                federation.begin(round, 0.125F);
                for (std::uint32_t i = 0; i < 5; ++i) {
                    const std::uint32_t client = 5 * round + (backward ? 4 - i : i);
                    federation.keep(client, round, 10 + client, 0.125F * static_cast<float>(client), 0.125F);
                }
            }
            for (std::uint32_t i = 0; i < 10; ++i)
                federation.buffer.count(5 + (backward ? 9 - i : i));
            federation.buffer.mean(federation.sums, NormBound());
            std::ranges::copy(federation.sums.memory(), means[backward ? 1 : 0].begin());
        }
        CHECK(means[0] == means[1]);
    }

    TEST_CASE("a client has one update, of the round that runs") {
        Federation federation;
        federation.begin(2, 1);
        federation.keep(0, 2, 1, 1, 1);
        CHECK_THROWS_AS(federation.keep(0, 2, 1, 1, 1), PreconditionError);
        CHECK_THROWS_AS(federation.keep(1, 1, 1, 1, 1), PreconditionError);
        federation.buffer.clear();
        CHECK(federation.buffer.find(0) == nullptr);
    }
}
