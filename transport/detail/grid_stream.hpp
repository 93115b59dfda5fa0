// All integers of a payload through one range coder, in the order of the schema.
#pragma once

#include "core/model/schema.hpp"
#include "transport/codec.hpp"
#include "transport/detail/grid_model.hpp"
#include "transport/detail/scale_tracker.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace dither::detail {

/// One payload. Coder: RangeEncoder or RangeDecoder; it is borrowed, as the schema and what the terms refer to.
template <typename Coder>
class GridStream {
public:
    GridStream(Coder& coder, const Schema& schema, const Terms& terms)
        : coder_(coder), schema_(schema), terms_(terms) {}

    /// The next integers of a layer, at most kGridChunk, which were rounded by `words` (u is their upper 24 bits). An
    /// encoder reads `codes`; a decoder writes them: multiples of step / 256, with the control variate.
    void code(std::size_t layer, std::span<const std::uint32_t> words, std::span<std::int32_t> codes) {
        dithers_.draw(words);
        Coder coder = coder_;  // copies stay in registers
        ScaleTracker::Row row = row_;
        for (std::size_t done = 0; done < words.size();) {
            if (column_ == 0)
                row = begin_row(layer);
            const std::size_t run = std::min(words.size() - done, extents_.columns - column_);
            code_run(coder, row, done, codes.subspan(done, run));
            done += run;
            column_ += run;
            if (column_ == extents_.columns) {
                column_ = 0;
                ++row_index_;
            }
        }
        row_ = row;
        coder_ = coder;
    }

private:
    ScaleTracker::Row begin_row(std::size_t layer) {
        while (row_index_ == extents_.rows)  // of the tensor before; an empty one has no rows
            begin_tensor(layer);
        return tracker_.row(row_index_);
    }
    void begin_tensor(std::size_t layer) {
        for (; layer_ < layer; ++layer_) {
            first_tensor_ += schema_.layers()[layer_].tensors.size();
            tensor_ = 0;
        }
        const std::size_t tensor = first_tensor_ + tensor_;  // empty ones count, though they may never begin
        extents_ = MatrixExtents::of(schema_.layers()[layer].tensors[tensor_++].shape);
        row_index_ = 0;
        if (terms_.expectation == nullptr)
            return tracker_.begin(extents_, nullptr, terms_.steps[layer]);
        const Expectation::Levels levels = terms_.expectation->of(tensor);
        tracker_.begin(extents_, &levels, terms_.steps[layer]);
    }
    /// Within the row, by the dithers from `first` on.
    void code_run(Coder& coder, ScaleTracker::Row& row, std::size_t first, std::span<std::int32_t> codes) {
        for (std::size_t i = 0; i < codes.size(); ++i) {
            const Dither dither = dithers_[first + i];
            const GridContext at(row.level(column_ + i), dither);
            const GridModel::Coded coded = model_.code(coder, at, dither, codes[i]);
            row.learn(column_ + i, coded.surprise);
            if constexpr (std::is_same_v<Coder, RangeDecoder>)
                codes[i] = 256 * coded.q - variate_.next(at, dither, coded);
        }
    }

    Coder& coder_;
    const Schema& schema_;
    const Terms& terms_;
    Dithers dithers_;
    GridModel model_;
    ControlVariate variate_;
    ScaleTracker tracker_;
    ScaleTracker::Row row_;
    MatrixExtents extents_;
    std::size_t layer_ = 0;
    std::size_t tensor_ = 0;        ///< the next of the layer
    std::size_t first_tensor_ = 0;  ///< of the layer, counted through all of them
    std::size_t row_index_ = 0;
    std::size_t column_ = 0;  ///< of the next integer
};

}  // namespace dither::detail
