// eden and trellis: what a rotation, a quantizer and one scale a layer promise together.
#include "core/sha256.hpp"
#include "core/vector_math.hpp"
#include "tests/unit/transport/codecs.hpp"
#include "transport/detail/rotated_layer.hpp"
#include "transport/expectation.hpp"

#include <rapidcheck.h>

using namespace dither;
using namespace dither::test;

namespace {

constexpr std::array kKinds{"eden", "trellis"};

std::unique_ptr<Codec> codec_of(const char* kind, double rate, const Schema& schema) {
    return make_codec(CodecOptions{.kind = kind, .rate = rate}, schema);
}

std::vector<float> lognormal_values(std::size_t count, std::uint32_t seed) {
    auto values = normal_values(count, seed);
    exponentials(values, values);
    return values;
}

struct Errors {
    double single = 0;   ///< mean vNMSE of one client
    double of_mean = 0;  ///< n * NMSE of the mean of n clients
};

/// Many clients send the same values.
Errors errors_of(const Codec& codec, std::span<const float> values, std::uint32_t clients,
                 const Expectation* expectation = nullptr) {
    std::vector<double> mean(values.size());
    Errors errors;
    for (std::uint32_t client = 0; client < clients; ++client) {
        const Terms terms{.key = {.seed = 11, .purpose = Purpose::uplink_rounding, .client = client},
                          .expectation = expectation};
        const auto back = decoded(codec, encoded(codec, values, terms), values.size(), terms);
        errors.single += distortion(values, back) / clients;
        for (std::size_t i = 0; i < values.size(); ++i)
            mean[i] += static_cast<double>(back[i]) / clients;
    }
    double error = 0;
    for (std::size_t i = 0; i < values.size(); ++i)
        error += std::pow(mean[i] - static_cast<double>(values[i]), 2);
    errors.of_mean = clients * error / squared_norm(values);
    return errors;
}

}  // namespace

TEST_SUITE("transport/rotated_codecs") {
    TEST_CASE("any number of values comes back, about as well as its bits allow") {
        rc::check([] {
            const auto count = *rc::gen::inRange<std::size_t>(1, 5001);
            const Schema schema = schema_of({count});
            const Terms terms{.key = key_of(*rc::gen::arbitrary<std::uint32_t>())};
            const auto values = normal_values(count, 3);
            for (const char* kind : kKinds) {
                const auto codec = codec_of(kind, 4, schema);
                const Bytes payload = encoded(*codec, values, terms);
                const auto back = decoded(*codec, payload, count, terms);
                // Of 16 bytes of the smallest layers a trellis' header takes 10.
                RC_ASSERT(distortion(values, back) < (count < 100 ? 1.0 : count < 400 ? 0.08 : 0.02));
                RC_ASSERT(payload.size() <= std::max(count / 2 + 8, 4 * detail::kFewestRotated));
            }
        });
    }

    TEST_CASE("a single scale makes the product with the values exact") {
        const Schema schema = schema_of({3000});
        const auto values = normal_values(3000, 4);
        for (const char* kind : kKinds)
            for (const double rate : {0.3, 1.0, 2.5}) {
                const auto codec = codec_of(kind, rate, schema);
                const auto back = decoded(*codec, encoded(*codec, values), 3000);
                double product = 0;
                for (std::size_t i = 0; i < values.size(); ++i)
                    product += static_cast<double>(values[i]) * static_cast<double>(back[i]);
                CHECK(product / squared_norm(values) == doctest::Approx(1).epsilon(1e-5));
            }
    }

    TEST_CASE("zeros stay zeros, and huge, tiny and lonely values keep their size") {
        const Schema schema = schema_of({700, 40});
        for (const char* kind : kKinds)
            for (const double rate : {0.5, 3.0}) {
                const auto codec = codec_of(kind, rate, schema);
                const std::vector<float> zeros(740);
                CHECK(decoded(*codec, encoded(*codec, zeros), 740) == zeros);
                for (const float scale : {1e-41F, 1e-30F, 1e30F}) {
                    const auto values = normal_values(740, 5, scale);
                    CAPTURE(kind);
                    CAPTURE(scale);
                    CHECK(distortion(values, decoded(*codec, encoded(*codec, values), 740)) < 6);
                }
                for (const std::size_t place : {0U, 350U, 699U, 739U}) {
                    std::vector<float> spike(740);
                    spike[place] = -2;
                    const auto back = decoded(*codec, encoded(*codec, spike), 740);
                    CHECK(back[place] == doctest::Approx(-2).epsilon(1e-4));
                }
            }
    }

    TEST_CASE("a lonely value that fp32 has no scale for decodes to about as little") {
        const Schema schema = schema_of({100'000, 50});
        std::vector<float> spike(100'050);
        spike[777] = 1e-44F;
        spike[100'020] = 1;
        for (const char* kind : kKinds)
            for (const double rate : {0.5, 1.0, 8.0}) {
                const auto codec = codec_of(kind, rate, schema);
                const auto back = decoded(*codec, encoded(*codec, spike), spike.size());
                CHECK(std::abs(back[777]) <= 1e-43F);
                CHECK(back[100'020] == doctest::Approx(1).epsilon(1e-4));
            }
    }

    TEST_CASE("values near the largest float are refused by who sends them, or decode") {
        const Schema schema = schema_of({740});
        for (const char* kind : kKinds)
            for (const double rate : {0.5, 1.0, 8.0}) {
                const auto codec = codec_of(kind, rate, schema);
                for (int exponent = 119; exponent < 127; ++exponent)
                    for (const bool alone : {false, true}) {
                        std::vector<float> values(740, alone ? 0.0F : std::ldexp(1.9F, exponent));
                        values[3] = std::ldexp(1.9F, exponent);
                        try {
                            const Bytes payload = encoded(*codec, values);
                            CHECK(distortion(values, decoded(*codec, payload, 740)) < 6);
                        } catch (const TrainingError&) {
                            CHECK(exponent > 119);
                        }
                    }
                const std::vector<float> largest(740, std::numeric_limits<float>::max());
                CHECK_THROWS_AS(encoded(*codec, largest), TrainingError);
            }
    }

    TEST_CASE("eden sends a lonely value of the smallest rotated layer under any key") {
        const Schema schema = schema_of({detail::kFewestRotated});
        const auto codec = codec_of("eden", 0.1, schema);
        std::vector<float> spike(schema.parameters());
        spike[5] = 3;
        for (std::uint32_t seed = 0; seed < 100; ++seed) {
            const Terms terms{.key = key_of(seed)};
            const Bytes payload = encoded(*codec, spike, terms);
            CHECK(payload.size() == 4 + detail::kFewestRotated / 8);
            CHECK(decoded(*codec, payload, spike.size(), terms)[5] == doctest::Approx(3).epsilon(1e-4));
        }
    }

    TEST_CASE("eden takes the bits that it promises and four bytes a layer") {
        const Schema schema = schema_of({8192, 20, 1000});
        const auto values = normal_values(schema.parameters(), 6);
        const auto bytes = [&](double rate) { return encoded(*codec_of("eden", rate, schema), values).size(); };
        CHECK(bytes(1) == 8 + 4 * 20 + (8192 + 1000) / 8);
        CHECK(bytes(0) == bytes(1));
        CHECK(bytes(0.5) == 8 + 4 * 20 + 4096 / 8 + 63);
        CHECK(bytes(2.25) == 8 + 4 * 20 + 2048 * 3 / 8 + 6144 * 2 / 8 + 94 + 188);
        CHECK(bytes(8) == 8 + 4 * 20 + 8192 + 1000);
    }

    TEST_CASE("a trellis never takes more bits than it promises, headers included") {
        const Schema schema = schema_of({320, 18'496, 65'600, 1290, 40, 10});
        auto values = normal_values(schema.parameters(), 7);
        for (float& value : std::span(values).first(320))
            value *= 20;
        for (const double rate : {0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 3.3, 6.0, 8.0}) {
            const Bytes payload = encoded(*codec_of("trellis", rate, schema), values);
            const double promised = rate * static_cast<double>(schema.parameters()) / 8;
            CAPTURE(rate);
            CHECK(static_cast<double>(payload.size()) <= promised);
            CHECK(static_cast<double>(payload.size()) >= 0.95 * promised - 10);
        }
    }

    TEST_CASE("a trellis keeps its promise where the last layer has next to nothing to say") {
        const Schema schema = schema_of({100'000, 100'000});
        for (const double rate : {0.5, 1.0, 2.0})
            for (std::uint32_t seed = 0; seed < 4; ++seed) {
                auto values = normal_values(schema.parameters(), seed);
                for (float& value : std::span(values).subspan(100'000))
                    value *= 1e-9F;
                const Bytes payload = encoded(*codec_of("trellis", rate, schema), values, {.key = key_of(seed)});
                CAPTURE(rate);
                CHECK(static_cast<double>(payload.size()) <= rate * 200'000 / 8);
                CHECK(static_cast<double>(payload.size()) >= 0.95 * rate * 200'000 / 8);
            }
    }

    TEST_CASE("the error of one client is that of the quantizer") {
        const Schema schema = schema_of({std::size_t{1} << 16});
        const auto values = lognormal_values(schema.parameters(), 8);
        const auto error = [&](const char* kind, double rate) {
            const auto codec = codec_of(kind, rate, schema);
            return distortion(values, decoded(*codec, encoded(*codec, values), values.size()));
        };
        // EDEN's row is the limit of many coordinates; the trellis' is above it by what a finite payload costs.
        CHECK(error("eden", 0.5) == doctest::Approx(2.14).epsilon(0.03));
        CHECK(error("eden", 1) == doctest::Approx(0.5708).epsilon(0.02));
        CHECK(error("eden", 2) == doctest::Approx(0.1331).epsilon(0.02));
        CHECK(error("eden", 3) == doctest::Approx(0.0358).epsilon(0.02));
        CHECK(error("eden", 4) == doctest::Approx(0.00959).epsilon(0.02));
        CHECK(error("trellis", 0.5) < 1.20);
        CHECK(error("trellis", 1) < 0.38);
        CHECK(error("trellis", 2) < 0.0740);
        CHECK(error("trellis", 3) < 0.0176);
        CHECK(error("trellis", 4) < 0.0044);
    }

    TEST_CASE("clients that send the same values have independent errors of mean zero") {
        // n * NMSE of the mean is vNMSE / d times a chi-square of d degrees of freedom: a deviation of sqrt(2 / d).
        for (const std::size_t count : {512U, 700U}) {
            const Schema schema = schema_of({count});
            const auto values = lognormal_values(count, 9);
            for (const char* kind : kKinds)
                for (const double rate : {0.5, 1.0, 3.0}) {
                    const Errors errors = errors_of(*codec_of(kind, rate, schema), values, 200);
                    CAPTURE(kind);
                    CAPTURE(rate);
                    CHECK(std::abs(errors.of_mean / errors.single - 1) <
                          5 * std::sqrt(2.0 / static_cast<double>(count)));
                }
        }
    }

    TEST_CASE("layers of unequal size of values share a trellis' bits so that the whole has less error") {
        const Schema both = schema_of({4096, 4097});
        const Schema one = schema_of({8193});
        auto values = normal_values(8193, 10);
        for (float& value : std::span(values).first(4096))
            value *= 16;
        const auto error = [&](const Schema& schema) {
            const auto codec = codec_of("trellis", 2, schema);
            return distortion(values, decoded(*codec, encoded(*codec, values), values.size()));
        };
        CHECK(error(both) < 0.2 * error(one));
    }

    TEST_CASE("where both ends expect unequal values, a trellis has less error and stays unbiased") {
        const Schema schema({{.name = "fc1", .count = 80 * 50, .tensors = {{"weight", Shape{80, 50}, 0}}}});
        auto values = normal_values(4000, 13);
        for (std::size_t i = 0; i < values.size(); ++i)
            values[i] *= std::exp2(-static_cast<float>(i / 50 % 8));
        const Expectation expectation(schema, values);
        const auto codec = codec_of("trellis", 1, schema);
        const auto errors = [&](const Expectation* expected) { return errors_of(*codec, values, 100, expected); };
        CHECK(errors(&expectation).single < 0.5 * errors(nullptr).single);
        CHECK(std::abs(errors(&expectation).of_mean / errors(&expectation).single - 1) < 0.25);
        const Terms terms{.key = key_of(3), .expectation = &expectation};
        const Bytes payload = encoded(*codec, values, terms);
        CHECK(payload.size() <= 500);
        check_consistent(*codec, schema, payload, terms);
    }

    TEST_CASE("payloads with another scale, grade or length are refused") {
        const Schema schema = schema_of({100});
        for (const char* kind : kKinds) {
            const auto codec = codec_of(kind, 1, schema);
            const Bytes good = encoded(*codec, normal_values(100, 11));
            for (const auto& [at, value] : {std::pair{3, 0x7f}, {3, 0xff}, {3, 0x80}}) {
                Bytes bad = good;
                bad[2] = std::byte{0x80};  // infinite or negative
                bad[static_cast<std::size_t>(at)] = static_cast<std::byte>(value);
                refuse(*codec, schema, bad);
            }
            refuse(*codec, schema, Bytes(good.begin(), good.end() - 1));
            Bytes longer = good;
            longer.push_back(std::byte{0});
            refuse(*codec, schema, longer);
        }
        const auto trellis = codec_of("trellis", 1, schema);
        for (const int grade : {0, 12}) {
            Bytes bad = encoded(*trellis, normal_values(100, 11));
            bad[4] = static_cast<std::byte>(grade);
            refuse(*trellis, schema, bad);
        }
        const auto eden = codec_of("eden", 1, schema);
        Bytes padded = encoded(*eden, normal_values(100, 11));
        padded.back() |= std::byte{0x80};
        refuse(*eden, schema, padded);
    }

    TEST_CASE("a rate that is no rate is refused by the options") {
        const Schema schema = schema_of({100});
        for (const char* kind : kKinds)
            for (const double rate : {-1.0, 8.5, std::numeric_limits<double>::quiet_NaN()})
                CHECK_THROWS_AS(codec_of(kind, rate, schema), InputError);
    }

    TEST_CASE("payloads and what they decode to are the same bits on every machine") {
        const Schema schema = schema_of({1000, 64, 7, 4096, 333});
        const Terms terms{.key = {.seed = 21, .purpose = Purpose::uplink_rounding, .client = 3, .round = 9}};
        const auto values = normal_values(schema.parameters(), 12, 0.01F);
        const auto digests = [&](const char* kind, double rate) {
            const auto codec = codec_of(kind, rate, schema);
            const Bytes payload = encoded(*codec, values, terms);
            return to_hex(sha256(payload)).substr(0, 16) + " " +
                   to_hex(sha256(decoded(*codec, payload, values.size(), terms))).substr(0, 16);
        };
        CHECK(digests("eden", 0.4) == "ae1d6f3e9fd63c43 5bd2577a01a769f8");
        CHECK(digests("eden", 1) == "f711cb840b180e17 4d9ab62b357cf5f2");
        CHECK(digests("eden", 3.5) == "9b9283bcfcfab2b5 4b7cab5e3b5cb190");
        CHECK(digests("trellis", 0.4) == "16d876a28b3045f4 2925b01cfc411a9d");
        CHECK(digests("trellis", 1) == "fc8df037521f346a 6c92575e480e4c26");
        CHECK(digests("trellis", 3.5) == "c28a69fc9eea8b36 876695f91d91920d");
        const Expectation expectation(schema, values);
        const auto expected = [&](double rate) {
            const Terms both{.key = terms.key, .expectation = &expectation};
            return to_hex(sha256(encoded(*codec_of("trellis", rate, schema), values, both))).substr(0, 16);
        };
        CHECK(expected(0.3) == "908cff09ad24ccfb");
        CHECK(expected(2) == "5e2f3814ce047c01");
        CHECK(digests("trellis", 7) == "30f17bf164b48110 a2b48c1fa8333e65");
    }
}
