#include "core/layers/activation.hpp"

#include "core/error.hpp"
#include "core/inference/lowering.hpp"
#include "core/layers/detail/bit_mask.hpp"
#include "core/layers/detail/tanh.hpp"
#include "core/simd.hpp"

#include <limits>

namespace dither {
namespace {

struct Bounds {
    float low;
    float high;
};

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The pieces of a clamp, as a recorded pass remembers them: a byte for each value.
enum Piece : std::uint8_t { kLow, kInside, kHigh };

DITHER_CLONES void clamp(const float* x, float* y, std::size_t count, const Bounds bounds) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < count; ++i) {
        const float above = x[i] < bounds.low ? bounds.low : x[i];
        y[i] = above > bounds.high ? bounds.high : above;
    }
}

DITHER_CLONES void mark_inside(const float* x, std::uint32_t* inside, std::size_t count, const Bounds bounds) {
    mask::pack(inside, count, [=](std::size_t i) { return (x[i] > bounds.low) & (x[i] < bounds.high); });
}

DITHER_CLONES void record_pieces(const float* x, std::uint8_t* pieces, std::size_t count, const Bounds bounds) {
    for (std::size_t i = 0; i < count; ++i) {
        const Piece upper = x[i] < bounds.high ? kInside : kHigh;
        pieces[i] = x[i] > bounds.low ? upper : kLow;
    }
}

DITHER_CLONES void clamp_held(const std::uint8_t* pieces, const float* x, float* y, std::size_t count,
                              const Bounds bounds) {
    for (std::size_t i = 0; i < count; ++i) {
        const float bound = pieces[i] == kLow ? bounds.low : bounds.high;
        y[i] = pieces[i] == kInside ? x[i] : bound;
    }
}

DITHER_CLONES void pass_inside(const std::uint8_t* pieces, const float* dy, float* dx, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
        dx[i] = pieces[i] == kInside ? dy[i] : 0;
}

DITHER_CLONES void tanh_forward(const float* x, float* y, std::size_t count) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < count; ++i)
        y[i] = detail::tanh_of(x[i]);
}

DITHER_CLONES void tanh_backward(const float* y, const float* dy, float* dx, std::size_t count) {
#pragma GCC ivdep
    for (std::size_t i = 0; i < count; ++i)
        dx[i] = dy[i] * (1.0F - y[i] * y[i]);
}

void check_items(std::string_view kind, const Shape& item, const Tensor& x) {
    require(x.shape().rank() > 0 && x.count() == item.count() * x.shape()[0],
            "{}: expected items of {} values, got {} in all", kind, item.count(), x.count());
}

/// ReLU, ReLU6 and hard tanh.
class Clamp final : public Layer {
public:
    Clamp(std::string_view kind, const Bounds& bounds, const Shape& input)
        : kind_(kind), bounds_(bounds), shape_(input.with_batch(1)) {}

    std::string_view kind() const override { return kind_; }
    Shape output_shape() const override { return shape_; }
    Affinity affinity() const override { return {.input = true}; }
    void lower(Lowering& out) override { out.append(ClampOperation{.low = bounds_.low, .high = bounds_.high}); }

    Tensor forward(Tensor x, const Pass& pass) override {
        check_items(kind_, shape_, x);
        const std::size_t count = x.values().size();
        Tensor y = in_place_of(x, pass);
        if (pass.branches == Branches::held) {
            clamp_held(held_.data(), x.data(), y.data(), count, bounds_);
            return y;
        }
        if (pass.branches == Branches::record) {
            held_.resize(count);
            record_pieces(x.data(), held_.data(), count, bounds_);
        }
        if (pass.keep) {
            inside_ = Buffer<std::uint32_t>(mask::words_of(count), pass.arena);
            mark_inside(x.data(), inside_.data(), count, bounds_);
        }
        clamp(x.data(), y.data(), count, bounds_);
        return y;
    }

    Tensor backward(Tensor dy, const Pass& pass, bool wanted) override {
        const Buffer<std::uint32_t> inside = std::move(inside_);
        if (!wanted)
            return {};
        Tensor dx = in_place_of(dy, pass);
        if (pass.branches == Branches::held)
            pass_inside(held_.data(), dy.data(), dx.data(), dy.values().size());
        else
            mask::apply(inside.data(), dy.data(), dx.data(), dy.values().size());
        return dx;
    }

private:
    std::string_view kind_;
    Bounds bounds_;
    Shape shape_;
    Buffer<std::uint32_t> inside_;    ///< a bit for each value
    std::vector<std::uint8_t> held_;  ///< pieces of the last recorded pass
};

class Tanh final : public Layer {
public:
    explicit Tanh(const Shape& input) : shape_(input.with_batch(1)) {}

    std::string_view kind() const override { return "tanh"; }
    Shape output_shape() const override { return shape_; }
    void lower(Lowering& out) override { out.append(TanhOperation{}); }

    Tensor forward(Tensor x, const Pass& pass) override {
        check_items(kind(), shape_, x);
        Tensor y = in_place_of(x, pass);
        tanh_forward(x.data(), y.data(), x.values().size());
        if (pass.keep)
            y_ = y.share();
        return y;
    }

    Tensor backward(Tensor dy, const Pass& pass, bool wanted) override {
        const Tensor y = std::move(y_);
        if (!wanted)
            return {};
        Tensor dx = in_place_of(dy, pass);
        tanh_backward(y.data(), dy.data(), dx.data(), dy.values().size());
        return dx;
    }

private:
    Shape shape_;
    Tensor y_;
};

}  // namespace

std::unique_ptr<Layer> make_relu(const Shape& input) {
    return std::make_unique<Clamp>("relu", Bounds{0, kInfinity}, input);
}

std::unique_ptr<Layer> make_relu6(const Shape& input) {
    return std::make_unique<Clamp>("relu6", Bounds{0, 6}, input);
}

std::unique_ptr<Layer> make_hard_tanh(const Shape& input) {
    return std::make_unique<Clamp>("hard_tanh", Bounds{-1, 1}, input);
}

std::unique_ptr<Layer> make_tanh(const Shape& input) {
    return std::make_unique<Tanh>(input);
}

}  // namespace dither
