// A convolution on codes without patches: one image at a time is padded and widened, and a row of the product (an
// output position, an input position, or a weight) is an offset into it.
#include "core/compute/detail/integer_products.hpp"
#include "core/error.hpp"

#include <algorithm>

namespace dither::detail {
namespace {

std::vector<std::int64_t> arithmetic_run(std::int64_t first, std::int64_t count, std::int64_t step) {
    std::vector<std::int64_t> run(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i)
        run[static_cast<std::size_t>(i)] = first + i * step;
    return run;
}

/// Where the live values leave fewer multiplications than this share of the dense ones, visiting them alone is faster:
/// measured with AVX2, and with VNNI.
template <typename Kernels>
constexpr double kLiveInputShare = Kernels::kCentred ? 0.25 : 0.125;
template <typename Kernels>
constexpr double kLiveWeightShare = Kernels::kCentred ? 0.35 : 0.175;

}  // namespace

template <typename Kernels>
IntegerConvolution<Kernels>::IntegerConvolution(const Kernels& kernels, const IntegerKernels& all,
                                                const ConvGeometry& g, std::int64_t max_items)
    : kernels_(kernels),
      geometry_(g),
      max_items_(max_items),
      depthwise_(g.groups == g.in_channels && g.groups == g.out_channels),
      sections_(depthwise_ ? 1 : g.groups),
      section_{g.in_channels / sections_, g.out_channels / sections_},
      image_(g.in_height * g.in_width * g.in_channels),
      positions_(g.out_height() * g.out_width()),
      weights_(g.fan_in() * g.out_channels),
      grid_(input_grid(g)),
      live_(all, g) {
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
    padded_gradient_.resize(static_cast<std::size_t>(output_grid_.count() + distance + kIntegerSlack),
                            static_cast<Row>(Kernels::kCentred ? 0 : kByteExcess));
    const std::int64_t widest = std::max(grid_.count(), depthwise_ ? output_grid_.count() : 0);
    interleaved_.resize(static_cast<std::size_t>((widest + distance) * kernels_.group + kIntegerSlack));
}

template <typename Kernels>
void IntegerConvolution<Kernels>::plan_forward() {
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

template <typename Kernels>
void IntegerConvolution<Kernels>::plan_backward(std::int64_t first_y, std::int64_t first_x) {
    const ConvGeometry& g = geometry_;
    const std::int64_t scale = depthwise_ ? kernels_.group : 1;
    // Taps of this class: first, first + stride, ...; the last of them meets the first output.
    const auto taps = [&](std::int64_t first) { return (g.kernel - first + g.stride - 1) / g.stride; };
    const std::int64_t rows = first_y < g.kernel ? taps(first_y) : 0;
    const std::int64_t columns = first_x < g.kernel ? taps(first_x) : 0;
    const auto first_output = [&](std::int64_t in, std::int64_t count) {
        return (in + g.padding) / g.stride - count + 1 + output_grid_.top;
    };

    Plan& plan = backward_.emplace_back();
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
    plan.set_excess(kByteExcess);
}

template <typename Kernels>
void IntegerConvolution<Kernels>::plan_gradient() {
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

template <typename Kernels>
void IntegerConvolution<Kernels>::pad_codes(const std::uint8_t* image, std::int32_t zero_point) {
    if (!Kernels::kCentred && zero_point != padding_) {
        std::ranges::fill(padded_, static_cast<Row>(zero_point));
        forward_.set_excess(zero_point);
        gradient_.set_excess(zero_point);
        padding_ = zero_point;
    }
    const std::int64_t row = geometry_.in_width * geometry_.in_channels;
    Row* to = padded_.data() + grid_.top * (grid_.row() + grid_.channels);
    for (std::int64_t y = 0; y < geometry_.in_height; ++y)
        kernels_.load_codes(row, image + y * row, zero_point, to + y * grid_.row());
}

template <typename Kernels>
void IntegerConvolution<Kernels>::pad_gradient(const std::int8_t* dy) {
    const std::int64_t row = geometry_.out_width() * geometry_.out_channels;
    Row* to = padded_gradient_.data() + output_grid_.top * (output_grid_.row() + output_grid_.channels);
    for (std::int64_t y = 0; y < geometry_.out_height(); ++y)
        kernels_.load_signed(row, dy + y * row, to + y * output_grid_.row());
}

template <typename Kernels>
auto IntegerConvolution<Kernels>::interleaved(const AlignedValues<Row>& padded, const PaddedGrid& grid,
                                              std::int64_t distance) -> const Row* {
    kernels_.interleave(grid.count(), padded.data(), distance, interleaved_.data());
    return interleaved_.data();
}

template <typename Kernels>
void IntegerConvolution<Kernels>::pack(Plan& plan, const std::int8_t* from, std::int64_t section, std::int64_t channels,
                                       std::int64_t channel_stride) {
    for (std::int64_t s = 0; s < sections_; ++s)
        plan.pack(kernels_,
                  {from + s * section, plan.group_count(), plan.sources.data(), channels, channel_stride, nullptr}, s);
}

template <typename Kernels>
void IntegerConvolution<Kernels>::multiply(const Plan& plan, const Row* base, std::int64_t base_section,
                                           std::int64_t channels, std::int32_t* out, bool accumulate) {
    for (std::int64_t s = 0; s < sections_; ++s)
        plan.multiply(kernels_, base + s * base_section, static_cast<std::int64_t>(plan.rows.size()),
                      plan.group_count(), channels, out + s * channels, accumulate, depthwise_, s);
}

template <typename Kernels>
void IntegerConvolution<Kernels>::pack_forward(std::span<const std::int8_t> w) {
    check_integer_weights(w.size(), weights_);
    pack(forward_, w.data(), section_.out, section_.out, 1);
    forward_packed_ = true;
}

template <typename Kernels>
void IntegerConvolution<Kernels>::pack_backward(std::span<const std::int8_t> w) {
    check_integer_weights(w.size(), weights_);
    for (Plan& plan : backward_)
        pack(plan, w.data(), section_.out, section_.in, depthwise_ ? 1 : geometry_.out_channels);
    live_.pack(w.data());
    backward_packed_ = true;
}

template <typename Kernels>
void IntegerConvolution<Kernels>::forward(std::int64_t items, std::span<const std::uint8_t> x,
                                          std::span<const std::int32_t> zero_points, std::span<std::int32_t> y) {
    const std::int64_t output = positions_ * geometry_.out_channels;
    check_integer_operands(items, max_items_, x.size(), image_, y.size(), output);
    check_zero_points(zero_points, items);
    require(forward_packed_, "forward before pack_forward");
    for (std::int64_t i = 0; i < items; ++i) {
        pad_codes(x.data() + i * image_, zero_points[static_cast<std::size_t>(i)]);
        const Row* base = depthwise_ ? interleaved(padded_, grid_, grid_.channels) : padded_.data();
        multiply(forward_, base, section_.in, section_.out, y.data() + i * output, false);
    }
}

template <typename Kernels>
void IntegerConvolution<Kernels>::backward_input(std::int64_t items, std::span<const std::int8_t> dy,
                                                 std::span<std::int32_t> dx) {
    const std::int64_t output = positions_ * geometry_.out_channels;
    check_integer_operands(items, max_items_, dx.size(), image_, dy.size(), output);
    require(backward_packed_, "backward_input before pack_backward");
    for (std::int64_t i = 0; i < items; ++i) {
        if (live_.share(dy.data() + i * output) < kLiveInputShare<Kernels>) {
            live_.input_gradient(dy.data() + i * output, dx.data() + i * image_);
            continue;
        }
        pad_gradient(dy.data() + i * output);
        const Row* base =
            depthwise_ ? interleaved(padded_gradient_, output_grid_, output_grid_.channels) : padded_gradient_.data();
        for (const Plan& plan : backward_)
            multiply(plan, base, section_.out, section_.in, dx.data() + i * image_, false);
    }
}

template <typename Kernels>
void IntegerConvolution<Kernels>::weight_gradient(std::int64_t items, std::span<const std::uint8_t> x,
                                                  std::span<const std::int32_t> zero_points,
                                                  std::span<const std::int8_t> dy, std::span<const std::uint8_t> shifts,
                                                  std::span<std::int32_t> dw, bool add) {
    const std::int64_t output = positions_ * geometry_.out_channels;
    check_integer_operands(items, max_items_, x.size(), image_, dy.size(), output);
    check_zero_points(zero_points, items);
    check_integer_weights(dw.size(), weights_);
    require(shifts.empty(), "a convolution takes no shifts, got {}", shifts.size());
    if (!add)
        std::ranges::fill(dw, 0);
    for (std::int64_t i = 0; i < items; ++i) {
        const std::uint8_t* image = x.data() + i * image_;
        const std::int32_t zero_point = zero_points[static_cast<std::size_t>(i)];
        if (live_.share(dy.data() + i * output) < kLiveWeightShare<Kernels>) {
            live_.add_weight_gradient(image, zero_point, dy.data() + i * output, dw.data());
            continue;
        }
        pad_codes(image, zero_point);
        pack(gradient_, dy.data() + i * output, section_.out, section_.out, 1);
        const Row* base = interleaved(padded_, grid_, geometry_.stride * grid_.channels);
        multiply(gradient_, base, section_.in * kernels_.group, section_.out, dw.data(), true);
    }
}

template <typename Kernels>
std::int64_t IntegerConvolution<Kernels>::sum_items() const {
    return most_summands() / positions_;
}

template class IntegerConvolution<WordKernels>;
template class IntegerConvolution<ByteKernels>;

}  // namespace dither::detail
