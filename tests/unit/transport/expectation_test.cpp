#include "transport/expectation.hpp"

#include "core/error.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

using namespace dither;

namespace {

Schema one_tensor(const Shape& shape) {
    const auto count = static_cast<std::size_t>(shape.count());
    return Schema({{.name = "fc1", .count = count, .tensors = {{"weight", shape, 0}}}});
}

int level(const Expectation::Levels& levels, std::size_t row, std::size_t column) {
    return std::max<int>(levels.rows[row] + levels.columns[column], levels.least);
}

}  // namespace

TEST_SUITE("transport/expectation") {
    TEST_CASE("a level is sixteen times the logarithm to base 2, within 1.4 and rounding down") {
        CHECK(level_of(1) == 0);
        CHECK(level_of(2) == 16);
        CHECK(level_of(0.125F) == -48);
        for (float value = 1e-30F; value < 1e30F; value *= 1.0937F) {
            const double exact = 16 * std::log2(static_cast<double>(value));
            CHECK(level_of(value) <= exact);
            CHECK(level_of(value) > exact - 2.4);
        }
        CHECK(level_of(0) < level_of(std::numeric_limits<float>::min()));
    }

    TEST_CASE("a matrix has the rows of all extents but the last; a vector is one column") {
        CHECK(MatrixExtents::of(Shape{3, 5, 2, 7}).rows == 30);
        CHECK(MatrixExtents::of(Shape{3, 5, 2, 7}).columns == 7);
        CHECK(MatrixExtents::of(Shape{9}).rows == 9);
        CHECK(MatrixExtents::of(Shape{9}).columns == 1);
        CHECK(MatrixExtents::of(Shape{0, 4}).rows == 0);
    }

    TEST_CASE("of a product of rows and columns every coordinate is known") {
        constexpr std::size_t kRows = 12;
        constexpr std::size_t kColumns = 7;
        std::vector<float> sum(kRows * kColumns);
        const auto value = [](std::size_t i, std::size_t j) {
            return std::ldexp(1.0F + 0.05F * static_cast<float>(i), static_cast<int>(i % 4) - static_cast<int>(j % 3));
        };
        for (std::size_t i = 0; i < kRows; ++i)
            for (std::size_t j = 0; j < kColumns; ++j)
                sum[i * kColumns + j] = (i + j) % 2 == 0 ? value(i, j) : -value(i, j);
        const Expectation expectation(one_tensor(Shape{kRows, kColumns}), sum);
        for (std::size_t i = 0; i < kRows; ++i)
            for (std::size_t j = 0; j < kColumns; ++j)
                CHECK(std::abs(level(expectation.of(0), i, j) - level_of(value(i, j))) <= 4);
    }

    TEST_CASE("zeros are expected to be small, not impossible") {
        std::vector<float> sum(40, 1.0F);
        std::fill(sum.begin(), sum.begin() + 10, 0.0F);
        const Expectation expectation(one_tensor(Shape{4, 10}), sum);
        CHECK(level(expectation.of(0), 0, 3) == level_of(0.75F) - 8 * 16);
        CHECK(std::abs(level(expectation.of(0), 1, 3)) <= 1);
        const Expectation nothing(one_tensor(Shape{4, 10}), std::vector<float>(40));
        CHECK(level(nothing.of(0), 0, 0) == level(nothing.of(0), 3, 9));
    }

    TEST_CASE("tensors are counted through all layers, and a sum of another size is a defect") {
        const Schema schema(
            {{.name = "fc1", .count = 6, .tensors = {{"weight", Shape{2, 2}, 0}, {"bias", Shape{2}, 4}}},
             {.name = "fc2", .offset = 6, .count = 2, .tensors = {{"weight", Shape{2, 1}, 6}}}});
        const Expectation expectation(schema, std::vector<float>{1, 1, 1, 1, 8, 8, 64, 64});
        CHECK(expectation.tensor_count() == 3);
        CHECK(level(expectation.of(0), 1, 1) == 0);
        CHECK(level(expectation.of(1), 1, 0) == 48);
        CHECK(level(expectation.of(2), 0, 0) == 96);
        CHECK_THROWS_AS(expectation.of(3), PreconditionError);
        CHECK_THROWS_AS(Expectation(schema, std::vector<float>(7)), PreconditionError);
    }
}
