#include "core/compute/integer.hpp"

#include "core/compute/backend.hpp"
#include "core/error.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace dither {
namespace {

/// The operands of a product over some items, and its results by the definition.
struct Case {
    std::int64_t items = 0;
    std::int64_t in = 0;   ///< values of an item
    std::int64_t out = 0;  ///< values of an item
    std::vector<std::uint8_t> x;
    std::vector<std::int32_t> zero_points;
    std::vector<std::int8_t> w;
    std::vector<std::int8_t> dy;
    std::vector<std::uint8_t> shifts;
    std::vector<std::int32_t> y;
    std::vector<std::int32_t> dx;
    std::vector<std::int32_t> dw;

    bool operator==(const Case&) const = default;
};

Case make_case(std::int64_t items, std::int64_t in, std::int64_t out, std::int64_t weights) {
    const auto sized = [](std::int64_t n) { return static_cast<std::size_t>(n); };
    Case c{items, in, out};
    c.x.resize(sized(items * in));
    c.zero_points.resize(sized(items));
    c.w.resize(sized(weights));
    c.dy.resize(sized(items * out));
    c.y.resize(c.dy.size());
    c.dx.resize(c.x.size());
    c.dw.resize(c.w.size());
    return c;
}

/// `live` is the share of dy that is not zero.
void fill(Case& c, std::uint32_t seed, double live = 1) {
    std::mt19937 random(seed);
    const auto signed_code = [&] { return static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127); };
    std::ranges::generate(c.x, [&] { return static_cast<std::uint8_t>(random()); });
    std::ranges::generate(c.zero_points, [&] { return static_cast<std::int32_t>(random() % 256); });
    std::ranges::generate(c.w, signed_code);
    std::ranges::generate(
        c.dy, [&] { return static_cast<double>(random() % 1000) < 1000 * live ? signed_code() : std::int8_t{0}; });
}

/// One multiply-accumulate of the definition, by its places in x, w and y.
void add_mac(Case& c, std::int64_t item, std::int64_t x, std::int64_t w, std::int64_t y) {
    const auto i = static_cast<std::size_t>(item);
    const auto at_x = static_cast<std::size_t>(item * c.in + x);
    const auto at_y = static_cast<std::size_t>(item * c.out + y);
    const auto at_w = static_cast<std::size_t>(w);
    const std::int32_t centred = c.x[at_x] - c.zero_points[i];
    const std::int32_t scale = c.shifts.empty() ? 1 : 1 << c.shifts[i];
    c.y[at_y] += centred * c.w[at_w];
    c.dx[at_x] += c.dy[at_y] * c.w[at_w];
    c.dw[at_w] += centred * c.dy[at_y] * scale;
}

void solve(Case& c, const ConvGeometry& g) {
    const std::int64_t in_group = g.in_channels / g.groups;
    const std::int64_t out_group = g.out_channels / g.groups;
    for (std::int64_t item = 0; item < c.items; ++item)
        for (std::int64_t oy = 0; oy < g.out_height(); ++oy)
            for (std::int64_t ox = 0; ox < g.out_width(); ++ox)
                for (std::int64_t ky = 0; ky < g.kernel; ++ky)
                    for (std::int64_t kx = 0; kx < g.kernel; ++kx) {
                        const std::int64_t iy = oy * g.stride + ky - g.padding;
                        const std::int64_t ix = ox * g.stride + kx - g.padding;
                        if (iy < 0 || iy >= g.in_height || ix < 0 || ix >= g.in_width)
                            continue;
                        for (std::int64_t i = 0; i < in_group; ++i)
                            for (std::int64_t o = 0; o < g.out_channels; ++o)
                                add_mac(c, item, (iy * g.in_width + ix) * g.in_channels + o / out_group * in_group + i,
                                        ((ky * g.kernel + kx) * in_group + i) * g.out_channels + o,
                                        (oy * g.out_width() + ox) * g.out_channels + o);
                    }
}

void solve(Case& c, std::int64_t in, std::int64_t out) {
    for (std::int64_t item = 0; item < c.items; ++item)
        for (std::int64_t i = 0; i < in; ++i)
            for (std::int64_t o = 0; o < out; ++o)
                add_mac(c, item, i, i * out + o, o);
}

/// The case with the product's results in place of its own.
Case run(IntegerProduct& product, Case c) {
    std::ranges::fill(c.y, -1);
    std::ranges::fill(c.dx, -1);
    std::ranges::fill(c.dw, -1);
    product.pack_forward(c.w);
    product.pack_backward(c.w);
    product.forward(c.items, c.x, c.zero_points, c.y);
    product.backward_input(c.items, c.dy, c.dx);
    product.weight_gradient(c.items, c.x, c.zero_points, c.dy, c.shifts, c.dw, false);
    return c;
}

Case case_of(const ConvGeometry& g, std::int64_t items) {
    return make_case(items, g.in_height * g.in_width * g.in_channels, g.out_height() * g.out_width() * g.out_channels,
                     g.fan_in() * g.out_channels);
}

std::string name_of(const ConvGeometry& g) {
    return fmt::format("{}x{}x{} -> {}, kernel {}, stride {}, padding {}, groups {}", g.in_height, g.in_width,
                       g.in_channels, g.out_channels, g.kernel, g.stride, g.padding, g.groups);
}

// Members: height, width, channels in and out, kernel, stride, padding, groups.
const std::vector<ConvGeometry> kGeometries{
    {28, 28, 1, 16, 3, 1, 1},    {14, 14, 16, 32, 3, 1, 1},   {8, 8, 64, 64, 3, 1, 1},   {9, 9, 16, 32, 3, 2, 1},
    {8, 8, 16, 32, 1, 2, 0},     {1, 1, 1, 1, 1, 1, 0},       {7, 5, 3, 5, 3, 1, 0},     {5, 7, 3, 17, 3, 2, 1},
    {9, 8, 2, 33, 5, 3, 2},      {6, 6, 7, 1, 1, 1, 0},       {7, 7, 5, 9, 1, 3, 0},     {6, 7, 4, 8, 5, 1, 2},
    {5, 5, 3, 10, 3, 1, 2},      {3, 3, 6, 4, 3, 1, 0},       {7, 6, 8, 12, 3, 1, 1, 4}, {6, 5, 6, 9, 3, 2, 1, 3},
    {8, 7, 64, 64, 3, 1, 1, 2},  {6, 6, 4, 8, 3, 1, 1, 4},    {7, 7, 1, 1, 3, 1, 1},     {8, 9, 5, 5, 3, 1, 1, 5},
    {9, 8, 32, 32, 3, 2, 1, 32}, {7, 9, 17, 17, 5, 3, 2, 17}, {5, 5, 3, 3, 1, 1, 0, 3},  {6, 6, 8, 8, 3, 3, 0, 8},
    {11, 11, 20, 24, 3, 1, 1},   {13, 10, 33, 40, 3, 2, 1},   {6, 6, 4, 4, 2, 3, 1},     {10, 10, 16, 16, 4, 2, 1},
    {9, 9, 16, 16, 3, 1, 1},     {32, 32, 16, 16, 3, 1, 1},
};

struct LinearShape {
    std::int64_t in;
    std::int64_t out;
    std::int64_t items;
};

const std::vector<LinearShape> kLinearShapes{
    {1, 1, 1}, {1568, 128, 32}, {128, 10, 32}, {7, 3, 5}, {16, 16, 1}, {33, 17, 7}, {1025, 31, 3}, {5, 100, 13},
};

TEST_SUITE("core/compute/integer") {
    TEST_CASE("a convolution of codes and its adjoints are exact on every instruction set") {
        for (const ConvGeometry& g : kGeometries)
            for (const double live : {1.0, 0.12, 0.0}) {
                Case expected = case_of(g, 3);
                fill(expected, 1, live);
                solve(expected, g);
                for (const std::string_view set : integer_instruction_sets()) {
                    CAPTURE(name_of(g));
                    CAPTURE(set);
                    const auto product = make_integer_convolution(g, 3, set);
                    const Case found = run(*product, expected);
                    CHECK(found.y == expected.y);
                    CHECK(found.dx == expected.dx);
                    CHECK(found.dw == expected.dw);
                }
            }
    }

    TEST_CASE("images whose gradients are dense, mostly zero and all zero go together") {
        const ConvGeometry g{10, 10, 16, 24, 3, 1, 1};
        Case expected = case_of(g, 3);
        fill(expected, 3);
        for (std::int64_t i = expected.out; i < 3 * expected.out; ++i)
            if (i >= 2 * expected.out || i % 11 != 0)
                expected.dy[static_cast<std::size_t>(i)] = 0;
        solve(expected, g);
        for (const std::string_view set : integer_instruction_sets())
            CHECK(run(*make_integer_convolution(g, 3, set), expected) == expected);
    }

    TEST_CASE("a linear product of codes and its adjoints are exact on every instruction set") {
        for (const LinearShape& shape : kLinearShapes)
            for (const bool shifted : {false, true}) {
                Case expected = make_case(shape.items, shape.in, shape.out, shape.in * shape.out);
                fill(expected, 2);
                for (std::int64_t i = 0; shifted && i < shape.items; ++i)
                    expected.shifts.push_back(static_cast<std::uint8_t>(i % (IntegerProduct::kMaxShift + 1)));
                solve(expected, shape.in, shape.out);
                for (const std::string_view set : integer_instruction_sets()) {
                    CAPTURE(shape.in);
                    CAPTURE(shape.out);
                    CAPTURE(set);
                    const auto product = make_integer_linear(shape.in, shape.out, shape.items, set);
                    const Case found = run(*product, expected);
                    CHECK(found.y == expected.y);
                    CHECK(found.dx == expected.dx);
                    CHECK(found.dw == expected.dw);
                }
            }
    }

    TEST_CASE("the largest codes do not overflow") {
        const ConvGeometry g{32, 32, 16, 16, 3, 1, 1};
        for (const bool low : {false, true})
            for (const int weight : {-127, 127}) {
                Case expected = case_of(g, 1);
                std::ranges::fill(expected.x, static_cast<std::uint8_t>(low ? 0 : 255));
                std::ranges::fill(expected.zero_points, low ? 255 : 0);
                std::ranges::fill(expected.w, static_cast<std::int8_t>(weight));
                std::ranges::fill(expected.dy, static_cast<std::int8_t>(weight));
                solve(expected, g);
                for (const std::string_view set : integer_instruction_sets())
                    CHECK(run(*make_integer_convolution(g, 1, set), expected) == expected);
            }
    }

    TEST_CASE("as many items as sum_items with the largest codes and shifts stay within 32 bits") {
        for (const std::string_view set : integer_instruction_sets()) {
            const std::int64_t items = make_integer_linear(3, 2, 1, set)->sum_items();
            CHECK(items >= 1);
            Case c = make_case(items, 3, 2, 6);
            std::ranges::fill(c.x, std::uint8_t{255});
            std::ranges::fill(c.dy, std::int8_t{-127});
            c.shifts.assign(static_cast<std::size_t>(items), IntegerProduct::kMaxShift);
            const Case found = run(*make_integer_linear(3, 2, items, set), c);
            for (const std::int32_t sum : found.dw)
                CHECK(sum == -255 * 127 * 256 * items);
        }
        const ConvGeometry g{8, 8, 2, 2, 3, 1, 1};
        const auto product = make_integer_convolution(g, 1);
        CHECK(product->sum_items() * 64 * 255 * 127 <= 2147483647);
        CHECK((product->sum_items() + 1) * 64 * 255 * 127 > 2147483647);
    }

    TEST_CASE("a smaller batch gives each item what it gets in a larger one, and so does another order") {
        const ConvGeometry g{9, 9, 6, 10, 3, 2, 1};
        for (const std::string_view set : integer_instruction_sets()) {
            const auto check = [&](IntegerProduct& product, Case batch) {
                fill(batch, 5);
                const Case all = run(product, batch);
                std::vector<std::int32_t> dw(all.dw.size());
                for (std::int64_t i = batch.items - 1; i >= 0; --i) {
                    Case one = make_case(1, batch.in, batch.out, static_cast<std::int64_t>(batch.w.size()));
                    std::copy_n(batch.x.begin() + i * batch.in, batch.in, one.x.begin());
                    std::copy_n(batch.dy.begin() + i * batch.out, batch.out, one.dy.begin());
                    one.zero_points[0] = batch.zero_points[static_cast<std::size_t>(i)];
                    one.w = batch.w;
                    one = run(product, one);
                    CHECK(std::equal(one.y.begin(), one.y.end(), all.y.begin() + i * batch.out));
                    CHECK(std::equal(one.dx.begin(), one.dx.end(), all.dx.begin() + i * batch.in));
                    std::ranges::transform(dw, one.dw, dw.begin(), std::plus{});
                }
                CHECK(dw == all.dw);
            };
            check(*make_integer_convolution(g, 4, set), case_of(g, 4));
            check(*make_integer_linear(19, 23, 5, set), make_case(5, 19, 23, 19 * 23));
        }
    }

    TEST_CASE("weight gradients are added to what is there") {
        const ConvGeometry g{6, 6, 3, 4, 3, 1, 1};
        for (const double live : {1.0, 0.1}) {
            Case c = case_of(g, 1);
            fill(c, 7, live);
            const auto product = make_integer_convolution(g, 1);
            const Case once = run(*product, c);
            std::vector<std::int32_t> twice = once.dw;
            product->weight_gradient(1, c.x, c.zero_points, c.dy, {}, twice, true);
            for (std::size_t i = 0; i < twice.size(); ++i)
                CHECK(twice[i] == 2 * once.dw[i]);
        }
    }

    TEST_CASE("operands that do not fit the plan are refused") {
        const auto product = make_integer_linear(4, 2, 3);
        std::vector<std::int8_t> w(8);
        std::vector<std::uint8_t> x(8);
        std::vector<std::int32_t> zero_points(2);
        std::vector<std::int32_t> y(4);
        std::vector<std::int8_t> dy(4);
        std::vector<std::int32_t> dw(8);
        CHECK_THROWS_AS(product->forward(2, x, zero_points, y), PreconditionError);
        CHECK_THROWS_AS(product->backward_input(1, dy, y), PreconditionError);
        product->pack_forward(w);
        CHECK_NOTHROW(product->forward(2, x, zero_points, y));
        CHECK_THROWS_AS(product->forward(4, x, zero_points, y), PreconditionError);
        CHECK_THROWS_AS(product->forward(1, x, zero_points, y), PreconditionError);
        zero_points[1] = 256;
        CHECK_THROWS_AS(product->forward(2, x, zero_points, y), PreconditionError);
        zero_points[1] = 0;
        CHECK_THROWS_AS(product->pack_forward(std::span(w).first(7)), PreconditionError);
        std::vector<std::uint8_t> shifts{0, 9};
        CHECK_THROWS_AS(product->weight_gradient(2, x, zero_points, dy, shifts, dw, true), PreconditionError);
        shifts.pop_back();
        CHECK_THROWS_AS(product->weight_gradient(2, x, zero_points, dy, shifts, dw, true), PreconditionError);
    }

    TEST_CASE("plans whose sums could leave 32 bits, or that no kernel runs, are refused") {
        CHECK_NOTHROW(make_integer_linear(66311, 1, 1));
        CHECK_THROWS_AS(make_integer_linear(66312, 1, 1), PreconditionError);
        CHECK_THROWS_AS(make_integer_linear(0, 1, 1), PreconditionError);
        CHECK_THROWS_AS(make_integer_linear(1, 1, 0), PreconditionError);
        CHECK_THROWS_AS(make_integer_linear(1, 1, 1, "abacus"), PreconditionError);
        CHECK_THROWS_AS(make_integer_convolution({300, 300, 1, 1, 3, 1, 1}, 1), PreconditionError);
        CHECK_THROWS_AS(make_integer_convolution({8, 8, 3, 4, 3, 1, 1, 2}, 1), PreconditionError);
        CHECK_THROWS_AS(make_integer_convolution({8, 8, 3, 4, 3, 1, 1}, 0), PreconditionError);
    }
}

}  // namespace
}  // namespace dither
