#include "core/compute/integer_winograd.hpp"

#include "core/error.hpp"
#include "core/rng.hpp"

#include <doctest/doctest.h>

#include <vector>

namespace dither {
namespace {

ConvGeometry image(std::int64_t height, std::int64_t width, std::int64_t in, std::int64_t out,
                   std::int64_t padding = 1) {
    return {.in_height = height,
            .in_width = width,
            .in_channels = in,
            .out_channels = out,
            .kernel = 3,
            .stride = 1,
            .padding = padding};
}

template <typename Code>
std::vector<Code> random_codes(std::int64_t count, int low, int high, std::uint32_t lane) {
    Stream stream({.seed = 7, .lane = lane});
    std::vector<Code> codes(static_cast<std::size_t>(count));
    for (Code& code : codes)
        code = static_cast<Code>(low + static_cast<int>(stream.below(static_cast<std::uint32_t>(high - low + 1))));
    return codes;
}

/// Whether both products give the same sums.
bool agree(const ConvGeometry& g, std::string_view instruction_set, std::span<const std::uint8_t> x,
           std::span<const std::int8_t> w, std::int32_t zero_point) {
    const auto count = static_cast<std::size_t>(g.out_height() * g.out_width() * g.out_channels);
    std::vector<std::int32_t> expected(count);
    std::vector<std::int32_t> sums(count, -1);
    const auto product = make_integer_convolution(g, 1, instruction_set);
    product->pack_forward(w);
    product->forward(1, x, {&zero_point, 1}, expected);
    IntegerWinograd winograd(g, instruction_set);
    winograd.pack(w);
    winograd.run(x, zero_point, sums);
    return sums == expected;
}

TEST_SUITE("core/compute/integer_winograd") {
    TEST_CASE("gives the sums of the direct convolution on every instruction set") {
        for (const std::string_view instruction_set : integer_instruction_sets())
            for (const ConvGeometry& g :
                 {image(32, 32, 16, 16), image(8, 8, 64, 64), image(6, 10, 18, 17, 2), image(10, 9, 18, 40, 0),
                  image(14, 14, 16, 33), image(5, 7, 20, 19), image(3, 3, 16, 16, 1), image(1, 4, 16, 16)})
                for (const std::int32_t zero_point : {0, 128, 255}) {
                    CAPTURE(instruction_set);
                    CAPTURE(g.in_width);
                    CAPTURE(g.in_channels);
                    const auto x = random_codes<std::uint8_t>(g.in_height * g.in_width * g.in_channels, 0, 255, 1);
                    const auto w = random_codes<std::int8_t>(g.fan_in() * g.out_channels, -127, 127, 2);
                    CHECK(agree(g, instruction_set, x, w, zero_point));
                }
    }

    TEST_CASE("sums that wrap around on the way give the exact result") {
        // Every other column in turns above and below the zero point drives the last point of a tile furthest: its sum
        // reaches 24 * 127 * (4 * 127 + 5 * 128 + 127) * 3 * 256 > 2^31. 20 channels out: the last panel is not whole.
        const ConvGeometry g = image(4, 8, 256, 20);
        std::vector<std::uint8_t> in_turns(static_cast<std::size_t>(g.in_height * g.in_width * g.in_channels));
        std::vector<std::uint8_t> in_pairs(in_turns.size());
        for (std::size_t i = 0; i < in_turns.size(); ++i) {
            in_turns[i] = i / 256 % 2 == 0 ? 255 : 0;
            in_pairs[i] = i / 256 % 4 < 2 ? 255 : 0;
        }
        std::vector<std::int8_t> by_column(static_cast<std::size_t>(g.fan_in() * g.out_channels));
        for (std::size_t i = 0; i < by_column.size(); ++i)
            by_column[i] = i / (256 * 20) % 3 == 1 ? -127 : 127;
        auto by_chance = random_codes<std::int8_t>(g.fan_in() * g.out_channels, 0, 1, 3);
        for (std::int8_t& code : by_chance)
            code = static_cast<std::int8_t>(code == 0 ? -127 : 127);
        const std::vector<std::int8_t> highest(by_column.size(), 127);
        const std::vector<std::int8_t> lowest(by_column.size(), -127);
        const std::vector<std::uint8_t> bright(in_turns.size(), 255);
        for (const std::string_view instruction_set : integer_instruction_sets()) {
            CAPTURE(instruction_set);
            for (const auto& w : {by_column, by_chance, highest, lowest}) {
                CHECK(agree(g, instruction_set, in_turns, w, 128));
                CHECK(agree(g, instruction_set, in_pairs, w, 128));
                CHECK(agree(g, instruction_set, bright, w, 0));
            }
        }
    }

    TEST_CASE("a convolution that it is not made for is refused") {
        ConvGeometry strided = image(8, 8, 16, 16);
        strided.stride = 2;
        ConvGeometry grouped = image(8, 8, 16, 16);
        grouped.groups = 2;
        ConvGeometry pointwise = image(8, 8, 16, 16, 0);
        pointwise.kernel = 1;
        for (const ConvGeometry& g : {strided, grouped, pointwise, image(8, 8, 8, 16), image(8, 8, 17, 16),
                                      image(8, 8, 258, 16), image(8, 5, 16, 16)}) {
            CHECK_FALSE(IntegerWinograd::fits(g));
            CHECK_THROWS_AS(IntegerWinograd{g}, PreconditionError);
        }
        IntegerWinograd winograd(image(4, 4, 16, 16));
        std::vector<std::uint8_t> x(256);
        std::vector<std::int32_t> y(256);
        CHECK_THROWS_AS(winograd.run(x, 0, y), PreconditionError);  // before pack
        CHECK_THROWS_AS(winograd.pack(std::vector<std::int8_t>(5)), PreconditionError);
    }
}

}  // namespace
}  // namespace dither
