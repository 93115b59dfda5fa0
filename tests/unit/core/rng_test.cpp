#include "core/rng.hpp"

#include "core/detail/philox.hpp"
#include "core/error.hpp"
#include "core/sha256.hpp"

#include <Random123/philox.h>
#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <random>
#include <set>
#include <span>
#include <vector>

using dither::Purpose;
using dither::Stream;
using dither::StreamKey;

static_assert(std::uniform_random_bit_generator<Stream>);

namespace {

using Words = std::vector<std::uint32_t>;

Words words_one_by_one(const StreamKey& key, std::size_t count) {
    Stream stream(key);
    Words words(count);
    std::generate(words.begin(), words.end(), std::ref(stream));
    return words;
}

std::vector<float> normals(const StreamKey& key, std::size_t count) {
    std::vector<float> values(count);
    Stream(key).fill_normal(values);
    return values;
}

double normal_cdf(double x) {
    return std::erfc(-x / std::numbers::sqrt2) / 2;
}

/// The largest distance between the empirical distribution of `values` and `cdf`, times sqrt(n): Kolmogorov's
/// statistic, which exceeds 1.95 once in a thousand samples.
template <typename Value, typename Cdf>
double kolmogorov(std::vector<Value> values, Cdf cdf) {
    std::sort(values.begin(), values.end());
    const auto n = static_cast<double>(values.size());
    double distance = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double expected = cdf(static_cast<double>(values[i]));
        const auto below = static_cast<double>(i);
        distance = std::max({distance, expected - below / n, (below + 1) / n - expected});
    }
    return distance * std::sqrt(n);
}

}  // namespace

TEST_SUITE("core/rng") {
    TEST_CASE("the generator is Philox4x32-10: Random123's known answers") {
        const auto block = philox4x32_R(10, philox4x32_ctr_t{{0, 0, 0, 0}}, philox4x32_key_t{{0, 0}});
        CHECK(block.v[0] == 0x6627e8d5);
        CHECK(block.v[1] == 0xe169c58d);
        CHECK(block.v[2] == 0xbc57ac4c);
        CHECK(block.v[3] == 0x9b00dbd8);
        const std::uint32_t ones = 0xffffffff;
        const auto last = philox4x32_R(10, philox4x32_ctr_t{{ones, ones, ones, ones}}, philox4x32_key_t{{ones, ones}});
        CHECK(last.v[0] == 0x408f276d);
        CHECK(last.v[1] == 0x41c83b0e);
        CHECK(last.v[2] == 0xa20bc7c6);
        CHECK(last.v[3] == 0x6d5451fd);
    }

    TEST_CASE("key and counter hold the fields where the header says") {
        const StreamKey key{.seed = 11, .purpose = Purpose::shuffle, .client = 22, .round = 33, .step = 44, .lane = 55};
        const Words words = words_one_by_one(key, 8);
        for (std::uint32_t block = 0; block < 2; ++block) {
            const auto expected =
                philox4x32_R(10, philox4x32_ctr_t{{block, 44, 33, 22}}, philox4x32_key_t{{11, 4U | 55U << 8}});
            for (std::size_t k = 0; k < 4; ++k)
                CHECK(words[4 * block + k] == expected.v[k]);
        }
    }

    TEST_CASE("bulk words are the words drawn one by one, for any length") {
        CHECK(rc::check([](const std::uint32_t seed, const std::uint32_t step) {
            const StreamKey key{.seed = seed, .step = step};
            Words words(*rc::gen::inRange<std::size_t>(0, 300));
            Stream(key).fill_words(words);
            RC_ASSERT(words == words_one_by_one(key, words.size()));
        }));
    }

    TEST_CASE("every instruction set gives Random123's words, also where the block index wraps around") {
        for (const auto& kernel : dither::detail::usable_philox_kernels()) {
            CAPTURE(kernel.instruction_set);
            CHECK(rc::check([&](const std::array<std::uint32_t, 2>& key, std::array<std::uint32_t, 4> counter) {
                if (*rc::gen::arbitrary<bool>())
                    counter[0] = 0U - *rc::gen::inRange<std::uint32_t>(0, 70);
                Words words(*rc::gen::inRange<std::size_t>(0, 300) + 1, 0xabcdef01);
                kernel.fill(key, counter, std::span(words).first(words.size() - 1));
                for (std::size_t i = 0; i + 1 < words.size(); ++i) {
                    const philox4x32_ctr_t place{
                        {counter[0] + static_cast<std::uint32_t>(i / 4), counter[1], counter[2], counter[3]}};
                    RC_ASSERT(words[i] == philox4x32_R(10, place, philox4x32_key_t{{key[0], key[1]}}).v[i % 4]);
                }
                RC_ASSERT(words.back() == 0xabcdef01);
            }));
        }
    }

    TEST_CASE("bulk halfwords are the halves of the words, the lower one first, for any length") {
        CHECK(rc::check([](const std::uint32_t seed) {
            const StreamKey key{.seed = seed};
            std::vector<std::uint16_t> halves(*rc::gen::inRange<std::size_t>(0, 2500));
            Stream stream(key);
            stream.fill_halfwords(halves);
            const std::size_t blocks = (halves.size() + 7) / 8;
            const Words words = words_one_by_one(key, 4 * blocks + 1);
            for (std::size_t i = 0; i < halves.size(); ++i)
                RC_ASSERT(halves[i] == static_cast<std::uint16_t>(words[i / 2] >> 16 * (i % 2)));
            RC_ASSERT(stream() == words.back());
        }));
    }

    TEST_CASE("bulk fills start at the next whole block and consume whole blocks") {
        const StreamKey key{.seed = 5};
        const Words reference = words_one_by_one(key, 20);
        Stream stream(key);
        stream();
        Words words(5);
        stream.fill_words(words);
        CHECK(std::equal(words.begin(), words.end(), reference.begin() + 4));
        CHECK(stream() == reference[12]);
    }

    TEST_CASE("a longer bulk fill begins with the shorter one") {
        const StreamKey key{.seed = 6};
        const std::vector<float> many = normals(key, 1000);
        for (const std::size_t count : {1, 2, 3, 31, 32, 33, 63, 64, 65, 511, 512, 513, 999}) {
            const std::vector<float> few = normals(key, count);
            CHECK(std::equal(few.begin(), few.end(), many.begin()));
        }
    }

    TEST_CASE("streams that differ in any one field of the key are different") {
        const StreamKey key{.seed = 1, .purpose = Purpose::test, .client = 2, .round = 3, .step = 4, .lane = 5};
        std::vector<StreamKey> keys(6, key);
        keys[0].seed = 9;
        keys[1].client = 9;
        keys[2].round = 9;
        keys[3].step = 9;
        keys[4].lane = 9;
        keys[5] = key.with(Purpose::shuffle, key.lane);
        keys.push_back(key);
        std::set<Words> distinct;
        for (const StreamKey& k : keys)
            distinct.insert(words_one_by_one(k, 4));
        CHECK(distinct.size() == keys.size());
    }

    TEST_CASE("a lane that would overlap the purpose is refused") {
        CHECK_NOTHROW(Stream(StreamKey{.lane = (1U << 24) - 1}));
        CHECK_THROWS_AS(Stream(StreamKey{.lane = 1U << 24}), dither::PreconditionError);
    }

    TEST_CASE("uniform numbers are the upper 24 bits of the words, in [0, 1)") {
        const StreamKey key{.seed = 7};
        const Words words = words_one_by_one(key, 1000);
        std::vector<float> values(words.size());
        Stream(key).fill_uniform(values);
        Stream one_by_one(key);
        for (std::size_t i = 0; i < words.size(); ++i) {
            CHECK(values[i] == static_cast<float>(words[i] >> 8) / 16777216.0F);
            CHECK(values[i] == one_by_one.uniform());
        }
        CHECK(*std::max_element(values.begin(), values.end()) < 1.0F);
    }

    TEST_CASE("uniform numbers are uniform") {
        std::vector<float> values(100'000);
        Stream(StreamKey{.seed = 8}).fill_uniform(values);
        CHECK(kolmogorov(values, [](double x) { return x; }) < 1.95);
    }

    TEST_CASE("normal numbers follow the normal distribution, in bulk and one by one") {
        CHECK(kolmogorov(normals({.seed = 9}, 200'000), normal_cdf) < 1.95);
        std::vector<double> values(50'000);
        Stream stream(StreamKey{.seed = 10});
        std::generate(values.begin(), values.end(), [&] { return stream.normal(); });
        CHECK(kolmogorov(values, normal_cdf) < 1.95);
    }

    TEST_CASE("normal numbers have the moments and the tails of the normal distribution") {
        const std::vector<float> values = normals({.seed = 11}, 1 << 22);
        const auto n = static_cast<double>(values.size());
        std::array<double, 5> moments{};
        double beyond_four = 0;
        for (const double x : values) {
            for (std::size_t k = 1; k < moments.size(); ++k)
                moments[k] += std::pow(x, static_cast<double>(k)) / n;
            beyond_four += std::abs(x) > 4;
        }
        // Five standard deviations of each estimate; the variance of x^k is E[x^2k] - E[x^k]^2.
        CHECK(std::abs(moments[1]) < 5 * std::sqrt(1 / n));
        CHECK(std::abs(moments[2] - 1) < 5 * std::sqrt(2 / n));
        CHECK(std::abs(moments[3]) < 5 * std::sqrt(15 / n));
        CHECK(std::abs(moments[4] - 3) < 5 * std::sqrt(96 / n));
        const double expected = n * 2 * normal_cdf(-4);
        CHECK(std::abs(beyond_four - expected) < 5 * std::sqrt(expected));
        CHECK(*std::max_element(values.begin(), values.end()) > 4.5F);
    }

    TEST_CASE("the two normal numbers of a pair are independent") {
        const std::vector<float> values = normals({.seed = 12}, 1 << 20);
        double product = 0, squares = 0;
        for (std::size_t i = 0; i < values.size(); i += 2) {
            product += static_cast<double>(values[i]) * values[i + 1];
            squares += (std::pow(values[i], 2) - 1) * (std::pow(values[i + 1], 2) - 1);
        }
        const double pairs = static_cast<double>(values.size()) / 2;
        CHECK(std::abs(product) < 5 * std::sqrt(pairs));
        CHECK(std::abs(squares) < 5 * 2 * std::sqrt(pairs));
    }

    TEST_CASE("bulk normal numbers are within rounding of Box and Muller's formula") {
        const StreamKey key{.seed = 13};
        const std::vector<float> values = normals(key, 1 << 18);
        const Words words = words_one_by_one(key, values.size());
        double worst = 0;
        for (std::size_t i = 0; i < values.size(); i += 2) {
            const double r = std::sqrt(-2 * std::log(((words[i] >> 1) + 0.5) / 2147483648.0));
            const double a = std::numbers::pi / 4 * static_cast<std::int32_t>(words[i + 1] << 2) / 2147483648.0;
            double x = words[i + 1] >> 31 != 0 ? -std::cos(a) : std::cos(a);
            double y = std::sin(a);
            if ((words[i + 1] >> 30 & 1) != 0)
                std::swap(x, y);
            worst = std::max({worst, std::min(r, 1.0) * std::abs(values[i] - r * x),
                              std::min(r, 1.0) * std::abs(values[i + 1] - r * y)});
        }
        CHECK(worst < 1e-6);
    }

    TEST_CASE("bulk normal numbers have the same bits on every processor") {
        CHECK(dither::to_hex(dither::sha256(normals({.seed = 14}, 100'000))) ==
              "2a29af5aeac7314049e074c95c6779a8954fe30838222282bd44ffa7d557662f");
    }

    TEST_CASE("a Rademacher number is the sign that bit 31 of its word gives") {
        const StreamKey key{.seed = 19};
        const Words words = words_one_by_one(key, 1001);
        std::vector<float> values(words.size());
        Stream(key).fill_rademacher(values);
        for (std::size_t i = 0; i < words.size(); ++i)
            CHECK(values[i] == (words[i] >> 31 != 0 ? -1.0F : 1.0F));
    }

    TEST_CASE("Rademacher numbers are -1 and +1 in equal parts") {
        std::vector<float> values(100'000);
        Stream(StreamKey{.seed = 15}).fill_rademacher(values);
        CHECK(std::all_of(values.begin(), values.end(), [](float x) { return std::abs(x) == 1; }));
        CHECK(std::abs(std::accumulate(values.begin(), values.end(), 0.0)) < 5 * std::sqrt(100'000.0));
    }

    TEST_CASE("numbers below a bound are uniform") {
        constexpr std::uint32_t kBound = 7;
        constexpr int kDraws = 70'000;
        std::array<int, kBound> counts{};
        Stream stream(StreamKey{.seed = 16});
        for (int i = 0; i < kDraws; ++i)
            ++counts.at(stream.below(kBound));
        double chi_square = 0;
        for (const int count : counts)
            chi_square += std::pow(count - kDraws / 7.0, 2) / (kDraws / 7.0);
        CHECK(chi_square < 22.5);  // 6 degrees of freedom, p = 0.001
    }

    TEST_CASE("numbers below a bound that does not divide 2^32 have no bias") {
        // Without rejection, words * 3/4 * 2^32 would make every third value twice as likely.
        constexpr std::uint32_t kBound = 3U << 30;
        std::array<int, 3> counts{};
        Stream stream(StreamKey{.seed = 17});
        for (int i = 0; i < 30'000; ++i)
            ++counts.at(stream.below(kBound) % 3);
        for (const int count : counts)
            CHECK(std::abs(count - 10'000) < 5 * std::sqrt(30'000 * 2.0 / 9));
        CHECK(stream.below(1) == 0);
        CHECK_THROWS_AS(stream.below(0), dither::PreconditionError);
    }

    TEST_CASE("a shuffle is a permutation, and each is equally likely") {
        std::array<int, 24> counts{};
        Stream stream(StreamKey{.seed = 18});
        for (int i = 0; i < 24'000; ++i) {
            Words items{0, 1, 2, 3};
            stream.shuffle(items);
            Words sorted{0, 1, 2, 3};
            std::size_t rank = 0;
            while (sorted != items) {
                REQUIRE(std::next_permutation(sorted.begin(), sorted.end()));
                ++rank;
            }
            ++counts.at(rank);
        }
        double chi_square = 0;
        for (const int count : counts)
            chi_square += std::pow(count - 1000, 2) / 1000;
        CHECK(chi_square < 49.7);  // 23 degrees of freedom, p = 0.001
    }
}
