// A convolution on codes without patches: one image at a time is padded and widened, and a row of the product (an
// output position, an input position, or a weight) is an offset into it.
#include "core/compute/detail/integer_products.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace dither::detail {
namespace {

std::vector<std::int64_t> arithmetic_run(std::int64_t first, std::int64_t count, std::int64_t step) {
    std::vector<std::int64_t> run(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i)
        run[static_cast<std::size_t>(i)] = first + i * step;
    return run;
}

/// Where fewer multiplications than this share of the dense ones are left, visiting the live values alone is faster:
/// measured with AVX2.
constexpr double kSparseInputShare = 0.25;
constexpr double kSparseWeightShare = 0.35;

}  // namespace

IntegerConvolution::IntegerConvolution(const IntegerKernels& kernels, const ConvGeometry& g, std::int64_t max_items)
    : kernels_(kernels),
      geometry_(g),
      max_items_(max_items),
      depthwise_(g.groups == g.in_channels && g.groups == g.out_channels),
      sections_(depthwise_ ? 1 : g.groups),
      section_{g.in_channels / sections_, g.out_channels / sections_},
      image_(g.in_height * g.in_width * g.in_channels),
      positions_(g.out_height() * g.out_width()),
      weights_(g.fan_in() * g.out_channels),
      grid_{g.in_height + 2 * g.padding, g.in_width + 2 * g.padding, g.in_channels, g.padding} {
    const std::int64_t border = (g.kernel - 1) / g.stride;
    output_grid_ = {border + std::max(g.out_height(), (g.in_height - 1 + g.padding) / g.stride + 1),
                    border + std::max(g.out_width(), (g.in_width - 1 + g.padding) / g.stride + 1), g.out_channels,
                    border};
    plan_forward();
    for (std::int64_t y = 0; y < g.stride; ++y)
        for (std::int64_t x = 0; x < g.stride; ++x)
            plan_backward(y, x);
    plan_gradient();

    const std::int64_t distance = kernels_.group * std::max(g.stride * g.in_channels, g.out_channels);
    padded_.resize(static_cast<std::size_t>(grid_.count() + distance + kIntegerSlack));
    padded_gradient_.resize(static_cast<std::size_t>(output_grid_.count() + distance + kIntegerSlack));
    const std::int64_t widest = std::max(grid_.count(), depthwise_ ? output_grid_.count() : 0);
    interleaved_.resize(static_cast<std::size_t>((widest + distance) * kernels_.group + kIntegerSlack));
    plan_live();
}

void IntegerConvolution::plan_forward() {
    const ConvGeometry& g = geometry_;
    const std::int64_t scale = depthwise_ ? kernels_.group : 1;
    for (std::int64_t y = 0; y < g.out_height(); ++y)
        for (std::int64_t x = 0; x < g.out_width(); ++x) {
            forward_.outputs.push_back(static_cast<std::int64_t>(forward_.rows.size()) * g.out_channels);
            forward_.rows.push_back((y * grid_.row() + x * g.in_channels) * g.stride * scale);
        }
    for (std::int64_t ky = 0; ky < g.kernel; ++ky) {
        const std::int64_t offset = ky * grid_.row();
        const std::int64_t source = ky * g.kernel * section_.in * g.out_channels;
        if (depthwise_)
            forward_.add_run(kernels_.group, offset * scale, g.in_channels * scale,
                             arithmetic_run(ky * g.kernel * g.in_channels, g.kernel, g.in_channels));
        else if (sections_ == 1)
            forward_.add_run(kernels_.group, offset, 1,
                             arithmetic_run(source, g.kernel * g.in_channels, g.out_channels));
        else
            for (std::int64_t kx = 0; kx < g.kernel; ++kx)
                forward_.add_run(
                    kernels_.group, offset + kx * g.in_channels, 1,
                    arithmetic_run(source + kx * section_.in * g.out_channels, section_.in, g.out_channels));
    }
    forward_.reserve(kernels_, section_.out, sections_);
}

void IntegerConvolution::plan_backward(std::int64_t first_y, std::int64_t first_x) {
    const ConvGeometry& g = geometry_;
    const std::int64_t scale = depthwise_ ? kernels_.group : 1;
    // Taps of this class: first, first + stride, ...; the last of them meets the first output.
    const auto taps = [&](std::int64_t first) { return (g.kernel - first + g.stride - 1) / g.stride; };
    const std::int64_t rows = first_y < g.kernel ? taps(first_y) : 0;
    const std::int64_t columns = first_x < g.kernel ? taps(first_x) : 0;
    const auto first_output = [&](std::int64_t in, std::int64_t count) {
        return (in + g.padding) / g.stride - count + 1 + output_grid_.top;
    };

    IntegerPlan& plan = backward_.emplace_back();
    for (std::int64_t y = 0; y < g.in_height; ++y)
        for (std::int64_t x = 0; x < g.in_width; ++x)
            if ((y + g.padding) % g.stride == first_y && (x + g.padding) % g.stride == first_x) {
                plan.outputs.push_back((y * g.in_width + x) * g.in_channels);
                plan.rows.push_back((first_output(y, rows) * output_grid_.width + first_output(x, columns)) *
                                    g.out_channels * scale);
            }
    for (std::int64_t row = 0; row < rows; ++row) {
        const std::int64_t ky = first_y + g.stride * (rows - 1 - row);
        std::vector<std::int64_t> run;
        for (std::int64_t column = 0; column < columns; ++column) {
            const std::int64_t kx = first_x + g.stride * (columns - 1 - column);
            const std::int64_t source = (ky * g.kernel + kx) * section_.in * g.out_channels;
            const std::int64_t offset = (row * output_grid_.width + column) * g.out_channels;
            if (depthwise_) {
                run.push_back((ky * g.kernel + kx) * g.in_channels);
            } else if (sections_ == 1) {
                const std::vector<std::int64_t> tap = arithmetic_run(source, g.out_channels, 1);
                run.insert(run.end(), tap.begin(), tap.end());
            } else {
                plan.add_run(kernels_.group, offset, 1, arithmetic_run(source, section_.out, 1));
            }
        }
        plan.add_run(kernels_.group, row * output_grid_.row() * scale, depthwise_ ? g.out_channels * scale : 1, run);
    }
    plan.reserve(kernels_, section_.in, sections_);
}

void IntegerConvolution::plan_gradient() {
    const ConvGeometry& g = geometry_;
    const std::int64_t scale = kernels_.group;
    for (std::int64_t ky = 0; ky < g.kernel; ++ky)
        for (std::int64_t kx = 0; kx < g.kernel; ++kx)
            for (std::int64_t c = 0; c < (depthwise_ ? 1 : section_.in); ++c) {
                gradient_.outputs.push_back(static_cast<std::int64_t>(gradient_.rows.size()) * g.out_channels);
                gradient_.rows.push_back((ky * grid_.row() + kx * g.in_channels + c) * scale);
            }
    for (std::int64_t y = 0; y < g.out_height(); ++y)
        gradient_.add_run(kernels_.group, y * g.stride * grid_.row() * scale, g.stride * g.in_channels * scale,
                          arithmetic_run(y * g.out_width() * g.out_channels, g.out_width(), g.out_channels));
    gradient_.reserve(kernels_, section_.out, sections_);
}

void IntegerConvolution::plan_live() {
    const ConvGeometry& g = geometry_;
    const bool fits = g.groups == 1 && g.out_channels % 8 == 0 && grid_.count() < std::numeric_limits<int>::max();
    const std::int64_t width = kernels_.live == nullptr ? 0 : kernels_.live->width;
    if (!fits || 2 * g.kernel * g.in_channels <= width || width == 0)
        return;
    live_.run = g.kernel * g.in_channels;
    live_.vectors = (live_.run + width - 1) / width;
    for (std::int64_t ky = 0; ky < g.kernel; ++ky)
        for (std::int64_t v = 0; v < live_.vectors; ++v) {
            live_.dense.push_back((ky * live_.vectors + v) * width);
            live_.window.push_back(ky * grid_.row() + v * width);
        }
    live_.windows.assign(forward_.rows.begin(), forward_.rows.end());
    live_.windows.resize(live_.windows.size() + kLiveSlack);
    const std::int64_t pitch = g.kernel * live_.vectors * width;
    for (std::int64_t o = 0; o < g.out_channels + kLiveSlack; ++o)
        live_.channels.push_back(static_cast<std::int32_t>(o * pitch));
    const std::int64_t row = (positions_ + 7) / 8 * 8;
    const auto longest = static_cast<std::size_t>((row + 1) * (g.out_channels + 1) + kLiveSlack);
    live_.offsets.resize(longest);
    live_.values.resize(longest);
    live_.lists.resize(static_cast<std::size_t>(std::max(positions_, g.out_channels)));
    live_.sorted.resize(live_.lists.size());
    live_.lengths.resize(static_cast<std::size_t>(g.out_channels + 2));
    live_.transposed.resize(static_cast<std::size_t>(row * g.out_channels));
    live_.weights.resize(static_cast<std::size_t>(g.out_channels * pitch));
    live_.sums.resize(static_cast<std::size_t>(std::max(g.out_channels * pitch, grid_.count() + kIntegerSlack)));
}

bool IntegerConvolution::is_sparse(const std::int8_t* dy, double share) const {
    if (live_.run == 0)
        return false;
    const std::int64_t count = positions_ * geometry_.out_channels;
    const std::int64_t visited = kernels_.live->count_live(count, dy) * live_.vectors * kernels_.live->width;
    return static_cast<double>(visited) < share * static_cast<double>(count * live_.run);
}

void IntegerConvolution::list_live(std::int64_t lists, std::int64_t row, const std::int8_t* values,
                                   const std::vector<std::int32_t>& offsets) {
    kernels_.live->list_rows(lists, row, values, offsets.data(), live_.offsets.data(), live_.values.data(),
                             live_.lists.data());
}

/// By their lengths, without the empty ones: loops of changing lengths cost the processor more than the sorting does.
std::span<const LiveList> IntegerConvolution::sort_lists(std::span<const LiveList> lists) {
    std::ranges::fill(live_.lengths, 0);
    for (const LiveList& list : lists)
        ++live_.lengths[static_cast<std::size_t>(list.count)];
    const auto empty = static_cast<std::size_t>(live_.lengths[0]);
    std::int32_t place = 0;
    for (std::int32_t& length : live_.lengths)
        place += std::exchange(length, place);
    for (const LiveList& list : lists)
        live_.sorted[static_cast<std::size_t>(live_.lengths[static_cast<std::size_t>(list.count)]++)] = list;
    return std::span(live_.sorted).first(lists.size()).subspan(empty);
}

void IntegerConvolution::scatter_live(const std::int8_t* dy, std::int32_t* dx) {
    const ConvGeometry& g = geometry_;
    std::fill_n(live_.sums.begin(), grid_.count(), 0);
    list_live(positions_, g.out_channels, dy, live_.channels);
    for (std::size_t q = 0; q < forward_.rows.size(); ++q)
        live_.lists[q].out = forward_.rows[q];
    const std::span<const LiveList> lists = sort_lists(std::span(live_.lists).first(forward_.rows.size()));
    kernels_.live->sum({live_.weights.data(), live_.offsets.data(), live_.values.data(),
                        static_cast<std::int64_t>(lists.size()), lists.data(),
                        static_cast<std::int64_t>(live_.dense.size()), live_.dense.data(), live_.sums.data(),
                        live_.window.data(), true});
    const std::int64_t row = g.in_width * g.in_channels;
    const std::int32_t* from = live_.sums.data() + grid_.top * (grid_.row() + grid_.channels);
    for (std::int64_t y = 0; y < g.in_height; ++y)
        std::copy_n(from + y * grid_.row(), row, dx + y * row);
}

void IntegerConvolution::add_live_gradient(const std::int8_t* dy, std::int32_t* dw) {
    const ConvGeometry& g = geometry_;
    const IntegerLiveKernels& kernels = *kernels_.live;
    kernels.transpose(positions_, g.out_channels, dy, live_.transposed.data());
    list_live(g.out_channels, (positions_ + 7) / 8 * 8, live_.transposed.data(), live_.windows);
    const std::int64_t run = live_.vectors * kernels.width;
    const std::int64_t pitch = g.kernel * run;
    for (std::int64_t o = 0; o < g.out_channels; ++o)
        live_.lists[static_cast<std::size_t>(o)].out = o * pitch;
    kernels.sum({padded_.data(), live_.offsets.data(), live_.values.data(), g.out_channels, live_.lists.data(),
                 static_cast<std::int64_t>(live_.dense.size()), live_.window.data(), live_.sums.data(),
                 live_.dense.data(), false});
    for (std::int64_t ky = 0; ky < g.kernel; ++ky)
        kernels.add_transposed(live_.run, g.out_channels, live_.sums.data() + ky * run, pitch,
                               dw + ky * live_.run * g.out_channels);
}

void IntegerConvolution::pad_codes(const std::uint8_t* image, std::int32_t zero_point) {
    const std::int64_t row = geometry_.in_width * geometry_.in_channels;
    std::int16_t* to = padded_.data() + grid_.top * (grid_.row() + grid_.channels);
    for (std::int64_t y = 0; y < geometry_.in_height; ++y)
        kernels_.widen_codes(row, image + y * row, zero_point, to + y * grid_.row());
}

void IntegerConvolution::pad_gradient(const std::int8_t* dy) {
    const std::int64_t row = geometry_.out_width() * geometry_.out_channels;
    std::int16_t* to = padded_gradient_.data() + output_grid_.top * (output_grid_.row() + output_grid_.channels);
    for (std::int64_t y = 0; y < geometry_.out_height(); ++y)
        kernels_.widen(row, dy + y * row, to + y * output_grid_.row());
}

const std::int16_t* IntegerConvolution::interleaved(const WideCodes& padded, const Grid& grid, std::int64_t distance) {
    kernels_.interleave(grid.count(), padded.data(), distance, interleaved_.data());
    return interleaved_.data();
}

void IntegerConvolution::pack(IntegerPlan& plan, const std::int8_t* from, std::int64_t section, std::int64_t channels,
                              std::int64_t channel_stride) {
    std::int16_t* to = plan.packed.data();
    for (std::int64_t s = 0; s < sections_; ++s, from += section, to += plan.section_size(kernels_, channels))
        kernels_.pack({from, static_cast<std::int64_t>(plan.groups.size()), plan.sources.data(), channels,
                       channel_stride, nullptr},
                      to);
}

void IntegerConvolution::multiply(const IntegerPlan& plan, const std::int16_t* base, std::int64_t base_section,
                                  std::int64_t channels, std::int32_t* out, bool accumulate) {
    const auto kernel = depthwise_ ? kernels_.multiply_channels : kernels_.multiply;
    const std::int16_t* packed = plan.packed.data();
    for (std::int64_t s = 0; s < sections_; ++s) {
        kernel({base, static_cast<std::int64_t>(plan.rows.size()), plan.rows.data(),
                static_cast<std::int64_t>(plan.groups.size()), plan.groups.data(), packed, channels, out,
                plan.outputs.data(), accumulate});
        base += base_section;
        packed += plan.section_size(kernels_, channels);
        out += channels;
    }
}

void IntegerConvolution::pack_forward(std::span<const std::int8_t> w) {
    check_integer_weights(w.size(), weights_);
    pack(forward_, w.data(), section_.out, section_.out, 1);
    forward_packed_ = true;
}

void IntegerConvolution::pack_backward(std::span<const std::int8_t> w) {
    check_integer_weights(w.size(), weights_);
    for (IntegerPlan& plan : backward_)
        pack(plan, w.data(), section_.out, section_.in, depthwise_ ? 1 : geometry_.out_channels);
    const std::int64_t vectors = live_.run == 0 ? 0 : live_.vectors * kernels_.live->width;
    for (std::int64_t o = 0; live_.run > 0 && o < geometry_.out_channels; ++o)
        for (std::int64_t ky = 0; ky < geometry_.kernel; ++ky)
            kernels_.live->pack(live_.run, w.data() + ky * live_.run * geometry_.out_channels + o,
                                geometry_.out_channels, live_.weights.data() + (o * geometry_.kernel + ky) * vectors);
    backward_packed_ = true;
}

void IntegerConvolution::forward(std::int64_t items, std::span<const std::uint8_t> x,
                                 std::span<const std::int32_t> zero_points, std::span<std::int32_t> y) {
    const std::int64_t output = positions_ * geometry_.out_channels;
    check_integer_operands(items, max_items_, x.size(), image_, y.size(), output);
    check_zero_points(zero_points, items);
    require(forward_packed_, "forward before pack_forward");
    for (std::int64_t i = 0; i < items; ++i) {
        pad_codes(x.data() + i * image_, zero_points[static_cast<std::size_t>(i)]);
        const std::int16_t* base = depthwise_ ? interleaved(padded_, grid_, grid_.channels) : padded_.data();
        multiply(forward_, base, section_.in, section_.out, y.data() + i * output, false);
    }
}

void IntegerConvolution::backward_input(std::int64_t items, std::span<const std::int8_t> dy,
                                        std::span<std::int32_t> dx) {
    const std::int64_t output = positions_ * geometry_.out_channels;
    check_integer_operands(items, max_items_, dx.size(), image_, dy.size(), output);
    require(backward_packed_, "backward_input before pack_backward");
    for (std::int64_t i = 0; i < items; ++i) {
        if (is_sparse(dy.data() + i * output, kSparseInputShare)) {
            scatter_live(dy.data() + i * output, dx.data() + i * image_);
            continue;
        }
        pad_gradient(dy.data() + i * output);
        const std::int16_t* base =
            depthwise_ ? interleaved(padded_gradient_, output_grid_, output_grid_.channels) : padded_gradient_.data();
        for (const IntegerPlan& plan : backward_)
            multiply(plan, base, section_.out, section_.in, dx.data() + i * image_, false);
    }
}

void IntegerConvolution::weight_gradient(std::int64_t items, std::span<const std::uint8_t> x,
                                         std::span<const std::int32_t> zero_points, std::span<const std::int8_t> dy,
                                         std::span<const std::uint8_t> shifts, std::span<std::int32_t> dw, bool add) {
    const std::int64_t output = positions_ * geometry_.out_channels;
    check_integer_operands(items, max_items_, x.size(), image_, dy.size(), output);
    check_zero_points(zero_points, items);
    check_integer_weights(dw.size(), weights_);
    require(shifts.empty(), "a convolution takes no shifts, got {}", shifts.size());
    if (!add)
        std::ranges::fill(dw, 0);
    for (std::int64_t i = 0; i < items; ++i) {
        pad_codes(x.data() + i * image_, zero_points[static_cast<std::size_t>(i)]);
        if (is_sparse(dy.data() + i * output, kSparseWeightShare)) {
            add_live_gradient(dy.data() + i * output, dw.data());
            continue;
        }
        pack(gradient_, dy.data() + i * output, section_.out, section_.out, 1);
        const std::int16_t* base = interleaved(padded_, grid_, geometry_.stride * grid_.channels);
        multiply(gradient_, base, section_.in * kernels_.group, section_.out, dw.data(), true);
    }
}

std::int64_t IntegerConvolution::sum_items() const {
    return most_summands() / positions_;
}

}  // namespace dither::detail
