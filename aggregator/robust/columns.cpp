#include "aggregator/robust/columns.hpp"

#include "aggregator/robust/detail/add_scaled.hpp"
#include "core/simd.hpp"

#include <bit>

namespace dither {

namespace {

DITHER_CLONES void exchange(float* low, float* high) {
#pragma GCC ivdep
    for (std::size_t j = 0; j < Columns::kWidth; ++j) {
        const float a = low[j], b = high[j];
        low[j] = b < a ? b : a;
        high[j] = b < a ? a : b;
    }
}

}  // namespace

Columns::Columns(std::size_t rows) : rows_(rows), values_(rows * kWidth) {
    const std::size_t half = std::bit_ceil(rows) / 2;
    for (std::size_t p = half; p > 0; p /= 2) {
        std::size_t distance = p, which = 0;
        for (std::size_t q = half;; q /= 2) {
            for (std::uint32_t i = 0; i + distance < rows; ++i)
                if ((i & p) == which)
                    exchanges_.emplace_back(i, static_cast<std::uint32_t>(i + distance));
            if (q == p)
                break;
            distance = q - p;
            which = p;
        }
    }
}

void Columns::sort() {
    for (const auto& [low, high] : exchanges_)
        exchange(row(low).data(), row(high).data());
}

Columns::Doubles Columns::mean(std::size_t first, std::size_t last) const {
    Doubles means{};
    for (std::size_t i = first; i < last; ++i)
        add_scaled(means.data(), 1, row(i).data(), kWidth);
    for (double& value : means)
        value /= static_cast<double>(last - first);
    return means;
}

}  // namespace dither
