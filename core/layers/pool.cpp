// The innermost loops run over the channels of one pixel, which lie side by side. Each is written once, as an
// always_inline template, and instantiated in functions that are compiled for each instruction set.
#include "core/layers/pool.hpp"

#include "core/error.hpp"
#include "core/inference/lowering.hpp"
#include "core/layers/detail/pool_kernels.hpp"
#include "core/layers/detail/tail.hpp"
#include "core/simd.hpp"

#include <algorithm>

namespace dither {
namespace {

constexpr std::int64_t kMaxKernel = 15;  // the places of a window are counted in a byte

PoolOperation operation_of(const PoolGeometry& g, bool mean, bool flat) {
    return {.mean = mean,
            .kernel_height = g.kernel_height,
            .kernel_width = g.kernel_width,
            .stride = g.stride,
            .padding = g.padding,
            .flat = flat};
}

PoolGeometry geometry_of(const Shape& input, const PoolWindow& window, std::string_view kind) {
    require(input.rank() == 4 && input.count() > 0, "{} needs images [1, height, width, channels], not {}", kind,
            input.str());
    require(window.kernel > 0 && window.stride > 0 && window.padding >= 0 && window.padding <= window.kernel / 2,
            "{}: expected a kernel and a stride of at least 1 and a padding of 0 .. kernel / 2, got {}, {} and {}",
            kind, window.kernel, window.stride, window.padding);
    require(window.kernel <= std::min(input[1], input[2]) + 2 * window.padding,
            "{}: a kernel of {} with padding {} does not fit {}", kind, window.kernel, window.padding, input.str());
    return {.height = input[1],
            .width = input[2],
            .channels = input[3],
            .kernel_height = window.kernel,
            .kernel_width = window.kernel,
            .stride = window.stride,
            .padding = window.padding};
}

/// The part of one window that lies within the image, along one axis.
struct Reach {
    std::int64_t origin;  ///< of the window; negative in the padding
    std::int64_t begin;
    std::int64_t end;
};

[[gnu::always_inline]] inline Reach reach_of(std::int64_t out, std::int64_t kernel, std::int64_t extent,
                                             const PoolGeometry& g) {
    const std::int64_t origin = out * g.stride - g.padding;
    return {origin, std::max<std::int64_t>(-origin, 0), std::min(kernel, extent - origin)};
}

/// Calls visit(output offset, input offset, place in the window, places within the image) for each place of each window
/// that lies within the image, window after window, in row order. Offsets are those of a pixel's first channel.
template <typename Visit>
[[gnu::always_inline]] inline void for_each_place(const PoolGeometry& g, std::int64_t batch, const Visit visit) {
    const std::int64_t out_height = g.out_height();
    const std::int64_t out_width = g.out_width();
    for (std::int64_t row = 0; row < batch * out_height; ++row) {
        const std::int64_t image = row / out_height * g.height;
        const Reach v = reach_of(row % out_height, g.kernel_height, g.height, g);
        for (std::int64_t column = 0; column < out_width; ++column) {
            const Reach h = reach_of(column, g.kernel_width, g.width, g);
            const std::int64_t out = (row * out_width + column) * g.channels;
            const std::int64_t within = (v.end - v.begin) * (h.end - h.begin);
            for (std::int64_t i = v.begin; i < v.end; ++i)
                for (std::int64_t j = h.begin; j < h.end; ++j)
                    visit(out, ((image + v.origin + i) * g.width + h.origin + j) * g.channels, i * g.kernel_width + j,
                          within, i == v.begin && j == h.begin);
        }
    }
}

/// The larger one, and a NaN whenever there is one.
[[gnu::always_inline]] inline bool wins(float challenger, float best) {
    return (challenger > best) | (challenger != challenger);
}

// A conditional expression of two lvalues chooses between addresses, which does not vectorize: values are read first.

[[gnu::always_inline]] inline void offer(const float* __restrict x, float* __restrict best, std::int64_t channels) {
    for (std::int64_t c = 0; c < channels; ++c) {
        const float challenger = x[c];
        const float champion = best[c];
        best[c] = wins(challenger, champion) ? challenger : champion;
    }
}

/// The same for the places of the best.
[[gnu::always_inline]] inline void offer_places(const float* __restrict x, const float* __restrict best,
                                                std::uint8_t* __restrict places, std::uint8_t here,
                                                std::int64_t channels) {
    for (std::int64_t c = 0; c < channels; ++c) {
        const std::uint8_t kept = places[c];
        places[c] = wins(x[c], best[c]) ? here : kept;
    }
}

}  // namespace

DITHER_CLONES void max_pool(const PoolGeometry& g, std::int64_t batch, const float* __restrict x, float* __restrict y,
                            std::uint8_t* __restrict places) {
    for_each_place(g, batch, [&](std::int64_t out, std::int64_t in, std::int64_t place, std::int64_t, bool first) {
        const auto here = static_cast<std::uint8_t>(place);
        if (first) {
            std::copy_n(x + in, g.channels, y + out);
            if (places != nullptr)
                std::fill_n(places + out, g.channels, here);
            return;
        }
        if (places != nullptr)
            offer_places(x + in, y + out, places + out, here, g.channels);
        offer(x + in, y + out, g.channels);
    });
}

namespace {

/// Windows overlap or leave values out, so that dx is a sum.
DITHER_CLONES void route(const PoolGeometry& g, std::int64_t batch, const std::uint8_t* __restrict places,
                         const float* __restrict dy, float* __restrict dx) {
    std::fill_n(dx, batch * g.height * g.width * g.channels, 0.0F);
    for_each_place(g, batch, [&](std::int64_t out, std::int64_t in, std::int64_t place, std::int64_t, bool) {
        const auto here = static_cast<std::uint8_t>(place);
        for (std::int64_t c = 0; c < g.channels; ++c)
            dx[in + c] += places[out + c] == here ? dy[out + c] : 0;
    });
}

/// The values at the places of an earlier pass.
void take_held(const PoolGeometry& g, std::int64_t batch, const std::uint8_t* places, const float* x, float* y) {
    for_each_place(g, batch, [&](std::int64_t out, std::int64_t in, std::int64_t place, std::int64_t, bool) {
        for (std::int64_t c = 0; c < g.channels; ++c)
            if (places[out + c] == place)
                y[out + c] = x[in + c];
    });
}

class MaxPool final : public Layer {
public:
    MaxPool(const Shape& input, const PoolWindow& window)
        : geometry_(geometry_of(input, window, "max_pool")), zeros_(static_cast<std::size_t>(geometry_.channels)) {
        require(window.kernel <= kMaxKernel, "max_pool: kernels reach to {}, got {}", kMaxKernel, window.kernel);
    }

    std::string_view kind() const override { return "max_pool"; }
    Shape output_shape() const override {
        return {1, geometry_.out_height(), geometry_.out_width(), geometry_.channels};
    }
    Affinity affinity() const override { return {.input = true}; }
    void lower(Lowering& out) override { out.append(operation_of(geometry_, false, false)); }

    Tensor forward(Tensor x, const Pass& pass) override {
        const std::int64_t batch = x.shape()[0];
        require(x.shape() == input_shape(batch), "max_pool: expected {}, got {}", input_shape(batch).str(),
                x.shape().str());
        Tensor y(output_shape().with_batch(batch), pass.arena);
        if (pass.branches == Branches::held) {
            take_held(geometry_, batch, held_.data(), x.data(), y.data());
            return y;
        }
        places_.release();
        if (pass.keep || pass.branches == Branches::record)
            places_ = Buffer<std::uint8_t>(y.values().size(), pass.arena);
        run(batch, x, y, places_.data());
        if (pass.branches == Branches::record)
            held_.assign(places_.values().begin(), places_.values().end());
        return y;
    }

    Tensor backward(Tensor dy, const Pass& pass, bool wanted) override {
        const Buffer<std::uint8_t> kept = std::move(places_);
        if (!wanted)
            return {};
        const std::int64_t batch = dy.shape()[0];
        Tensor dx(input_shape(batch), pass.arena);
        const std::uint8_t* places = pass.branches == Branches::held ? held_.data() : kept.data();
        if (geometry_.is_halving())
            tail::spread(extent(batch), places, dy.data(), dx.data());
        else
            route(geometry_, batch, places, dy.data(), dx.data());
        return dx;
    }

private:
    void run(std::int64_t batch, const Tensor& x, Tensor& y, std::uint8_t* places) {
        if (geometry_.is_halving())
            tail::finish(extent(batch), x.data(), zeros_.data(), y.data(), places);
        else
            max_pool(geometry_, batch, x.data(), y.data(), places);
    }
    tail::Extent extent(std::int64_t batch) const {
        return {.rows = batch * geometry_.out_height(),
                .width = geometry_.out_width(),
                .channels = geometry_.channels,
                .pool = true};
    }
    Shape input_shape(std::int64_t batch) const {
        return {batch, geometry_.height, geometry_.width, geometry_.channels};
    }

    PoolGeometry geometry_;
    AlignedFloats zeros_;  ///< tail's bias
    Buffer<std::uint8_t> places_;
    std::vector<std::uint8_t> held_;  ///< of the last recorded pass
};

}  // namespace

DITHER_CLONES void mean_pool(const PoolGeometry& g, std::int64_t batch, const float* __restrict x,
                             float* __restrict y) {
    std::fill_n(y, batch * g.out_height() * g.out_width() * g.channels, 0.0F);
    std::int64_t seen = 0;
    for_each_place(g, batch, [&](std::int64_t out, std::int64_t in, std::int64_t, std::int64_t within, bool) {
        for (std::int64_t c = 0; c < g.channels; ++c)
            y[out + c] += x[in + c];
        if (++seen < within)
            return;
        seen = 0;
        for (std::int64_t c = 0; c < g.channels; ++c)
            y[out + c] /= static_cast<float>(within);
    });
}

namespace {

DITHER_CLONES void mean_pool_backward(const PoolGeometry& g, std::int64_t batch, const float* __restrict dy,
                                      float* __restrict dx) {
    std::fill_n(dx, batch * g.height * g.width * g.channels, 0.0F);
    for_each_place(g, batch, [&](std::int64_t out, std::int64_t in, std::int64_t, std::int64_t within, bool) {
        for (std::int64_t c = 0; c < g.channels; ++c)
            dx[in + c] += dy[out + c] / static_cast<float>(within);
    });
}

class MeanPool final : public Layer {
public:
    MeanPool(std::string_view kind, const PoolGeometry& geometry, const Shape& output)
        : kind_(kind), geometry_(geometry), output_(output) {}

    std::string_view kind() const override { return kind_; }
    Shape output_shape() const override { return output_; }
    Affinity affinity() const override { return {.input = true}; }
    void lower(Lowering& out) override { out.append(operation_of(geometry_, true, output_.rank() == 2)); }

    Tensor forward(Tensor x, const Pass& pass) override {
        const std::int64_t batch = x.shape()[0];
        require(x.shape() == input_shape(batch), "{}: expected {}, got {}", kind_, input_shape(batch).str(),
                x.shape().str());
        Tensor y(output_.with_batch(batch), pass.arena);
        mean_pool(geometry_, batch, x.data(), y.data());
        return y;
    }

    Tensor backward(Tensor dy, const Pass& pass, bool wanted) override {
        if (!wanted)
            return {};
        Tensor dx(input_shape(dy.shape()[0]), pass.arena);
        mean_pool_backward(geometry_, dy.shape()[0], dy.data(), dx.data());
        return dx;
    }

private:
    Shape input_shape(std::int64_t batch) const {
        return {batch, geometry_.height, geometry_.width, geometry_.channels};
    }

    std::string_view kind_;
    PoolGeometry geometry_;
    Shape output_;
};

}  // namespace

std::unique_ptr<Layer> make_max_pool(const Shape& input, const PoolWindow& window) {
    return std::make_unique<MaxPool>(input, window);
}

std::unique_ptr<Layer> make_average_pool(const Shape& input, const PoolWindow& window) {
    const PoolGeometry g = geometry_of(input, window, "avg_pool");
    return std::make_unique<MeanPool>("avg_pool", g, Shape{1, g.out_height(), g.out_width(), g.channels});
}

std::unique_ptr<Layer> make_global_pool(const Shape& input) {
    PoolGeometry g = geometry_of(input, {.kernel = 1, .stride = 1}, "global_pool");
    g.kernel_height = g.height;
    g.kernel_width = g.width;
    return std::make_unique<MeanPool>("global_pool", g, Shape{1, g.channels});
}

}  // namespace dither
