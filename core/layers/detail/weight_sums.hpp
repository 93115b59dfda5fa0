// Integer sums on their way to a weight gradient. Private to core/layers.
#pragma once

#include "core/arena.hpp"
#include "core/layers/detail/weighted_kernels.hpp"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace dither {

/// Collects products of codes that share a scale, [rows, channels] in 32 bits, and hands them over to fp32 before the
/// scale changes or a sum could overflow: dw = sum over the groups of scale / unit[channel] * sums.
class WeightSums {
public:
    /// `dw` is overwritten; `units` has one value for each channel or is empty for 1. `factors`: [channels], scratch.
    WeightSums(std::span<float> dw, std::span<const float> units, std::span<float> factors, Arena* arena)
        : dw_(dw), units_(units), factors_(factors), sums_(dw.size(), arena) {}

    /// Calls sum(sums, add) to sum `items` more: to begin anew, or to add where `add`.
    template <typename Sum>
    void take(std::int64_t items, const Sum& sum) {
        sum(sums_.values(), items_ > 0);
        items_ += items;
    }
    std::int64_t items() const { return items_; }  ///< since the last hand_over
    void hand_over(float scale) {
        if (items_ == 0)
            return;
        for (std::size_t c = 0; c < factors_.size(); ++c)
            factors_[c] = units_.empty() ? scale : scale / units_[c];
        const auto write = first_ ? kernels::scale_columns : kernels::add_scaled;
        write(sums_.data(), factors_.data(), dw_.size() / factors_.size(), factors_.size(), dw_.data());
        first_ = false;
        items_ = 0;
    }

private:
    std::span<float> dw_;
    std::span<const float> units_;
    std::span<float> factors_;
    Buffer<std::int32_t> sums_;
    std::int64_t items_ = 0;
    bool first_ = true;
};

}  // namespace dither
