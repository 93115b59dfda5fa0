// What every codec promises, whatever its kind.
#include "core/sha256.hpp"
#include "tests/unit/transport/codecs.hpp"

#include <functional>
#include <numeric>
#include <optional>

using namespace dither;
using namespace dither::test;

namespace {

const std::vector<CodecOptions> kAllCodecs{
    {.kind = "raw"},
    {.kind = "fp16"},
    {.kind = "bf16"},
    {.kind = "grid", .coder = "packed"},
    {.kind = "grid", .coder = "zstd"},
    {.kind = "grid", .coder = "context"},
    {.kind = "qsgd"},
    {.kind = "qsgd", .bits = 2},
    {.kind = "qsgd", .bits = 13},
    {.kind = "terngrad"},
    {.kind = "sign"},
    {.kind = "topk"},
    {.kind = "topk", .share = 1},
    {.kind = "eden"},
    {.kind = "eden", .rate = 0.4},
    {.kind = "eden", .rate = 4},
    {.kind = "trellis"},
    {.kind = "trellis", .rate = 3},
};

/// A codec with its schema and terms: what one end of a connection has.
struct End {
    explicit End(const CodecOptions& options) : codec(make_codec(options, schema)) {}

    Terms terms(std::uint32_t client = 0) const {
        return {.steps = steps, .key = {.seed = 7, .purpose = Purpose::uplink_rounding, .client = client, .round = 3}};
    }
    Bytes encode(std::span<const float> values, std::uint32_t client = 0) const {
        return encoded(*codec, values, terms(client));
    }

    Schema schema = schema_of({900, 1, 5000, 64, 7});
    std::vector<float> steps{0.01F, 1e-4F, 0.5F, 0x1p-10F, 3};
    std::unique_ptr<Codec> codec;
};

void for_each_codec(const std::function<void(const CodecOptions&)>& test) {
    for (const CodecOptions& options : kAllCodecs) {
        CAPTURE(options.kind);
        CAPTURE(options.coder);
        CAPTURE(options.bits);
        CAPTURE(options.rate);
        test(options);
    }
}

std::vector<std::vector<float>> odd_values(std::size_t count) {
    std::vector<std::vector<float>> all{std::vector<float>(count, 0.0F), std::vector<float>(count, -0.125F),
                                        normal_values(count, 1), normal_values(count, 2, 1e-6F),
                                        normal_values(count, 3, 1e4F)};
    std::vector<float> lonely(count);
    lonely[count / 2] = -1;
    all.push_back(lonely);
    std::vector<float> uniform(count);
    Stream stream(key_of(4));
    for (float& value : uniform)
        value = (stream.uniform() - 0.5F) * 60'000;
    all.push_back(uniform);
    return all;
}

/// Empty if the payload is one.
std::optional<std::string> problem_of(const End& end, const Bytes& payload) {
    std::vector<std::uint64_t> largest(end.schema.layer_count());
    try {
        end.codec->validate(payload, end.terms(), largest);
    } catch (const FormatError& error) {
        return error.what();
    }
    return std::nullopt;
}

bool decodes(const End& end, const Bytes& payload) {
    std::vector<float> values(end.schema.parameters());
    try {
        end.codec->decode(payload, end.terms(), values);
    } catch (const FormatError&) {
        return false;
    }
    return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

void mutate(Bytes& payload, Stream& stream) {
    const auto size = static_cast<std::uint32_t>(payload.size());
    switch (stream.below(4)) {
        case 0:
            payload.resize(stream.below(size + 1));
            break;
        case 1:
            payload.insert(payload.begin() + stream.below(size + 1), static_cast<std::byte>(stream()));
            break;
        default:
            for (std::uint32_t i = 0; i <= stream.below(4); ++i)
                payload[stream.below(size)] = static_cast<std::byte>(stream());
    }
}

}  // namespace

TEST_SUITE("transport/codec/properties") {
    TEST_CASE("decode, validate and accumulate tell the same story, and payloads keep to their bound") {
        for_each_codec([](const CodecOptions& options) {
            const End sender(options);
            const End receiver(options);
            for (const std::vector<float>& values : odd_values(sender.schema.parameters())) {
                const Bytes payload = sender.encode(values);
                CHECK(payload.size() <= 4 * sender.schema.parameters() + 64 * sender.schema.layer_count());
                check_consistent(*receiver.codec, receiver.schema, payload, receiver.terms());
            }
        });
    }

    TEST_CASE("the sum of weighted updates is the same bits in every order of arrival") {
        for_each_codec([](const CodecOptions& options) {
            constexpr std::uint32_t kClients = 9;
            const End end(options);
            std::vector<std::vector<std::int64_t>> updates;
            for (std::uint32_t client = 0; client < kClients; ++client) {
                const auto values = normal_values(end.schema.parameters(), client, 0.01F);
                updates.push_back(integers(*end.codec, end.schema, end.encode(values, client), end.terms(client)));
            }
            std::vector<std::uint32_t> order(kClients);
            std::iota(order.begin(), order.end(), 0U);
            const auto sum = [&] {
                std::vector<std::int64_t> sums(end.schema.parameters());
                for (const std::uint32_t client : order)
                    for (std::size_t j = 0; j < sums.size(); ++j)
                        sums[j] += (1 + client) * updates[client][j];
                return sums;
            };
            const auto expected = sum();
            Stream stream(key_of(1));
            for (int trial = 0; trial < 5; ++trial) {
                stream.shuffle(order);
                CHECK(sum() == expected);
            }
        });
    }

    TEST_CASE("payloads are a pure function of values, steps and key") {
        for_each_codec([](const CodecOptions& options) {
            const End end(options);
            const auto values = normal_values(end.schema.parameters(), 5);
            CHECK(end.encode(values, 3) == End(options).encode(values, 3));
        });
    }

    TEST_CASE("payloads are the same bits on every machine") {
        const auto digest_of = [](const CodecOptions& options) {
            const End end(options);
            const Bytes payload = end.encode(normal_values(end.schema.parameters(), 10, 0.01F), 5);
            return to_hex(sha256({reinterpret_cast<const char*>(payload.data()), payload.size()})).substr(0, 16);
        };
        CHECK(digest_of({.kind = "raw"}) == "db3bba755d20a60e");
        CHECK(digest_of({.kind = "fp16"}) == "d262caa7c1bcd6d9");
        CHECK(digest_of({.kind = "bf16"}) == "ffb049e1ec65fe3e");
        CHECK(digest_of({.kind = "qsgd"}) == "b56b1d813b6f1f44");
        CHECK(digest_of({.kind = "qsgd", .bits = 2}) == "152f664af7f2053a");
        CHECK(digest_of({.kind = "terngrad"}) == "ffdbff80c3803326");
        CHECK(digest_of({.kind = "sign"}) == "786af1c72653c10e");
        CHECK(digest_of({.kind = "topk"}) == "defbbb9e09df80bb");
    }

    TEST_CASE("values that are not finite are training errors") {
        for_each_codec([](const CodecOptions& options) {
            const End end(options);
            for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()})
                for (const std::size_t place : {std::size_t{0}, end.schema.parameters() - 1}) {
                    auto values = normal_values(end.schema.parameters(), 6);
                    values[place] = bad;
                    CHECK_THROWS_AS(end.encode(values), TrainingError);
                }
        });
    }

    TEST_CASE("payloads that are cut off or go on are refused") {
        for_each_codec([](const CodecOptions& options) {
            const End end(options);
            const Bytes good = end.encode(normal_values(end.schema.parameters(), 7));
            CHECK_FALSE(problem_of(end, good));
            for (const std::size_t size : {std::size_t{0}, std::size_t{1}, good.size() / 2, good.size() - 1}) {
                const Bytes cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
                CHECK(problem_of(end, cut));
                CHECK_FALSE(decodes(end, cut));
            }
            Bytes longer = good;
            longer.push_back(std::byte{0});
            CHECK(problem_of(end, longer));
            CHECK_FALSE(decodes(end, longer));
        });
    }

    TEST_CASE("whatever bytes pass validation decode to finite values and to integers within its bound") {
        for_each_codec([](const CodecOptions& options) {
            const End end(options);
            const Bytes good = end.encode(normal_values(end.schema.parameters(), 8));
            Stream stream(key_of(9));
            for (int trial = 0; trial < 300; ++trial) {
                Bytes payload = good;
                mutate(payload, stream);
                if (const auto problem = problem_of(end, payload)) {
                    CHECK(problem->starts_with(end.codec->name()));
                    continue;
                }
                CHECK(decodes(end, payload));
                if (trial % 10 == 0)
                    check_consistent(*end.codec, end.schema, payload, end.terms());
            }
        });
    }
}
