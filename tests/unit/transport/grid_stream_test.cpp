#include "core/sha256.hpp"
#include "tests/unit/transport/grid.hpp"

#include <rapidcheck.h>

#include <fstream>

using namespace dither;
using namespace dither::test;

TEST_SUITE("transport/grid_stream") {
    TEST_CASE("a payload is one byte, the step and the stream; different steps are all echoed") {
        const Schema schema = schema_of({3, 2});
        const auto codec = grid(schema, "context");
        const std::vector<float> zeros(5);
        const Bytes one = encoded(*codec, zeros, terms_of(std::vector<float>{2, 2}));
        CHECK(mode_of(one) == 1);
        CHECK(Bytes(one.begin() + 1, one.begin() + 5) == bytes_of({0, 0, 0, 0x40}));
        CHECK(one.size() <= 1 + 4 + 5);
        const Bytes two = encoded(*codec, zeros, terms_of(std::vector<float>{2, 1}));
        CHECK(Bytes(two.begin() + 1, two.begin() + 9) == bytes_of({0, 0, 0, 0x40, 0, 0, 0x80, 0x3f}));
    }

    TEST_CASE("one unit holds for all payloads of a round, whatever their form") {
        const Schema schema = schema_of({2000, 3});
        const auto codec = grid(schema, "context");
        const std::vector<float> steps{1, 0.5F};
        CHECK(codec->unit(1, steps) == 0.5 / 256);
        std::vector<float> values(2003);
        values[1] = 0x1p22F;  // beyond the model
        values[2002] = -3;
        const Bytes payload = encoded(*codec, values, terms_of(steps));
        CHECK(mode_of(payload) == 0);
        CHECK(decoded(*codec, payload, values.size(), terms_of(steps)) == values);
        check_consistent(*codec, schema, payload, terms_of(steps));
        values[1] = -0x1.fffffep30F;
        CHECK(decoded(*codec, encoded(*codec, values, terms_of(steps)), values.size(), terms_of(steps)) == values);
    }

    TEST_CASE("structure pays: fewer bits than packed and zstd, and still fewer with an expectation") {
        const Schema schema = matrices();
        const auto values = structured_values(schema, 6);
        const Expectation expectation(schema, structured_values(schema, 7));
        for (const float step : {16.0F, 1.0F, 0.0625F}) {
            CAPTURE(step);
            const std::vector<float> steps{step, step};
            Terms terms = terms_of(steps);
            const std::size_t zstd = encoded(*grid(schema, "zstd"), values, terms).size();
            const auto codec = grid(schema, "context");
            const std::size_t alone = encoded(*codec, values, terms).size();
            terms.expectation = &expectation;
            const Bytes payload = encoded(*codec, values, terms);
            CHECK(alone < zstd);
            CHECK(payload.size() < alone);
            check_consistent(*codec, schema, payload, terms);
        }
    }

    TEST_CASE("who lacks the expectation of a payload refuses it; who has one reads payloads without") {
        const Schema schema = matrices();
        const auto values = structured_values(schema, 8);
        const Expectation expectation(schema, structured_values(schema, 9));
        const std::vector<float> steps{1, 1};
        const auto codec = grid(schema, "context");
        const Terms without = terms_of(steps);
        Terms with = without;
        with.expectation = &expectation;
        const Bytes told = encoded(*codec, values, with);
        CHECK(mode_of(told) == 2);
        refuse(*codec, schema, told, without);
        const Bytes untold = encoded(*codec, values, without);
        CHECK(decoded(*codec, untold, values.size(), with) == decoded(*codec, untold, values.size(), without));
    }

    TEST_CASE("noise without structure takes hardly more than packed codes") {
        const Schema schema = schema_of({30'000});
        const auto codec = grid(schema, "context");
        const std::vector<float> steps{1};
        std::vector<float> noise(30'000);
        Stream stream(key_of(10));
        for (float& value : noise)
            value = static_cast<float>(stream.below(1 << 16)) - (1 << 15);
        CHECK(encoded(*codec, noise, terms_of(steps)).size() <= 2 * noise.size() * 103 / 100);
    }

    TEST_CASE("any values decode to the integers of packed codes") {
        CHECK(rc::check([] {
            const auto columns = *rc::gen::inRange<std::int64_t>(1, 70);
            const auto rows = *rc::gen::inRange<std::int64_t>(1, 90);
            const auto count = static_cast<std::size_t>(rows * columns);
            const Schema schema({{.name = "fc1", .count = count, .tensors = {{"weight", Shape{rows, columns}, 0}}}});
            auto values =
                normal_values(count, *rc::gen::arbitrary<std::uint32_t>(), std::ldexp(1.0F, *rc::gen::inRange(-12, 9)));
            if (*rc::gen::arbitrary<bool>())
                for (std::size_t i = 0; i < count; i += 7)
                    values[i] *= 1024;
            const Expectation expectation(schema, normal_values(count, 1, 0.01F));
            const std::vector<float> steps{*rc::gen::element(1.0F, 0.3F, 1e-3F)};
            Terms terms = terms_of(steps, *rc::gen::arbitrary<std::uint32_t>());
            if (*rc::gen::arbitrary<bool>())
                terms.expectation = &expectation;
            const auto packed = grid(schema, "packed");
            const auto context = grid(schema, "context");
            auto fine = integers(*context, schema, encoded(*context, values, terms), terms);
            std::ranges::transform(fine, fine.begin(), nearest_integer);
            return fine == integers(*packed, schema, encoded(*packed, values, terms), terms);
        }));
    }

    TEST_CASE("every truncation of a payload is refused, and every byte too many") {
        const Schema schema = matrices();
        const auto codec = grid(schema, "context");
        const std::vector<float> steps{32, 32};
        Bytes payload = encoded(*codec, structured_values(schema, 11), terms_of(steps));
        Bytes longer = payload;
        longer.push_back(std::byte{0});
        refuse(*codec, schema, longer, terms_of(steps));
        while (!payload.empty()) {
            payload.pop_back();
            refuse(*codec, schema, payload, terms_of(steps));
        }
    }

    TEST_CASE("a payload that is cut off short is refused before any integer beyond its bytes is handed on") {
        const Schema schema = schema_of({200'000});
        const auto codec = grid(schema, "context");
        const std::vector<float> steps{0.0625F};
        Bytes payload = encoded(*codec, normal_values(schema.parameters(), 13), terms_of(steps));
        payload.resize(9);
        refuse(*codec, schema, payload, terms_of(steps));
        for (const Bytes& bytes : {payload, bytes_of({1, 0, 0, 0x80, 0x3d, 0xff, 0xff, 0xff, 0xff})}) {
            Collector collector(schema);
            CHECK_THROWS_AS(codec->accumulate(bytes, terms_of(steps), collector), FormatError);
            CHECK(collector.codes().size() < schema.parameters() / 4);
        }
    }

    TEST_CASE("empty tensors and layers do not shift what is expected of those behind them") {
        const TensorSpec first{"weight", Shape{20, 15}, 0};
        const TensorSpec second{"weight", Shape{10, 70}, 300};
        const Schema plain({{.name = "fc1", .offset = 0, .count = 300, .tensors = {first}},
                            {.name = "fc2", .offset = 300, .count = 700, .tensors = {second}}});
        const Schema with_tensor(
            {{.name = "fc1", .offset = 0, .count = 300, .tensors = {first, {"bias", Shape{0}, 300}}},
             {.name = "fc2", .offset = 300, .count = 700, .tensors = {second}}});
        const Schema with_layer({{.name = "fc1", .offset = 0, .count = 300, .tensors = {first}},
                                 {.name = "norm", .offset = 300, .count = 0, .tensors = {{"scale", Shape{0}, 300}}},
                                 {.name = "fc2", .offset = 300, .count = 700, .tensors = {second}}});
        const auto values = structured_values(plain, 14);
        const auto change = structured_values(plain, 15);
        const auto payload_of = [&](const Schema& schema) {
            const Expectation expectation(schema, change);
            const std::vector<float> steps(schema.layer_count(), 0.5F);
            Terms terms = terms_of(steps);
            terms.expectation = &expectation;
            const auto codec = grid(schema, "context");
            Bytes payload = encoded(*codec, values, terms);
            check_consistent(*codec, schema, payload, terms);
            return payload;
        };
        CHECK(payload_of(with_tensor) == payload_of(plain));
        CHECK(payload_of(with_layer).size() < payload_of(plain).size() + 10);
    }

    TEST_CASE("a mutated payload is refused, all but always, and never does anything else than decode") {
        const Schema schema = schema_of({40, 500, 3});
        const auto codec = grid(schema, "context");
        const std::vector<float> steps{0.1F, 2.0F, 1e-4F};
        const Bytes good = encoded(*codec, normal_values(schema.parameters(), 8), terms_of(steps));
        Stream stream(key_of(9));
        int refused = 0;
        constexpr int kTrials = 2000;
        for (int trial = 0; trial < kTrials; ++trial) {
            Bytes payload = good;
            payload[stream.below(static_cast<std::uint32_t>(payload.size()))] ^=
                static_cast<std::byte>(1 + stream.below(255));
            std::vector<std::uint64_t> largest(3);
            try {
                codec->validate(payload, terms_of(steps), largest);
                check_consistent(*codec, schema, payload, terms_of(steps));
            } catch (const FormatError&) {
                ++refused;
            }
        }
        CHECK(refused > kTrials - 5);
    }

    TEST_CASE("bytes at random end in bounded integers or a refusal") {
        const Schema schema = schema_of({300, 20});
        const auto codec = grid(schema, "context");
        const std::vector<float> steps{1, 1};
        Stream stream(key_of(12));
        for (int trial = 0; trial < 300; ++trial) {
            Bytes payload = bytes_of({1, 0, 0, 0x80, 0x3f});
            for (std::uint32_t i = stream.below(4000); i > 0; --i)
                payload.push_back(static_cast<std::byte>(trial % 3 == 0 ? 0xff : stream()));
            std::vector<std::uint64_t> largest(2);
            CHECK_THROWS_AS(codec->validate(payload, terms_of(steps), largest), FormatError);
        }
    }

    TEST_CASE("a slow link takes the context coder, a fast one packed codes") {
        const Schema schema = schema_of({1});
        const std::vector<float> steps{1};
        const auto unit = [&](double bandwidth) {
            return make_codec({.kind = "grid", .coder = "auto", .bandwidth = bandwidth}, schema)->unit(0, steps);
        };
        CHECK(unit(0) == 1.0 / 256);  // not known
        CHECK(unit(10) == 1.0 / 256);
        CHECK(unit(10'000) == 1);
    }
}

// The streams of tests/golden/grid: whatever machine, compiler or instruction set codes them, the bytes are these.
TEST_SUITE("transport/grid_stream/golden") {
    struct Golden {
        const char* file;
        float step;
        bool expects;
        const char* decoded;  ///< SHA-256
    };
    constexpr Golden kStreams[] = {
        {"coarse", 16, false, "9166f83fd111d6ad4702a12c8a4e4e255d02b3d0cebaa5dfa08b198d3cc430e0"},
        {"coarse_expected", 16, true, "59ca66b0095708cd8732db8045e87aabf58993efa1a4a5b22beb27bd23d91c2d"},
        {"fine", 0.5F, false, "f6517f7139d472d3e0b5821bc626f000febf820cacca3f5f21b4518701797c18"},
        {"fine_expected", 0.5F, true, "a2a494e54bded3802971126ac531d34b2c6e0604c5aefd8f17c0782a53fc4fe0"},
        {"finest_expected", 0x1p-10F, true, "e1edf8b14e7ba3f848a3e6cb694d390fda0b79c0ef14dd627b35f1449d585c70"}};

    Bytes read_hex(const std::string& name) {
        std::ifstream file(std::string(DITHER_GOLDEN_DIR) + "/grid/" + name + ".hex");
        REQUIRE_MESSAGE(file.is_open(), name);
        Bytes bytes;
        for (std::string line; std::getline(file, line);)
            for (std::size_t i = 0; i + 1 < line.size(); i += 2)
                bytes.push_back(static_cast<std::byte>(std::stoi(line.substr(i, 2), nullptr, 16)));
        return bytes;
    }

    TEST_CASE("golden streams of the context coder decode, and encode to the same bytes") {
        const Schema matrix({{.name = "fc1", .count = 300, .tensors = {{"weight", Shape{20, 15}, 0}}}});
        const auto values = structured_values(matrix, 20);
        const Expectation expectation(matrix, structured_values(matrix, 21));
        const auto codec = grid(matrix, "context");
        for (const Golden& golden : kStreams) {
            CAPTURE(golden.file);
            const std::vector<float> steps{golden.step};
            Terms terms = terms_of(steps, 22);
            terms.expectation = golden.expects ? &expectation : nullptr;
            const Bytes payload = encoded(*codec, values, terms);
            CHECK(payload == read_hex(golden.file));
            CHECK(to_hex(sha256(std::span<const float>(decoded(*codec, payload, values.size(), terms)))) ==
                  golden.decoded);
            check_consistent(*codec, matrix, payload, terms);
        }
    }
}
