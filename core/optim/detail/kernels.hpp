// The optimizers' update rules as elementwise loops, one pass each. Private to core/optim.
#pragma once

#include <cstddef>

namespace dither::kernels {

struct SgdRule {
    float lr = 0;
    float momentum = 0;
    float weight_decay = 0;
    bool nesterov = false;
};

/// v: the momentum buffer; null without momentum.
void sgd(float* w, const float* g, float* v, std::size_t n, const SgdRule& rule);

struct AdamRule {
    float beta1 = 0;
    float beta2 = 0;
    float epsilon = 0;
    float weight_decay = 0;     ///< added to the gradient, times w
    float keep = 1;             ///< times w before the step: decoupled decay
    float step_size = 0;        ///< lr / (1 - beta1^t)
    float root_correction = 0;  ///< 1 / sqrt(1 - beta2^t)
};

/// m: the first moment; root: the square root of the second one.
void adam(float* w, const float* g, float* m, float* root, std::size_t n, const AdamRule& rule);

/// Lifts what lies between 0 and `floor` to `floor`; 0 stays.
void lift_positive(float* x, std::size_t n, float floor);

void multiply(float* x, std::size_t n, float factor);
/// A true division: dividing by what multiply() took gives x back where no digit was lost.
void divide(float* x, std::size_t n, float divisor);

}  // namespace dither::kernels
