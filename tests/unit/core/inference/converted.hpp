// A calibrated model on random data, and its conversion.
#pragma once

#include "core/config.hpp"
#include "core/inference/integer_network.hpp"
#include "core/model/calibrate.hpp"
#include "core/model/model.hpp"
#include "tests/unit/gradient_check.hpp"

#include <cstring>
#include <memory>
#include <string>

namespace dither::testing {

inline const Backend& inference_backend() {
    static const auto backend = make_backend({});
    return *backend;
}

inline Dataset random_data(const Shape& sample, std::uint32_t count, std::uint32_t lane) {
    const Tensor x = random_tensor(sample.with_batch(count), lane);
    return {sample, std::vector<float>(x.values().begin(), x.values().end()), std::vector<std::int32_t>(count), 10, {},
            10};
}

/// Norms that do something: statistics and constants as training could leave them.
inline void stir_norms(Model& model) {
    for (const LayerSpec& layer : model.schema().layers()) {
        if (!layer.name.starts_with("bn"))
            continue;
        for (const TensorSpec& tensor : layer.tensors) {
            const auto count = static_cast<std::size_t>(tensor.shape.count());
            const std::span<float> values = model.parameters().subspan(tensor.offset, count);
            Stream({.seed = 5, .lane = static_cast<std::uint32_t>(tensor.offset)}).fill_uniform(values);
            for (float& value : values)
                value = tensor.name == "variance" ? 0.05F + value : value - (tensor.name == "weight" ? 0.2F : 0.5F);
        }
    }
}

struct Converted {
    static constexpr std::int64_t kBatch = 6;

    Converted(const ModelOptions& options, const Shape& sample, const QuantizeOptions& quantize, int bits)
        : model(make_model(options, quantize, {.sample = sample, .outputs = 10, .max_batch = kBatch},
                           inference_backend())) {
        model->initialize(3);
        stir_norms(*model);
        plan = PrecisionPlan::uniform(model->schema().layer_count(), bits);
    }

    void calibrate() {
        const Dataset data = random_data(model->sample_shape(), kBatch, 11);
        const std::vector<std::uint32_t> indices{0, 1, 2, 3, 4, 5};
        dither::calibrate(*model, data, indices, plan);
    }
    IntegerModel convert() { return dither::convert(*model, plan); }
    /// What the trained model says of x, with the ranges that it keeps.
    Tensor forward(const Tensor& x) { return model->forward(x, {.plan = &plan, .keep = false}); }

    std::unique_ptr<Model> model;
    PrecisionPlan plan;
};

inline bool same_bits(const Tensor& a, const Tensor& b) {
    return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), a.values().size_bytes()) == 0;
}

}  // namespace dither::testing
