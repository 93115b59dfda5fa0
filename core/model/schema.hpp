// How a model's parameters lie in one flat vector: what the optimizer, the codecs, the precision plan and the
// aggregator share. Whole models, gradients and updates are spans of `parameters()` floats in this order.
#pragma once

#include "core/tensor.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace dither {

struct TensorSpec {
    std::string name;        ///< "weight", "bias"
    Shape shape;             ///< conv weight [kernel_h, kernel_w, in, out], linear weight [in, out], bias [out]
    std::size_t offset = 0;  ///< in the flat vector
    bool trained = true;     ///< false: kept by its layer, such as running statistics; optimizers leave it alone

    bool operator==(const TensorSpec&) const = default;
};

/// A layer with parameters: the unit that the precision plan speaks of. Its tensors are adjacent, untrained ones last.
struct LayerSpec {
    std::string name;  ///< "conv1", "fc2": kind and ordinal, unless the job names it
    std::size_t offset = 0;
    std::size_t count = 0;
    std::vector<TensorSpec> tensors;
    double macs = 0;    ///< multiply-accumulates of one sample's forward pass
    double inputs = 0;  ///< values of one sample's input that are kept for the backward pass; 0: none

    /// The first so many parameters are an optimizer's business.
    std::size_t trained_count() const;
    bool operator==(const LayerSpec&) const = default;
};

class Schema {
public:
    Schema() = default;
    explicit Schema(std::vector<LayerSpec> layers);

    std::span<const LayerSpec> layers() const { return layers_; }
    std::size_t layer_count() const { return layers_.size(); }
    std::size_t parameters() const { return parameters_; }
    /// The part of a flat vector that belongs to layer `index`.
    std::span<float> slice(std::span<float> flat, std::size_t index) const;
    std::span<const float> slice(std::span<const float> flat, std::size_t index) const;

    bool operator==(const Schema&) const = default;

private:
    std::vector<LayerSpec> layers_;
    std::size_t parameters_ = 0;
};

}  // namespace dither
