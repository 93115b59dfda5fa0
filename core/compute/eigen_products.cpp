#include "core/compute/detail/eigen_products.hpp"

#include "core/error.hpp"

#include <algorithm>

namespace dither::detail {
namespace {

/// Where fewer values of dy than this share are not zero, the sparse adjoints are faster than the dense ones.
constexpr double kSparseShare = 0.17;
/// They work on runs of kernel * channels values, which must be worth a few vectors.
constexpr std::int64_t kSparseRun = 16;

std::size_t size(std::int64_t count) {
    return static_cast<std::size_t>(count);
}

PatchGeometry patch_geometry(const ConvGeometry& g) {
    return {g.in_height, g.in_width, g.in_channels, g.out_height(), g.out_width(),
            g.kernel,    g.stride,   g.padding,     g.out_channels};
}

/// As many columns as fit half of a usual second-level cache, in tiles of two registers, as multiply_windows takes
/// them.
std::int64_t columns_of_panel(const Kernels& kernels, std::int64_t depth, std::int64_t width) {
    constexpr std::int64_t kPanelFloats = 32768;
    const std::int64_t tile = 2 * kernels.vector;
    return std::min(width, std::max(kPanelFloats / depth / tile, std::int64_t{1}) * tile);
}

std::size_t padded_values(const ConvGeometry& g) {
    return size((g.in_height + 2 * g.padding) * (g.in_width + 2 * g.padding) * g.in_channels);
}

}  // namespace

void check_operands(std::int64_t items, std::int64_t max_items, std::size_t x, std::int64_t in, std::size_t y,
                    std::int64_t out) {
    require(items >= 0 && items <= max_items, "a product planned for {} items got {}", max_items, items);
    require(x == size(items * in), "expected {} input values, got {}", items * in, x);
    require(y == size(items * out), "expected {} output values, got {}", items * out, y);
}

void check_weights(std::size_t w, std::int64_t expected) {
    require(w == size(expected), "expected {} weights, got {}", expected, w);
}

void check_packed(bool packed, std::string_view pack) {
    require(packed, "a product ran before {} gave it weights", pack);
}

EigenLinear::Direction::Direction(const Kernels& kernels, std::int64_t depth, std::int64_t column_count,
                                  std::int64_t max_items)
    : rows(kernels, max_items, column_count),
      columns(column_count),
      panel_columns(columns_of_panel(kernels, depth, rows.width())) {
    windows.run = depth;
    windows.run_start = {0};
    windows.channels = rows.width();
    for (std::int64_t i = 0; i < max_items; ++i) {
        windows.from.push_back(i * depth);
        windows.to.push_back(i * rows.width());
    }
}

template <typename Pack>
void EigenLinear::Direction::multiply(const Kernels& kernels, std::int64_t items, const float* x, const float* panel,
                                      float* y, Pack pack) {
    WindowProduct product = windows.product();
    product.positions = items;
    float* results = rows.place(y);
    for (std::int64_t first = 0; first < columns; first += panel_columns) {
        pack(first, std::min(panel_columns, columns - first));
        product.channels = std::min(panel_columns, rows.width() - first);
        kernels.multiply_windows(product, x, panel, results + first);
    }
    rows.narrow(items, y);
}

EigenLinear::EigenLinear(const Kernels& kernels, std::int64_t in, std::int64_t out, std::int64_t max_items)
    : kernels_(kernels),
      in_(in),
      out_(out),
      max_items_(max_items),
      forward_(kernels, in, out, max_items),
      backward_(kernels, out, in, max_items),
      panel_(std::max(forward_.panel_floats(), backward_.panel_floats())) {}

void EigenLinear::pack_forward(std::span<const float> w) {
    check_weights(w.size(), in_ * out_);
    forward_.weights = w.data();
}

void EigenLinear::forward(std::int64_t items, std::span<const float> x, std::span<float> y) {
    check_operands(items, max_items_, x.size(), in_, y.size(), out_);
    check_packed(forward_.weights != nullptr, "pack_forward");
    forward_.multiply(kernels_, items, x.data(), panel_.data(), y.data(), [&](std::int64_t first, std::int64_t count) {
        kernels_.pack_windows(in_, count, out_, forward_.weights + first, panel_.data());
    });
}

void EigenLinear::pack_backward(std::span<const float> w) {
    check_weights(w.size(), in_ * out_);
    backward_.weights = w.data();
}

void EigenLinear::backward_input(std::int64_t items, std::span<const float> dy, std::span<float> dx) {
    check_operands(items, max_items_, dx.size(), in_, dy.size(), out_);
    check_packed(backward_.weights != nullptr, "pack_backward");
    backward_.multiply(kernels_, items, dy.data(), panel_.data(), dx.data(),
                       [&](std::int64_t first, std::int64_t count) {
                           kernels_.pack_transposed(out_, count, backward_.weights + first * out_, panel_.data());
                       });
}

void EigenLinear::add_weight_gradient(std::int64_t items, std::span<const float> x, std::span<const float> dy,
                                      std::span<float> dw) {
    check_operands(items, max_items_, x.size(), in_, dy.size(), out_);
    check_weights(dw.size(), in_ * out_);
    kernels_.add_transposed_times(in_, out_, items, x.data(), dy.data(), dw.data());
}

EigenConvolution::EigenConvolution(const Kernels& kernels, const ConvGeometry& g, std::int64_t max_items)
    : kernels_(kernels),
      geometry_(patch_geometry(g)),
      image_(g.in_height * g.in_width * g.in_channels),
      positions_(g.out_height() * g.out_width()),
      taps_(g.fan_in()),
      channels_(g.out_channels),
      max_items_(max_items),
      results_(kernels, positions_, g.out_channels),
      images_(kernels, g.in_height * g.in_width, g.in_channels),
      gradients_(kernels, taps_, g.out_channels),
      image_frame_(image_frame(g)),
      gradient_frame_(gradient_frame(g)),
      windows_(forward_windows(g, image_frame_, results_.width(), false)),
      packed_(size(taps_ * results_.width())),
      phases_(adjoint_phases(g, gradient_frame_, images_.width(), false)),
      flipped_(size(taps_ * channels_)),
      transposed_weights_(size(taps_ * channels_)),
      transposed_gradient_(size(taps_ * channels_)),
      padded_(padded_values(g)) {}

void EigenConvolution::pack_forward(std::span<const float> w) {
    check_weights(w.size(), taps_ * channels_);
    kernels_.pack_windows(taps_, channels_, channels_, w.data(), packed_.data());
    forward_packed_ = true;
}

void EigenConvolution::forward(std::int64_t items, std::span<const float> x, std::span<float> y) {
    check_operands(items, max_items_, x.size(), image_, y.size(), positions_ * channels_);
    check_packed(forward_packed_, "pack_forward");
    for (std::int64_t i = 0; i < items; ++i) {
        float* result = y.data() + i * positions_ * channels_;
        kernels_.multiply_windows(windows_.product(), image_frame_.around(x.data() + i * image_), packed_.data(),
                                  results_.place(result));
        results_.narrow(positions_, result);
    }
}

void EigenConvolution::pack_backward(std::span<const float> w) {
    check_weights(w.size(), taps_ * channels_);
    const std::int64_t tap_weights = geometry_.channels * channels_;
    for (AdjointPhase& phase : phases_) {
        float* flipped = flipped_.data();
        for (const std::int64_t tap : phase.taps) {
            kernels_.transpose(geometry_.channels, channels_, w.data() + tap * tap_weights, flipped);
            flipped += tap_weights;
        }
        kernels_.pack_windows(phase.windows.rows(), geometry_.channels, geometry_.channels, flipped_.data(),
                              phase.packed.data());
    }
    kernels_.transpose(taps_, channels_, w.data(), transposed_weights_.data());
    backward_packed_ = true;
}

void EigenConvolution::backward_input(std::int64_t items, std::span<const float> dy, std::span<float> dx) {
    check_operands(items, max_items_, dx.size(), image_, dy.size(), positions_ * channels_);
    check_packed(backward_packed_, "pack_backward");
    for (std::int64_t i = 0; i < items; ++i)
        image_gradient(dy.data() + i * positions_ * channels_, dx.data() + i * image_);
}

bool EigenConvolution::sparse(const float* dy) const {
    const std::int64_t count = positions_ * channels_;
    return geometry_.kernel * geometry_.channels >= kSparseRun &&
           static_cast<double>(kernels_.count_nonzero(dy, count)) < kSparseShare * static_cast<double>(count);
}

void EigenConvolution::image_gradient(const float* dy, float* dx) {
    if (sparse(dy)) {
        kernels_.scatter_sparse(geometry_, dy, transposed_weights_.data(), padded_.data(), dx);
        return;
    }
    const float* framed = gradient_frame_.around(dy);
    for (const AdjointPhase& phase : phases_)
        kernels_.multiply_windows(phase.windows.product(), framed, phase.packed.data(), images_.place(dx));
    images_.narrow(geometry_.height * geometry_.width, dx);
}

void EigenConvolution::add_weight_gradient(std::int64_t items, std::span<const float> x, std::span<const float> dy,
                                           std::span<float> dw) {
    check_operands(items, max_items_, x.size(), image_, dy.size(), positions_ * channels_);
    check_weights(dw.size(), taps_ * channels_);
    bool any_sparse = false;
    for (std::int64_t i = 0; i < items; ++i) {
        const float* image = x.data() + i * image_;
        const float* gradient = dy.data() + i * positions_ * channels_;
        if (!sparse(gradient)) {
            add_dense_gradient(image, gradient, dw.data());
            continue;
        }
        if (!any_sparse)
            std::ranges::fill(transposed_gradient_, 0.0F);
        any_sparse = true;
        kernels_.add_sparse_weights(geometry_, image, gradient, padded_.data(), transposed_gradient_.data());
    }
    if (any_sparse)
        kernels_.add_transposed(channels_, taps_, transposed_gradient_.data(), dw.data());
}

void EigenConvolution::add_dense_gradient(const float* x, const float* dy, float* dw) {
    gradients_.clear();
    kernels_.add_window_weights(windows_.product(), image_frame_.around(x), results_.widen(dy), gradients_.place(dw));
    gradients_.add_narrowed(dw);
}

EigenDepthwise::EigenDepthwise(const Kernels& kernels, const ConvGeometry& g, std::int64_t max_items)
    : kernels_(kernels),
      in_(g.in_height * g.in_width * g.in_channels),
      out_(g.out_height() * g.out_width() * g.out_channels),
      channels_(g.out_channels),
      max_items_(max_items),
      image_frame_(image_frame(g)),
      gradient_frame_(gradient_frame(g)),
      windows_(forward_windows(g, image_frame_, channels_, true)),
      packed_(size(windows_.rows() * channels_)),
      phases_(adjoint_phases(g, gradient_frame_, channels_, true)) {}

void EigenDepthwise::pack_forward(std::span<const float> w) {
    check_weights(w.size(), windows_.rows() * channels_);
    std::ranges::copy(w, packed_.begin());
    forward_packed_ = true;
}

void EigenDepthwise::forward(std::int64_t items, std::span<const float> x, std::span<float> y) {
    check_operands(items, max_items_, x.size(), in_, y.size(), out_);
    check_packed(forward_packed_, "pack_forward");
    for (std::int64_t i = 0; i < items; ++i)
        kernels_.multiply_depthwise(windows_.product(), image_frame_.around(x.data() + i * in_), packed_.data(),
                                    y.data() + i * out_);
}

void EigenDepthwise::pack_backward(std::span<const float> w) {
    check_weights(w.size(), windows_.rows() * channels_);
    for (AdjointPhase& phase : phases_) {
        float* packed = phase.packed.data();
        for (const std::int64_t tap : phase.taps)
            packed = std::copy_n(w.data() + tap * channels_, channels_, packed);
    }
    backward_packed_ = true;
}

void EigenDepthwise::backward_input(std::int64_t items, std::span<const float> dy, std::span<float> dx) {
    check_operands(items, max_items_, dx.size(), in_, dy.size(), out_);
    check_packed(backward_packed_, "pack_backward");
    for (std::int64_t i = 0; i < items; ++i) {
        const float* framed = gradient_frame_.around(dy.data() + i * out_);
        for (const AdjointPhase& phase : phases_)
            kernels_.multiply_depthwise(phase.windows.product(), framed, phase.packed.data(), dx.data() + i * in_);
    }
}

void EigenDepthwise::add_weight_gradient(std::int64_t items, std::span<const float> x, std::span<const float> dy,
                                         std::span<float> dw) {
    check_operands(items, max_items_, x.size(), in_, dy.size(), out_);
    check_weights(dw.size(), windows_.rows() * channels_);
    for (std::int64_t i = 0; i < items; ++i)
        kernels_.add_depthwise_weights(windows_.product(), image_frame_.around(x.data() + i * in_),
                                       dy.data() + i * out_, dw.data());
}

GroupedConvolution::GroupedConvolution(const Kernels& kernels, const ConvGeometry& g, std::int64_t max_items)
    : image_{g.in_height * g.in_width, g.in_channels},
      result_{g.out_height() * g.out_width(), g.out_channels},
      weights_{g.fan_in(), g.out_channels},
      max_items_(max_items),
      group_image_(size(image_.values() / g.groups)),
      group_result_(size(result_.values() / g.groups)),
      group_weights_(size(weights_.values() / g.groups)) {
    ConvGeometry group = g;
    group.in_channels /= g.groups;
    group.out_channels /= g.groups;
    group.groups = 1;
    for (std::int64_t i = 0; i < g.groups; ++i)
        groups_.push_back(std::make_unique<EigenConvolution>(kernels, group, 1));
}

void GroupedConvolution::take(const Rows& rows, std::size_t group, const float* from, AlignedFloats& part) const {
    const std::int64_t width = rows.channels / static_cast<std::int64_t>(groups_.size());
    for (std::int64_t r = 0; r < rows.count; ++r)
        std::copy_n(from + r * rows.channels + static_cast<std::int64_t>(group) * width, width,
                    part.data() + r * width);
}

void GroupedConvolution::put(const Rows& rows, std::size_t group, const AlignedFloats& part, float* to) const {
    const std::int64_t width = rows.channels / static_cast<std::int64_t>(groups_.size());
    for (std::int64_t r = 0; r < rows.count; ++r)
        std::copy_n(part.data() + r * width, width, to + r * rows.channels + static_cast<std::int64_t>(group) * width);
}

void GroupedConvolution::pack(std::span<const float> w, void (Product::*pack_group)(std::span<const float>)) {
    check_weights(w.size(), weights_.values());
    for (std::size_t group = 0; group < groups_.size(); ++group) {
        take(weights_, group, w.data(), group_weights_);
        (groups_[group].get()->*pack_group)(group_weights_);
    }
}

void GroupedConvolution::pack_forward(std::span<const float> w) {
    pack(w, &Product::pack_forward);
}

void GroupedConvolution::pack_backward(std::span<const float> w) {
    pack(w, &Product::pack_backward);
}

void GroupedConvolution::forward(std::int64_t items, std::span<const float> x, std::span<float> y) {
    check_operands(items, max_items_, x.size(), image_.values(), y.size(), result_.values());
    for (std::int64_t i = 0; i < items; ++i)
        for (std::size_t group = 0; group < groups_.size(); ++group) {
            take(image_, group, x.data() + i * image_.values(), group_image_);
            groups_[group]->forward(1, group_image_, group_result_);
            put(result_, group, group_result_, y.data() + i * result_.values());
        }
}

void GroupedConvolution::backward_input(std::int64_t items, std::span<const float> dy, std::span<float> dx) {
    check_operands(items, max_items_, dx.size(), image_.values(), dy.size(), result_.values());
    for (std::int64_t i = 0; i < items; ++i)
        for (std::size_t group = 0; group < groups_.size(); ++group) {
            take(result_, group, dy.data() + i * result_.values(), group_result_);
            groups_[group]->backward_input(1, group_result_, group_image_);
            put(image_, group, group_image_, dx.data() + i * image_.values());
        }
}

void GroupedConvolution::add_weight_gradient(std::int64_t items, std::span<const float> x, std::span<const float> dy,
                                             std::span<float> dw) {
    check_operands(items, max_items_, x.size(), image_.values(), dy.size(), result_.values());
    check_weights(dw.size(), weights_.values());
    for (std::int64_t i = 0; i < items; ++i)
        for (std::size_t group = 0; group < groups_.size(); ++group) {
            take(image_, group, x.data() + i * image_.values(), group_image_);
            take(result_, group, dy.data() + i * result_.values(), group_result_);
            take(weights_, group, dw.data(), group_weights_);
            groups_[group]->add_weight_gradient(1, group_image_, group_result_, group_weights_);
            put(weights_, group, group_weights_, dw.data());
        }
}

}  // namespace dither::detail
