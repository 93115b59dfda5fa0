#include "transport/detail/range_coder.hpp"

#include "core/rng.hpp"
#include "transport/detail/adaptive_bit.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <cmath>
#include <vector>

using namespace dither;
using namespace dither::detail;

namespace {

struct Symbol {
    std::uint32_t value;
    std::uint32_t probability;  ///< of a one; 0: four raw bits
};

std::vector<Symbol> draw(std::size_t count, std::uint32_t seed, std::uint32_t bias) {
    Stream stream(StreamKey{.seed = seed, .purpose = Purpose::test});
    std::vector<Symbol> symbols(count);
    for (Symbol& symbol : symbols) {
        if (stream.below(10) == 0) {
            symbol = {stream.below(16), 0};
            continue;
        }
        const std::uint32_t p = 1 + stream.below(65535) / (1 + stream.below(bias));
        symbol = {stream.below(65536) < p ? 1U : 0U, p};
    }
    return symbols;
}

template <typename Coder>
std::uint32_t code(Coder& coder, const Symbol& symbol) {
    return symbol.probability == 0 ? coder.code_raw(symbol.value, 4)
                                   : static_cast<std::uint32_t>(coder.code(symbol.value != 0, symbol.probability));
}

std::vector<std::byte> encoded(const std::vector<Symbol>& symbols) {
    std::vector<std::byte> bytes;
    RangeEncoder encoder(bytes);
    for (const Symbol& symbol : symbols)
        code(encoder, symbol);
    encoder.finish();
    return bytes;
}

bool decodes_to(std::span<const std::byte> bytes, const std::vector<Symbol>& symbols) {
    RangeDecoder decoder(bytes);
    bool equal = true;
    for (const Symbol& symbol : symbols)
        equal = (code(decoder, symbol) == symbol.value) && equal;
    return equal && decoder.at_end();
}

double information(const std::vector<Symbol>& symbols) {
    double bits = 0;
    for (const auto& [value, probability] : symbols) {
        const double p = probability / 65536.0;
        bits -= probability == 0 ? -4 : std::log2(value != 0 ? p : 1 - p);
    }
    return bits;
}

}  // namespace

TEST_SUITE("transport/detail/range_coder") {
    TEST_CASE("bits at any probabilities come back") {
        CHECK(rc::check([] {
            const auto symbols = draw(*rc::gen::inRange<std::size_t>(0, 3000), *rc::gen::arbitrary<std::uint32_t>(),
                                      *rc::gen::element(1U, 100U, 100'000U));
            return decodes_to(encoded(symbols), symbols);
        }));
    }

    TEST_CASE("carries ripple through bytes that were held back") {
        // The upper end of the interval again and again: 0xff bytes; then a little more.
        for (int ones = 0; ones < 40; ++ones) {
            std::vector<Symbol> symbols(60, Symbol{0, 65535});
            for (int i = 0; i < ones; ++i)
                symbols.push_back({1, 1});
            symbols.push_back({0, 1});
            symbols.insert(symbols.end(), 30, Symbol{0, 32768});
            CHECK(decodes_to(encoded(symbols), symbols));
        }
    }

    TEST_CASE("bytes are the information in the bits, and at most five more") {
        for (const std::uint32_t bias : {1U, 50U, 5000U}) {
            const auto symbols = draw(100'000, 3, bias);
            CHECK(static_cast<double>(encoded(symbols).size()) < information(symbols) / 8 * 1.001 + 5);
        }
    }

    TEST_CASE("bytes that are cut off or go on do not end as they must") {
        const auto symbols = draw(500, 4, 20);
        std::vector<std::byte> bytes = encoded(symbols);
        bytes.push_back(std::byte{0});
        CHECK_FALSE(decodes_to(bytes, symbols));
        bytes.pop_back();
        CHECK(decodes_to(bytes, symbols));
        while (!bytes.empty()) {
            bytes.pop_back();
            RangeDecoder decoder(bytes);
            for (const Symbol& symbol : symbols)
                code(decoder, symbol);
            CHECK_FALSE(decoder.at_end());
        }
    }
}

TEST_SUITE("transport/detail/adaptive_bit") {
    TEST_CASE("squash is the logistic function, and stretch its inverse") {
        for (std::int32_t x = -2500; x <= 2500; x += 7)
            CHECK(std::abs(squash(x) - 65536 / (1 + std::exp(-x / 256.0))) <= 0.501);
        CHECK(squash(-100'000) == squash(-kCertainty));
        CHECK(squash(100'000) == 65535);
        for (std::size_t i = 40; i < 4056; i += 9) {
            const double p = (static_cast<double>(i) + 0.5) / 4096;
            CHECK(std::abs(kStretch[i] - 256 * std::log(p / (1 - p))) <= 2);
        }
    }

    TEST_CASE("an adaptive bit learns how likely its bits are, also very rare ones") {
        for (const std::uint32_t rarity : {2U, 20U, 1000U}) {
            AdaptiveBit bit;
            Stream stream(StreamKey{.seed = rarity, .purpose = Purpose::test});
            double mean = 0;
            for (int i = 0; i < 20'000; ++i) {
                bit.learn(stream.below(rarity) == 0);
                mean += i < 10'000 ? 0 : bit.probability() / 65536.0 / 10'000;
            }
            CHECK(mean == doctest::Approx(1.0 / rarity).epsilon(0.3));
        }
    }

    TEST_CASE("a mixer comes to trust the input that knows") {
        Mixer mixer;
        Stream stream(StreamKey{.seed = 5, .purpose = Purpose::test});
        std::uint32_t chance = 0;
        for (int i = 0; i < 20'000; ++i) {
            const bool bit = stream.below(2) == 0;
            const std::int32_t knows = bit ? 300 : -300;
            const std::int32_t guesses = stream.below(2) == 0 ? 300 : -300;
            chance = mixer.mix(knows, guesses);
            mixer.learn(knows, guesses, (bit ? 65536 : 0) - static_cast<std::int32_t>(chance));
        }
        CHECK(mixer.mix(300, -300) > 60'000);
        CHECK(mixer.mix(-300, 300) < 5000);
    }
}
