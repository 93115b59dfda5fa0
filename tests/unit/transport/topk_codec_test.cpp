#include "tests/unit/transport/codecs.hpp"

#include <rapidcheck.h>
#include <numeric>

using namespace dither;
using namespace dither::test;

TEST_SUITE("transport/topk_codec") {
    TEST_CASE("topk keeps the largest magnitudes of the whole model, the first of equal ones") {
        const Schema schema = schema_of({4, 4});
        const auto codec = make_codec({.kind = "topk", .share = 0.5}, schema);
        const std::vector<float> values{1, -1, 0.25F, 8, 1, 1, -2, 1};
        const Bytes payload = encoded(*codec, values);
        CHECK(decoded(*codec, payload, 8) == std::vector<float>{1, -1, 0, 8, 0, 0, -2, 0});
        // Gaps 0, 0 and 1 without lower bits: 1, 1, 01. Then 2: 001.
        CHECK(payload == bytes_of({3, 0, 0, 0, 0, 0x80, 0x3f, 0x80, 0xbf, 0, 0x41, 0b1011,  //
                                   1, 0, 0, 0, 0, 0,    0xc0, 0b100}));
        check_consistent(*codec, schema, payload);
    }

    TEST_CASE("topk agrees with sorting, whatever the values and the share") {
        CHECK(rc::check([] {
            const auto counts =
                *rc::gen::nonEmpty(rc::gen::container<std::vector<std::size_t>>(rc::gen::inRange<std::size_t>(1, 300)));
            const Schema schema = schema_of(std::span<const std::size_t>(counts));
            const double share = *rc::gen::inRange(1, 1001) / 1000.0;
            const auto codec = make_codec({.kind = "topk", .share = share}, schema);
            std::vector<float> values(schema.parameters());
            Stream stream(key_of(*rc::gen::arbitrary<std::uint32_t>()));
            for (float& value : values)  // bf16 numbers, many of them equal
                value = std::ldexp(static_cast<float>(stream.below(17)) - 8, static_cast<int>(stream.below(40)) - 20);
            std::vector<std::size_t> order(values.size());
            std::iota(order.begin(), order.end(), std::size_t{0});
            std::ranges::stable_sort(
                order, [&](std::size_t a, std::size_t b) { return std::abs(values[a]) > std::abs(values[b]); });
            const auto kept = static_cast<std::size_t>(std::ceil(share * static_cast<double>(values.size())));
            std::vector<float> expected(values.size());
            for (std::size_t i = 0; i < kept; ++i)
                expected[order[i]] = values[order[i]];
            return decoded(*codec, encoded(*codec, values), values.size()) == expected;
        }));
    }

    TEST_CASE("one coordinate in a hundred takes close to the entropy of its place, and 16 bits") {
        const Schema schema = schema_of({100'000, 50'000});
        const auto codec = make_codec({.kind = "topk", .share = 0.01}, schema);
        const Bytes payload = encoded(*codec, normal_values(schema.parameters(), 1));
        const double entropy = (-0.01 * std::log2(0.01) - 0.99 * std::log2(0.99)) * 100;  // 8.08 bits
        CHECK(8.0 * static_cast<double>(payload.size()) / 1500 < 16 + 1.05 * entropy);
        check_consistent(*codec, schema, payload);
    }

    TEST_CASE("topk refuses counts, parameters, gaps and values that cannot be") {
        const Schema schema = schema_of({4, 4});
        const auto codec = make_codec({.kind = "topk", .share = 0.25}, schema);
        const auto with = [](std::initializer_list<int> first) {
            Bytes payload = bytes_of(first);
            for (const int byte : {1, 0, 0, 0, 0, 0x80, 0x3f, 1})
                payload.push_back(static_cast<std::byte>(byte));
            return payload;
        };
        CHECK(decoded(*codec, with({1, 0, 0, 0, 0, 0x80, 0x3f, 0b100}), 8) ==
              std::vector<float>{0, 0, 1, 0, 1, 0, 0, 0});
        refuse(*codec, schema, with({1, 0, 0, 0, 0, 0x80, 0x3f, 0b10000}));               // behind the layer
        refuse(*codec, schema, with({1, 0, 0, 0, 0, 0x80, 0x3f, 0b1100}));                // padding
        refuse(*codec, schema, with({1, 0, 0, 0, 32, 0x80, 0x3f, 0b100}));                // parameter
        refuse(*codec, schema, with({1, 0, 0, 0, 0, 0x80, 0x7f, 0b100}));                 // infinite
        refuse(*codec, schema, with({5, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 31}));  // more than there are
        refuse(*codec, schema, with({2, 0, 0, 0, 0, 0x80, 0x3f, 0x80, 0x3f, 0b11}));      // more than the share
        refuse(*codec, schema, with({0, 0, 0, 0, 0}));                                    // fewer
        refuse(*codec, schema, bytes_of({1, 0, 0, 0, 0, 0x80, 0x3f}));
        refuse(*codec, schema, bytes_of({0xff, 0xff, 0xff, 0xff, 0}));
        refuse(*codec, schema, {});
    }
}
