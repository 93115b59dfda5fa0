#include "core/optim/detail/kernels.hpp"

#include "core/simd.hpp"

#include <cmath>

namespace dither::kernels {

DITHER_CLONES
void sgd(float* w, const float* g, float* v, std::size_t n, const SgdRule& rule) {
    const SgdRule r = rule;
    if (v == nullptr) {
#pragma GCC ivdep
        for (std::size_t i = 0; i < n; ++i)
            w[i] -= r.lr * (g[i] + r.weight_decay * w[i]);
        return;
    }
#pragma GCC ivdep
    for (std::size_t i = 0; i < n; ++i) {
        const float gradient = g[i] + r.weight_decay * w[i];
        const float velocity = r.momentum * v[i] + gradient;
        v[i] = velocity;
        w[i] -= r.lr * (r.nesterov ? gradient + r.momentum * velocity : velocity);
    }
}

DITHER_CLONES
void adam(float* w, const float* g, float* m, float* root, std::size_t n, const AdamRule& rule) {
    const AdamRule r = rule;
#pragma GCC ivdep
    for (std::size_t i = 0; i < n; ++i) {
        const float gradient = g[i] + r.weight_decay * w[i];
        const float first = r.beta1 * m[i] + (1.0F - r.beta1) * gradient;
        const float second = std::sqrt(r.beta2 * (root[i] * root[i]) + (1.0F - r.beta2) * (gradient * gradient));
        m[i] = first;
        root[i] = second;
        w[i] = w[i] * r.keep - r.step_size * first / (second * r.root_correction + r.epsilon);
    }
}

DITHER_CLONES
void lift_positive(float* x, std::size_t n, float floor) {
    for (std::size_t i = 0; i < n; ++i)
        x[i] = (x[i] > 0.0F) & (x[i] < floor) ? floor : x[i];
}

DITHER_CLONES
void multiply(float* x, std::size_t n, float factor) {
    for (std::size_t i = 0; i < n; ++i)
        x[i] *= factor;
}

DITHER_CLONES
void divide(float* x, std::size_t n, float divisor) {
    for (std::size_t i = 0; i < n; ++i)
        x[i] /= divisor;
}

}  // namespace dither::kernels
