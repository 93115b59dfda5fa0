// How large each coordinate of a payload is likely to be, in steps: by an expectation that both ends have, or none, and
// by what the payload itself has said so far of the coordinate's row and column. A row or column whose integers are
// larger than expected is rated up, by so much a surprise, as in Elo's ratings (1978): stochastic gradient descent on
// the logarithm of its scale.
#pragma once

#include "core/error.hpp"
#include "transport/expectation.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <vector>

namespace dither::detail {

class ScaleTracker {
public:
    struct Column {
        std::int32_t level = 0;
        std::int32_t rating = 0;
    };

    /// The row that is coded: small, so that a loop can have it in registers. Borrows its tracker's columns.
    class Row {
    public:
        /// log2(scale / step) of coordinate `column`, in sixteenths.
        std::int32_t level(std::size_t column) const {
            const Column& place = columns_[column];
            const std::int32_t expected = std::max(level_ + place.level, least_);
            return expected + ((rating_ + place.rating) >> kRatingBits);
        }
        void learn(std::size_t column, std::int32_t surprise) {
            std::int32_t& rating = columns_[column].rating;
            rating = moved(rating, surprise * column_rate_);
            rating_ = moved(rating_, surprise * rate(column));
        }

    private:
        friend class ScaleTracker;
        static std::int32_t moved(std::int32_t rating, std::int32_t by) {
            const std::int32_t next = rating + by;
            if (next < -kMostRating || next > kMostRating)
                [[unlikely]]  // foreseen; the next integer would wait for a clamp
                return next < 0 ? -kMostRating : kMostRating;
            return next;
        }

        Column* columns_ = nullptr;
        std::int32_t level_ = kUnknown;
        std::int32_t least_ = std::numeric_limits<std::int32_t>::min();
        std::int32_t rating_ = 0;
        std::int32_t column_rate_ = 0;  ///< of its columns
    };

    /// The next matrix. `expected`: of its coordinates, nullptr if not known; borrowed.
    void begin(const MatrixExtents& extents, const Expectation::Levels* expected, float step) {
        columns_.assign(extents.columns, Column{});
        expected_ = expected == nullptr ? Expectation::Levels{} : *expected;
        require(expected == nullptr || expected_.columns.size() == extents.columns, "{} expected columns of {}",
                expected_.columns.size(), extents.columns);
        offset_ = expected == nullptr ? 0 : kClientOverSum - level_of(step);
        for (std::size_t j = 0; j < expected_.columns.size(); ++j)
            columns_[j].level = expected_.columns[j];
    }
    Row row(std::size_t index) {
        Row row;
        row.columns_ = columns_.data();
        row.column_rate_ = rate(index);
        if (!expected_.rows.empty()) {
            row.level_ = expected_.rows[index] + offset_;
            row.least_ = expected_.least + offset_;
        }
        return row;
    }

private:
    static constexpr unsigned kRatingBits = 20;  ///< a rating is in 2^-20 sixteenths
    static constexpr std::int32_t kMostRating = 512 << kRatingBits;
    static constexpr std::int32_t kUnknown = -28;       ///< a scale of 0.3, where nothing is known
    static constexpr std::int32_t kClientOverSum = 16;  ///< one client's coordinates are larger than those of a mean

    /// Of the n-th coordinate of a row or column, fast at first: from half an octave a surprise to 1/13.
    static std::int32_t rate(std::size_t n) { return kRates[std::min(n, kRates.size() - 1)]; }
    static constexpr auto kRates = [] {
        std::array<std::int32_t, 44> rates{};
        for (std::size_t n = 0; n < rates.size(); ++n)
            rates[n] = static_cast<std::int32_t>(1024 / (8 + n));
        return rates;
    }();

    Expectation::Levels expected_;
    std::vector<Column> columns_;
    std::int32_t offset_ = 0;
};

}  // namespace dither::detail
