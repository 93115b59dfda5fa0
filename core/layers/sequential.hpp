// Layers one after the other, each taking what the one before gives.
#pragma once

#include "core/layers/layer.hpp"

#include <memory>
#include <vector>

namespace dither {

class Sequential final : public Layer {
public:
    /// At least one layer. Throws PreconditionError otherwise.
    explicit Sequential(std::vector<std::unique_ptr<Layer>> layers);

    std::string_view kind() const override { return "sequential"; }
    Shape output_shape() const override { return layers_.back()->output_shape(); }
    Tensor forward(Tensor x, const Pass& pass) override;
    Tensor backward(Tensor dy, const Pass& pass, bool wanted) override;
    void visit(const std::function<void(Layer&)>& visitor) override;
    void lower(Lowering& out) override;

private:
    std::vector<std::unique_ptr<Layer>> layers_;
};

}  // namespace dither
