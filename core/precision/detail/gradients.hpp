// One gradient of the whole network, as the measurements of core/precision take it. Private to core/precision.
#pragma once

#include "core/data/dataset.hpp"
#include "core/model/loss.hpp"
#include "core/model/model.hpp"

namespace dither {

/// Fills the model's gradients with those of the mean loss on `batch`.
inline void fill_gradients(Model& model, const Loss& loss, const Batch& batch, const Pass& pass) {
    const Tensor output = model.forward(batch.inputs, pass);
    Tensor gradient(output.shape(), &model.arena());
    loss.evaluate(output, batch.targets, &gradient);
    model.backward(std::move(gradient), pass);
}

}  // namespace dither
