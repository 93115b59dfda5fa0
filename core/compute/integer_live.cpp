#include "core/compute/detail/integer_products.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace dither::detail {

PaddedGrid input_grid(const ConvGeometry& g) {
    return {g.in_height + 2 * g.padding, g.in_width + 2 * g.padding, g.in_channels, g.padding};
}

std::vector<std::int64_t> window_starts(const ConvGeometry& g) {
    const std::int64_t row = input_grid(g).row();
    std::vector<std::int64_t> starts;
    for (std::int64_t y = 0; y < g.out_height(); ++y)
        for (std::int64_t x = 0; x < g.out_width(); ++x)
            starts.push_back((y * row + x * g.in_channels) * g.stride);
    return starts;
}

LiveGradients::LiveGradients(const IntegerKernels& kernels, const ConvGeometry& g)
    : words_(*kernels.words),
      kernels_(*kernels.live),
      geometry_(g),
      grid_(input_grid(g)),
      positions_(g.out_height() * g.out_width()) {
    const std::int64_t width = kernels_.width;
    const bool fits = g.groups == 1 && g.out_channels % 8 == 0 && grid_.count() < std::numeric_limits<int>::max();
    if (!fits || width == 0 || 2 * g.kernel * g.in_channels <= width)
        return;
    run_ = g.kernel * g.in_channels;
    vectors_ = (run_ + width - 1) / width;
    for (std::int64_t ky = 0; ky < g.kernel; ++ky)
        for (std::int64_t v = 0; v < vectors_; ++v) {
            dense_.push_back((ky * vectors_ + v) * width);
            window_.push_back(ky * grid_.row() + v * width);
        }
    starts_ = window_starts(g);
    windows_.assign(starts_.begin(), starts_.end());
    windows_.resize(windows_.size() + kLiveSlack);
    const std::int64_t pitch = g.kernel * vectors_ * width;
    for (std::int64_t o = 0; o < g.out_channels + kLiveSlack; ++o)
        channels_.push_back(static_cast<std::int32_t>(o * pitch));
    const std::int64_t row = (positions_ + 7) / 8 * 8;
    const auto longest = static_cast<std::size_t>((row + 1) * (g.out_channels + 1) + kLiveSlack);
    offsets_.resize(longest);
    values_.resize(longest);
    lists_.resize(static_cast<std::size_t>(std::max(positions_, g.out_channels)));
    sorted_.resize(lists_.size());
    lengths_.resize(static_cast<std::size_t>(g.out_channels + 2));
    transposed_.resize(static_cast<std::size_t>(row * g.out_channels));
    padded_.resize(static_cast<std::size_t>(grid_.count() + pitch + kIntegerSlack));
    weights_.resize(static_cast<std::size_t>(g.out_channels * pitch));
    sums_.resize(static_cast<std::size_t>(std::max(g.out_channels * pitch, grid_.count() + kIntegerSlack)));
}

double LiveGradients::share(const std::int8_t* dy) const {
    if (run_ == 0)
        return 1;
    const std::int64_t count = positions_ * geometry_.out_channels;
    const std::int64_t visited = kernels_.count_live(count, dy) * vectors_ * kernels_.width;
    return static_cast<double>(visited) / static_cast<double>(count * run_);
}

void LiveGradients::pack(const std::int8_t* w) {
    const std::int64_t vectors = vectors_ * kernels_.width;
    for (std::int64_t o = 0; run_ > 0 && o < geometry_.out_channels; ++o)
        for (std::int64_t ky = 0; ky < geometry_.kernel; ++ky)
            kernels_.pack(run_, w + ky * run_ * geometry_.out_channels + o, geometry_.out_channels,
                          weights_.data() + (o * geometry_.kernel + ky) * vectors);
}

void LiveGradients::list(std::int64_t lists, std::int64_t row, const std::int8_t* values,
                         const std::vector<std::int32_t>& offsets) {
    kernels_.list_rows(lists, row, values, offsets.data(), offsets_.data(), values_.data(), lists_.data());
}

/// By their lengths, without the empty ones: loops of changing lengths cost the processor more than the sorting does.
std::span<const LiveList> LiveGradients::sort(std::span<const LiveList> lists) {
    std::ranges::fill(lengths_, 0);
    for (const LiveList& list : lists)
        ++lengths_[static_cast<std::size_t>(list.count)];
    const auto empty = static_cast<std::size_t>(lengths_[0]);
    std::int32_t place = 0;
    for (std::int32_t& length : lengths_)
        place += std::exchange(length, place);
    for (const LiveList& list : lists)
        sorted_[static_cast<std::size_t>(lengths_[static_cast<std::size_t>(list.count)]++)] = list;
    return std::span(sorted_).first(lists.size()).subspan(empty);
}

void LiveGradients::input_gradient(const std::int8_t* dy, std::int32_t* dx) {
    const ConvGeometry& g = geometry_;
    std::fill_n(sums_.begin(), grid_.count(), 0);
    list(positions_, g.out_channels, dy, channels_);
    for (std::size_t q = 0; q < starts_.size(); ++q)
        lists_[q].out = starts_[q];
    const std::span<const LiveList> lists = sort(std::span(lists_).first(starts_.size()));
    kernels_.sum({weights_.data(), offsets_.data(), values_.data(), static_cast<std::int64_t>(lists.size()),
                  lists.data(), static_cast<std::int64_t>(dense_.size()), dense_.data(), sums_.data(), window_.data(),
                  true});
    const std::int64_t row = g.in_width * g.in_channels;
    const std::int32_t* from = sums_.data() + grid_.top * (grid_.row() + grid_.channels);
    for (std::int64_t y = 0; y < g.in_height; ++y)
        std::copy_n(from + y * grid_.row(), row, dx + y * row);
}

void LiveGradients::add_weight_gradient(const std::uint8_t* x, std::int32_t zero_point, const std::int8_t* dy,
                                        std::int32_t* dw) {
    const ConvGeometry& g = geometry_;
    const std::int64_t row = g.in_width * g.in_channels;
    std::int16_t* padded = padded_.data() + grid_.top * (grid_.row() + grid_.channels);
    for (std::int64_t y = 0; y < g.in_height; ++y)
        words_.load_codes(row, x + y * row, zero_point, padded + y * grid_.row());
    kernels_.transpose(positions_, g.out_channels, dy, transposed_.data());
    list(g.out_channels, (positions_ + 7) / 8 * 8, transposed_.data(), windows_);
    const std::int64_t run = vectors_ * kernels_.width;
    const std::int64_t pitch = g.kernel * run;
    for (std::int64_t o = 0; o < g.out_channels; ++o)
        lists_[static_cast<std::size_t>(o)].out = o * pitch;
    kernels_.sum({padded_.data(), offsets_.data(), values_.data(), g.out_channels, lists_.data(),
                  static_cast<std::int64_t>(dense_.size()), window_.data(), sums_.data(), dense_.data(), false});
    for (std::int64_t ky = 0; ky < g.kernel; ++ky)
        kernels_.add_transposed(run_, g.out_channels, sums_.data() + ky * run, pitch, dw + ky * run_ * g.out_channels);
}

}  // namespace dither::detail
