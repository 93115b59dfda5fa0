// What the model believes before it has seen anything: x / step has a Laplace distribution of its scale, so that
//
//     P(q on the near side) = exp(-t / scale) / 2        P(q on the far side) = exp(-(1 - t) / scale) / 2
#include "transport/detail/grid_model.hpp"

#include "core/error.hpp"
#include "core/simd.hpp"

namespace dither::detail {
namespace {

constexpr std::uint32_t kPriorWeight = 12;  ///< integers that it is worth

constexpr double power_of_two(double x) {
    return exponential(x * 0.6931471805599453);
}
constexpr double scale_of(std::size_t index) {
    return power_of_two((static_cast<double>(index) - GridContext::kScaleOfOne + 0.5) / 2);
}
constexpr double dither_of(std::size_t index) {
    return power_of_two(-1 - (static_cast<double>(index) + 0.5) / 4);
}
/// exp(-distance / scale) / 2
constexpr double tail(double distance, double scale) {
    const double ratio = distance / scale;
    return ratio > 200 ? 0 : exponential(-ratio) / 2;
}

template <typename Function>
constexpr auto table_of(Function&& function) {
    std::array<std::array<AdaptiveBit, GridContext::kDithers>, GridContext::kScales> table;
    for (std::size_t scale = 0; scale < table.size(); ++scale)
        for (std::size_t dither = 0; dither < table[scale].size(); ++dither)
            table[scale][dither] =
                AdaptiveBit(to_probability(function(scale_of(scale), dither_of(dither))), kPriorWeight);
    return table;
}

constexpr double kRareMove = 1.0 / 1024;

constexpr auto kMoved =
    table_of([](double scale, double t) { return std::max(tail(t, scale) + tail(1 - t, scale), kRareMove); });
constexpr auto kNear = table_of([](double scale, double t) {
    const double near = tail(t, scale);
    const double far = tail(1 - t, scale);
    return near <= 0 ? 0.99 : std::min(near / (near + far), 0.99);
});
constexpr auto kMovedByRatio = [] {
    std::array<AdaptiveBit, GridContext::kRatios> table;
    for (std::size_t i = 0; i < table.size(); ++i) {
        const double ratio = power_of_two((static_cast<double>(i) + 0.5 - GridContext::kRatios / 2) / 4);
        table[i] = AdaptiveBit(to_probability(std::max(tail(1, ratio), kRareMove)), kPriorWeight);
    }
    return table;
}();
/// That an upper part of the magnitude has one more, all 2^raw of them: exp(-2^raw / scale).
constexpr auto kLarger = [] {
    std::array<AdaptiveBit, GridContext::kScales> table;
    for (std::size_t i = 0; i < table.size(); ++i) {
        const double p =
            2 * tail(static_cast<double>(1U << GridModel::raw_bits(static_cast<std::uint32_t>(i))), scale_of(i));
        table[i] = AdaptiveBit(to_probability(std::clamp(p, 0.03, 0.97)), kPriorWeight);
    }
    return table;
}();

/// With word = 2^24 u, t = (near + 1/2) / 2^24 and near = min(word, 2^24 - 1 - word).
DITHER_CLONES void draw_all(const std::uint32_t* words, std::size_t count, std::int32_t* levels, std::int32_t* sides) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint32_t upper = 0U - (words[i] >> 31);
        const std::uint32_t near = (words[i] >> 8 ^ upper) & 0xffffff;
        levels[i] = level_of(static_cast<float>(static_cast<std::int32_t>(2 * near + 1))) - 25 * 16;
        sides[i] = static_cast<std::int32_t>((upper & 0x80000000) | ((1U << 23) - near) >> 16);
    }
}

}  // namespace

void Dithers::draw(std::span<const std::uint32_t> words) {
    require(words.size() <= kGridChunk, "{} roundings at once, expected at most {}", words.size(), kGridChunk);
    draw_all(words.data(), words.size(), levels_.data(), sides_.data());
}

GridModel::GridModel() : by_ratio_(kMovedByRatio), by_both_(kMoved), near_side_(kNear) {
    for (std::size_t scale = 0; scale < larger_.size(); ++scale)
        for (auto& by_place : larger_[scale])
            by_place.fill(kLarger[scale]);
}

}  // namespace dither::detail
