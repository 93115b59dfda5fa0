#include "core/layers/activation.hpp"

#include "core/error.hpp"
#include "core/simd.hpp"

namespace dither {
namespace {

DITHER_CLONES void relu(const float* x, float* y, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
        y[i] = x[i] < 0 ? 0 : x[i];
}

DITHER_CLONES void relu_backward(const float* y, const float* dy, float* dx, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
        dx[i] = y[i] > 0 ? dy[i] : 0;
}

DITHER_CLONES void record_positive(const float* x, std::uint8_t* positive, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
        positive[i] = x[i] > 0 ? 1 : 0;
}

DITHER_CLONES void keep_recorded(const std::uint8_t* positive, const float* in, float* out, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
        out[i] = positive[i] != 0 ? in[i] : 0;
}

class Relu final : public Layer {
public:
    explicit Relu(const Shape& input) : shape_(input.with_batch(1)) {}

    std::string_view kind() const override { return "relu"; }
    Shape output_shape() const override { return shape_; }

    void forward(const Tensor& x, Tensor& y, const Pass& pass) override {
        y.resize(shape_.with_batch(x.shape()[0]));
        require(x.count() == y.count(), "relu: expected {} values, got {}", y.count(), x.count());
        const std::size_t count = y.values().size();
        if (pass.branches == Branches::held)
            return keep_recorded(positive_.data(), x.data(), y.data(), count);
        relu(x.data(), y.data(), count);
        if (pass.branches == Branches::record) {
            positive_.resize(count);
            record_positive(x.data(), positive_.data(), count);
        }
    }

    void backward(const Tensor& x, const Tensor& y, const Tensor& dy, Tensor* dx, const Pass& pass) override {
        if (dx == nullptr)
            return;
        require(dy.count() == y.count(), "relu: expected {} gradients, got {}", y.count(), dy.count());
        dx->resize(x.shape());
        if (pass.branches == Branches::held)
            return keep_recorded(positive_.data(), dy.data(), dx->data(), y.values().size());
        relu_backward(y.data(), dy.data(), dx->data(), y.values().size());
    }

private:
    Shape shape_;
    std::vector<std::uint8_t> positive_;  ///< of the last recorded pass
};

}  // namespace

std::unique_ptr<Layer> make_relu(const Shape& input) {
    return std::make_unique<Relu>(input);
}

}  // namespace dither
