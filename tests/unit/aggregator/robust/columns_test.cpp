#include "aggregator/robust/columns.hpp"

#include "core/rng.hpp"

#include <algorithm>

#include <doctest/doctest.h>

using namespace dither;

TEST_SUITE("aggregator/robust/columns") {
    TEST_CASE("each column is sorted, whatever the number of rows") {
        for (std::uint32_t rows = 1; rows <= 70; ++rows) {
            CAPTURE(rows);
            Columns columns(rows);
            Stream stream(StreamKey{.client = rows});
            std::vector<std::vector<float>> expected(Columns::kWidth);
            for (std::size_t i = 0; i < rows; ++i)
                for (std::size_t j = 0; j < Columns::kWidth; ++j) {
                    columns.row(i)[j] = static_cast<float>(stream.below(40)) - 20;  // with many ties
                    expected[j].push_back(columns.row(i)[j]);
                }
            columns.sort();
            for (std::size_t j = 0; j < Columns::kWidth; ++j) {
                std::ranges::sort(expected[j]);
                for (std::size_t i = 0; i < rows; ++i)
                    REQUIRE(columns.row(i)[j] == expected[j][i]);
            }
        }
    }

    TEST_CASE("the median of an even number of rows lies halfway between the middle two") {
        Columns columns(4);
        for (std::size_t i = 0; i < 4; ++i)
            columns.row(i)[5] = static_cast<float>(i * i);
        CHECK(columns.median()[5] == 2.5);
        CHECK(columns.mean(1, 4)[5] == doctest::Approx(14.0 / 3));
    }
}
