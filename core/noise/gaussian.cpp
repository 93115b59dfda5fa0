// Additive white noise: out = w + strength * sigma * N(0, 1).
#include "core/noise/detail/kinds.hpp"

#include "core/error.hpp"
#include "core/noise/detail/kernels.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace dither {
namespace {

/// "T0-QAT", 2025, section 0.5.1.
constexpr double kXi = 4.0 / 3.0 * 1e-4;

class Gaussian final : public Noise {
public:
    explicit Gaussian(double sigma) : sigma_(static_cast<float>(sigma)) {}

    void perturb(std::span<const float> w, const NoiseSite& site, std::span<float> out,
                 const StreamKey& key) const override {
        require(w.size() == out.size(), "noise on {} parameters into {}", w.size(), out.size());
        if (w.data() != out.data())
            std::copy(w.begin(), w.end(), out.begin());
        const float sigma = site.strength * sigma_;
        if (sigma == 0)
            return;
        Stream stream(key);
        std::array<float, kernels::kNoiseChunk> normal;
        for (std::size_t begin = 0; begin < out.size(); begin += normal.size()) {
            const std::size_t count = std::min(normal.size(), out.size() - begin);
            stream.fill_normal(std::span(normal).first(count));
            kernels::add_scaled(out.data() + begin, normal.data(), count, sigma);
        }
    }

private:
    float sigma_;
};

std::unique_ptr<Noise> make(double sigma) {
    require(std::isfinite(sigma) && sigma >= 0, "noise of standard deviation {}", sigma);
    return std::make_unique<Gaussian>(sigma);
}

}  // namespace

std::unique_ptr<Noise> make_gaussian(const NoiseOptions& options) {
    return make(options.sigma);
}

std::unique_ptr<Noise> make_xi(const NoiseOptions& options) {
    return make(kXi * options.xi_scaling);
}

}  // namespace dither
