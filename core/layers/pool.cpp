#include "core/layers/pool.hpp"

#include "core/error.hpp"
#include "core/simd.hpp"

#include <array>

namespace dither {
namespace {

/// `rows` output rows of `width` pixels; the images of a batch follow one another, so a batch is just more rows.
struct PoolExtent {
    std::int64_t rows;
    std::int64_t width;
    std::int64_t channels;
};

inline float larger(float a, float b) {
    return a > b || a != a ? a : b;
}

/// The first pixel of output pixel `pixel`'s window.
inline std::int64_t corner_of(const PoolExtent& e, std::int64_t pixel) {
    return (pixel / e.width * 4 * e.width + pixel % e.width * 2) * e.channels;
}

DITHER_CLONES void max_pool(const PoolExtent& e, const float* __restrict x, float* __restrict y) {
    const std::int64_t channels = e.channels;
    for (std::int64_t pixel = 0; pixel < e.rows * e.width; ++pixel) {
        const float* top = x + corner_of(e, pixel);
        const float* bottom = top + 2 * e.width * channels;
        float* out = y + pixel * channels;
        for (std::int64_t c = 0; c < channels; ++c)
            out[c] = larger(larger(top[c], top[c + channels]), larger(bottom[c], bottom[c + channels]));
    }
}

/// Offers `left` to one place of the window and returns what is left for the next.
inline float route(float x, float maximum, float left, float& dx) {
    dx = x == maximum ? left : 0;
    return x == maximum ? 0 : left;
}

DITHER_CLONES void max_pool_backward(const PoolExtent& e, const float* __restrict x, const float* __restrict y,
                                     const float* __restrict dy, float* __restrict dx) {
    const std::int64_t channels = e.channels;
    for (std::int64_t pixel = 0; pixel < e.rows * e.width; ++pixel) {
        const std::int64_t top = corner_of(e, pixel);
        const std::int64_t bottom = top + 2 * e.width * channels;
        for (std::int64_t c = 0; c < channels; ++c) {
            const float maximum = y[pixel * channels + c];
            float left = dy[pixel * channels + c];
            left = route(x[top + c], maximum, left, dx[top + c]);
            left = route(x[top + channels + c], maximum, left, dx[top + channels + c]);
            left = route(x[bottom + c], maximum, left, dx[bottom + c]);
            route(x[bottom + channels + c], maximum, left, dx[bottom + channels + c]);
        }
    }
}

/// The places of a window in the order of route(): top left, top right, bottom left, bottom right.
inline std::array<std::int64_t, 4> window_of(const PoolExtent& e, std::int64_t pixel) {
    const std::int64_t top = corner_of(e, pixel);
    const std::int64_t bottom = top + 2 * e.width * e.channels;
    return {top, top + e.channels, bottom, bottom + e.channels};
}

/// The place of each window's first maximum.
void record_places(const PoolExtent& e, const float* x, const float* y, std::uint8_t* places) {
    for (std::int64_t pixel = 0; pixel < e.rows * e.width; ++pixel) {
        const auto window = window_of(e, pixel);
        for (std::int64_t c = 0; c < e.channels; ++c) {
            std::uint8_t place = 0;
            while (place < 3 && x[window[place] + c] != y[pixel * e.channels + c])
                ++place;
            places[pixel * e.channels + c] = place;
        }
    }
}

void take_recorded(const PoolExtent& e, const std::uint8_t* places, const float* x, float* y) {
    for (std::int64_t pixel = 0; pixel < e.rows * e.width; ++pixel) {
        const auto window = window_of(e, pixel);
        for (std::int64_t c = 0; c < e.channels; ++c)
            y[pixel * e.channels + c] = x[window[places[pixel * e.channels + c]] + c];
    }
}

void route_recorded(const PoolExtent& e, const std::uint8_t* places, const float* dy, float* dx) {
    for (std::int64_t pixel = 0; pixel < e.rows * e.width; ++pixel) {
        const auto window = window_of(e, pixel);
        for (std::int64_t c = 0; c < e.channels; ++c)
            for (std::uint8_t place = 0; place < 4; ++place)
                dx[window[place] + c] = places[pixel * e.channels + c] == place ? dy[pixel * e.channels + c] : 0;
    }
}

class MaxPool final : public Layer {
public:
    explicit MaxPool(const Shape& input) : input_(input.with_batch(1)) {
        require(input.rank() == 4 && input[1] % 2 == 0 && input[2] % 2 == 0,
                "max pool needs images of even height and width, not {}", input.str());
    }

    std::string_view kind() const override { return "max_pool"; }
    Shape output_shape() const override { return {1, input_[1] / 2, input_[2] / 2, input_[3]}; }

    void forward(const Tensor& x, Tensor& y, const Pass& pass) override {
        const std::int64_t batch = x.shape()[0];
        require(x.count() == batch * input_.count(), "max pool: expected {} values, got {}", batch * input_.count(),
                x.count());
        y.resize(output_shape().with_batch(batch));
        if (pass.branches == Branches::held)
            return take_recorded(extent(batch), places_.data(), x.data(), y.data());
        max_pool(extent(batch), x.data(), y.data());
        if (pass.branches == Branches::record) {
            places_.resize(y.values().size());
            record_places(extent(batch), x.data(), y.data(), places_.data());
        }
    }

    void backward(const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx, const Pass& pass) override {
        if (dx == nullptr)
            return;
        require(dy.count() == y.count(), "max pool: expected {} gradients, got {}", y.count(), dy.count());
        dx->resize(x.shape());
        if (pass.branches == Branches::held)
            return route_recorded(extent(x.shape()[0]), places_.data(), dy.data(), dx->data());
        max_pool_backward(extent(x.shape()[0]), x.data(), y.data(), dy.data(), dx->data());
    }

private:
    PoolExtent extent(std::int64_t batch) const { return {batch * input_[1] / 2, input_[2] / 2, input_[3]}; }

    Shape input_;
    std::vector<std::uint8_t> places_;  ///< of the last recorded pass
};

}  // namespace

std::unique_ptr<Layer> make_max_pool(const Shape& input) {
    return std::make_unique<MaxPool>(input);
}

}  // namespace dither
