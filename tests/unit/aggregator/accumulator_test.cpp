#include "aggregator/accumulator.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "tests/unit/aggregator/fixtures.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include <doctest/doctest.h>
#include <rapidcheck.h>

using namespace dither;
using test::small_schema;

namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();

constexpr std::array<float, 2> kSteps{0.01F, 0.25F};

struct Client {
    std::uint64_t weight = 1;
    std::uint32_t number = 0;
    std::vector<std::byte> payload;

    Terms terms() const { return {.steps = kSteps, .key = {.purpose = Purpose::uplink_rounding, .client = number}}; }
};

const std::vector<CodecOptions>& codecs() {
    static const std::vector<CodecOptions> options{
        {.kind = "raw"}, {.kind = "grid", .coder = "packed"}, {.kind = "grid", .coder = "context"}};
    return options;
}

std::vector<Client> draw_clients(const Codec& codec) {
    std::vector<Client> clients(static_cast<std::size_t>(*rc::gen::inRange(1, 6)));
    const auto heaviest = *rc::gen::element<std::uint64_t>(1, 1000, 1 << 20);  // 32 bits do, for some layers, for none
    for (std::uint32_t number = 0; Client & client : clients) {
        std::vector<float> values;
        for (std::size_t i = 0; i < small_schema().parameters(); ++i)
            values.push_back(static_cast<float>(*rc::gen::inRange(-1'000'000, 1'000'000)) * 1e-6F);
        client.weight = *rc::gen::inRange<std::uint64_t>(1, heaviest + 1);
        client.number = number++;
        codec.encode(values, client.terms(), client.payload);
    }
    return clients;
}

std::vector<std::size_t> order_of_arrival(const std::vector<Client>& clients) {
    std::vector<std::size_t> order(clients.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    return order;
}

std::vector<float> mean_of(const Codec& codec, const std::vector<Client>& clients,
                           const std::vector<std::size_t>& order) {
    Accumulator accumulator(small_schema());
    accumulator.reset(clients.size());
    std::array<std::uint64_t, 2> largest{};
    for (const std::size_t index : order) {
        const Client& client = clients[index];
        codec.validate(client.payload, client.terms(), largest);
        if (accumulator.refusal(largest, client.weight).empty())
            accumulator.add(codec, client.terms(), client.payload, largest, client.weight);
    }
    std::vector<float> mean(small_schema().parameters());
    accumulator.mean(codec, kSteps, mean);
    return mean;
}

/// The same in 64 bits throughout.
class WideSink final : public IntegerSink {
public:
    WideSink(std::vector<std::int64_t>& sums, std::uint64_t weight)
        : sums_(sums), weight_(static_cast<std::int64_t>(weight)) {}

    void add(std::size_t layer, std::size_t offset, std::span<const std::int32_t> codes) override {
        add_all(layer, offset, codes);
    }
    void add(std::size_t layer, std::size_t offset, std::span<const std::int64_t> codes) override {
        add_all(layer, offset, codes);
    }

private:
    void add_all(std::size_t layer, std::size_t offset, const auto& codes) {
        for (std::size_t i = 0; i < codes.size(); ++i)
            sums_[small_schema().layers()[layer].offset + offset + i] += weight_ * codes[i];
    }

    std::vector<std::int64_t>& sums_;
    std::int64_t weight_;
};

std::vector<float> mean_in_64_bits(const Codec& codec, const std::vector<Client>& clients) {
    std::vector<std::int64_t> sums(small_schema().parameters());
    std::uint64_t total = 0;
    for (const Client& client : clients) {
        WideSink sink(sums, client.weight);
        codec.accumulate(client.payload, client.terms(), sink);
        total += client.weight;
    }
    std::vector<float> mean;
    for (std::size_t j = 0; j < sums.size(); ++j) {
        const double unit = codec.unit(j < 5 ? 0 : 1, kSteps);
        mean.push_back(static_cast<float>(unit / static_cast<double>(total) * static_cast<double>(sums[j])));
    }
    return mean;
}

std::vector<float> weighted_mean_of_decoded(const Codec& codec, const std::vector<Client>& clients) {
    std::vector<double> sums(small_schema().parameters());
    double total = 0;
    std::vector<float> values(sums.size());
    for (const Client& client : clients) {
        codec.decode(client.payload, client.terms(), values);
        for (std::size_t j = 0; j < sums.size(); ++j)
            sums[j] += static_cast<double>(client.weight) * values[j];
        total += static_cast<double>(client.weight);
    }
    for (std::size_t j = 0; j < sums.size(); ++j)
        values[j] = static_cast<float>(sums[j] / total);
    return values;
}

}  // namespace

TEST_SUITE("aggregator/accumulator") {
    TEST_CASE("the mean update is bit-identical for any order of arrival and any width of the sums") {
        for (const CodecOptions& options : codecs()) {
            const auto codec = make_codec(options, small_schema());
            CAPTURE(options.kind);
            CAPTURE(options.coder);
            CHECK(rc::check([&] {
                const auto clients = draw_clients(*codec);
                auto order = order_of_arrival(clients);
                const auto expected = mean_in_64_bits(*codec, clients);
                RC_ASSERT(mean_of(*codec, clients, order) == expected);
                for (std::size_t i = order.size(); i > 1; --i)
                    std::swap(order[i - 1], order[static_cast<std::size_t>(*rc::gen::inRange<int>(0, int(i)))]);
                RC_ASSERT(mean_of(*codec, clients, order) == expected);
            }));
        }
    }

    TEST_CASE("a sum serves one round after the other, whatever the widths of the last") {
        const auto codec = make_codec({.kind = "grid", .coder = "packed"}, small_schema());
        Client client;
        codec->encode(std::vector<float>(small_schema().parameters(), -0.5F), client.terms(), client.payload);
        std::array<std::uint64_t, 2> largest{};
        codec->validate(client.payload, client.terms(), largest);
        Accumulator accumulator(small_schema());
        std::vector<float> mean(small_schema().parameters());
        for (const std::uint64_t weight : {1ULL, 1ULL << 40, 1ULL << 28, 1ULL, 1ULL}) {
            accumulator.reset(2);
            for (int update = 0; update < 2; ++update)
                accumulator.add(*codec, client.terms(), client.payload, largest, weight);
            accumulator.mean(*codec, kSteps, mean);
            for (const float value : mean)
                CHECK(value == doctest::Approx(-0.5));
        }
    }

    TEST_CASE("the mean is the weighted mean of what the clients' payloads decode to") {
        for (const CodecOptions& options : codecs()) {
            const auto codec = make_codec(options, small_schema());
            CAPTURE(options.kind);
            CAPTURE(options.coder);
            CHECK(rc::check([&] {
                const auto clients = draw_clients(*codec);
                const auto mean = mean_of(*codec, clients, order_of_arrival(clients));
                const auto expected = weighted_mean_of_decoded(*codec, clients);
                for (std::size_t j = 0; j < mean.size(); ++j)
                    RC_ASSERT(std::abs(mean[j] - expected[j]) <= 1e-6F * (1 + std::abs(expected[j])));
            }));
        }
    }

    TEST_CASE("an update may count for less than it weighs, and for nothing at all") {
        const auto codec = make_codec({.kind = "grid", .coder = "packed"}, small_schema());
        Client client;
        codec->encode(std::vector<float>(small_schema().parameters(), 0.5F), client.terms(), client.payload);
        std::array<std::uint64_t, 2> largest{};
        codec->validate(client.payload, client.terms(), largest);
        Accumulator accumulator(small_schema());
        accumulator.reset(4);
        accumulator.add(*codec, client.terms(), client.payload, largest, 10, 10);
        accumulator.add(*codec, client.terms(), client.payload, largest, 10, 5);
        accumulator.add(*codec, client.terms(), client.payload, largest, 20, 0);
        CHECK_THROWS_AS(accumulator.add(*codec, client.terms(), client.payload, largest, 10, 11), PreconditionError);
        CHECK(accumulator.total_weight() == 40);
        for (const float value : accumulator.mean(*codec, kSteps))
            CHECK(value == doctest::Approx(0.5 * 15 / 40));
    }

    TEST_CASE("a weight or a code that could overflow the sum is refused before anything is added") {
        const Accumulator accumulator(small_schema());
        const auto refusal = [&](std::uint64_t first, std::uint64_t second, std::uint64_t weight) {
            return accumulator.refusal(std::array{first, second}, weight);
        };
        CHECK(refusal(0, 0, 1).empty());
        CHECK(refusal(kMax, kMax, 1).empty());
        CHECK(refusal(1, 1, kMax).empty());
        CHECK(refusal(1, 1, 0).find("weight 0") != std::string::npos);
        CHECK(refusal(1, 1, kMax + 1).find("weight") != std::string::npos);
        CHECK(refusal(1, kMax / 2 + 1, 2).find("layer fc2") != std::string::npos);
        CHECK(refusal(kMax + 1, 1, 1).find("layer fc1") != std::string::npos);
        CHECK(refusal(std::uint64_t{1} << 63, 1, 2).find("layer fc1") != std::string::npos);  // product wraps to 0
    }

    TEST_CASE("who is accepted, and the mean, are the same for any order even when one client claims all it can") {
        const auto codec = make_codec({.kind = "grid", .coder = "packed"}, small_schema());
        CHECK(rc::check([&] {
            auto clients = draw_clients(*codec);
            Client greedy = clients.front();
            greedy.weight = *rc::gen::element(kMax / 200, kMax / 1000, kMax, std::uint64_t{1} << 50);
            clients.push_back(greedy);
            auto order = order_of_arrival(clients);
            const auto expected = mean_of(*codec, clients, order);
            std::reverse(order.begin(), order.end());
            RC_ASSERT(mean_of(*codec, clients, order) == expected);
            std::rotate(order.begin(), order.begin() + 1, order.end());
            RC_ASSERT(mean_of(*codec, clients, order) == expected);
        }));
    }

    TEST_CASE("every update has an equal share of the range, whatever came before it") {
        const auto codec = make_codec({.kind = "grid", .coder = "packed"}, small_schema());
        std::vector<float> values(small_schema().parameters(), 0.25F);
        std::vector<std::byte> payload;
        codec->encode(values, {.steps = kSteps}, payload);
        std::array<std::uint64_t, 2> largest{};
        codec->validate(payload, {.steps = kSteps}, largest);
        CHECK(largest == std::array<std::uint64_t, 2>{25, 1});

        Accumulator accumulator(small_schema());
        accumulator.reset(2);
        const std::uint64_t most = kMax / 2 / 25;
        for (int update = 0; update < 2; ++update) {
            CHECK(accumulator.refusal(largest, most).empty());
            CHECK_FALSE(accumulator.refusal(largest, most + 1).empty());
            CHECK_THROWS_AS(accumulator.add(*codec, {.steps = kSteps}, payload, largest, most + 1), PreconditionError);
            accumulator.add(*codec, {.steps = kSteps}, payload, largest, most);
        }
        CHECK(accumulator.total_weight() == 2 * most);
        CHECK_THROWS_AS(accumulator.add(*codec, {.steps = kSteps}, payload, largest, 1), PreconditionError);
        std::vector<float> mean(values.size());
        accumulator.mean(*codec, kSteps, mean);
        CHECK(mean[0] == doctest::Approx(0.25));
        accumulator.reset(1);
        CHECK(accumulator.total_weight() == 0);
        CHECK(accumulator.refusal(largest, most + 1).empty());
    }

    TEST_CASE("there is no mean of nothing") {
        const auto codec = make_codec({.kind = "raw"}, small_schema());
        std::vector<float> mean(small_schema().parameters());
        CHECK_THROWS_AS(Accumulator(small_schema()).mean(*codec, kSteps, mean), PreconditionError);
    }
}
