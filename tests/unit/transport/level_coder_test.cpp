#include "transport/detail/level_coder.hpp"

#include "core/sha256.hpp"
#include "tests/unit/transport/codecs.hpp"

#include <rapidcheck.h>

using namespace dither;
using namespace dither::detail;
using namespace dither::test;

namespace {

/// A path of the trellis whose levels the coder of `grade` can say, of about the width that it is made for.
std::vector<std::int16_t> path_of(const LevelCoder& coder, std::size_t count, std::uint32_t seed) {
    const auto wanted = normal_values(count, seed, 0.25F * static_cast<float>(coder.limit()));
    std::vector<std::int16_t> levels;
    unsigned state = 0;
    for (const float value : wanted) {
        const auto parity = static_cast<std::int32_t>(trellis_parity(state));
        const std::int32_t most = coder.limit() + 1 - ((coder.limit() + 1 + parity) & 1);
        const std::int32_t level = 2 * static_cast<std::int32_t>(std::floor(value / 2)) + parity;
        levels.push_back(static_cast<std::int16_t>(std::clamp(level, -most, most)));
        state = trellis_next(state, static_cast<unsigned>(levels.back() >> 1) & 1U);
    }
    return levels;
}

}  // namespace

TEST_SUITE("transport/detail/level_coder") {
    TEST_CASE("every path comes back, at every grade and length, and its bytes are counted") {
        for (unsigned grade = kLowestGrade; grade <= kHighestGrade; ++grade) {
            const LevelCoder coder(grade);
            for (const std::size_t count : {0U, 1U, 2U, 777U}) {
                const auto levels = path_of(coder, count, grade);
                Bytes bytes;
                coder.encode(levels, bytes);
                const std::size_t size = bytes.size();
                bytes.resize(size + 9, std::byte{0x5a});  // what follows is not its business
                std::vector<float> back(count);
                CAPTURE(grade);
                CHECK(coder.decode(bytes, back) == size);
                CHECK(std::equal(back.begin(), back.end(), levels.begin(), levels.end()));
            }
        }
    }

    TEST_CASE("a code that is cut off is refused, and changed bytes decode to levels in bounds or not at all") {
        rc::check([] {
            const LevelCoder coder(*rc::gen::inRange(kLowestGrade, kHighestGrade + 1));
            const auto levels = path_of(coder, *rc::gen::inRange<std::size_t>(1, 500), 1);
            Bytes bytes;
            coder.encode(levels, bytes);
            std::vector<float> back(levels.size());
            const auto cut = *rc::gen::inRange<std::size_t>(0, bytes.size());
            RC_ASSERT(coder.decode(std::span(bytes).first(cut), back) == 0);
            for (int i = 0; i < 3; ++i)
                bytes[*rc::gen::inRange<std::size_t>(0, bytes.size())] =
                    static_cast<std::byte>(*rc::gen::inRange(0, 256));
            if (coder.decode(bytes, back) != 0)
                for (const float level : back)
                    RC_ASSERT(std::abs(level) <= 1.5F * static_cast<float>(coder.limit()) + 64);
        });
    }

    TEST_CASE("the tables are the same on every machine") {
        Bytes bytes;
        for (const unsigned grade : {13U, 32U, 64U, 128U, 200U, 255U}) {
            const LevelCoder coder(grade);
            coder.encode(path_of(coder, 3000, grade), bytes);
        }
        CHECK(to_hex(sha256(bytes)) == "67350590aea321bb554168dc253c314b6c8aa62a7bfcd9b4818064580ea8ca54");
    }
}
