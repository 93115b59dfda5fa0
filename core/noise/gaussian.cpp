// Additive white noise: out = w + sigma * N(0, 1).
#include "core/noise/detail/kinds.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace dither {
namespace {

/// "T0-QAT", 2025, section 0.5.1.
constexpr double kXi = 4.0 / 3.0 * 1e-4;
/// Samples drawn at once: a whole number of stream blocks, so that the chunks do not show.
constexpr std::size_t kChunk = 1024;

class Gaussian final : public Noise {
public:
    explicit Gaussian(double sigma) : sigma_(static_cast<float>(sigma)) {}

    void perturb(std::span<const float> w, std::span<float> out, const StreamKey& key) const override {
        require(w.size() == out.size(), "noise on {} parameters into {}", w.size(), out.size());
        Stream stream(key);
        std::array<float, kChunk> normal;
        for (std::size_t begin = 0; begin < w.size(); begin += kChunk) {
            const std::size_t count = std::min(kChunk, w.size() - begin);
            stream.fill_normal(std::span(normal).first(count));
            for (std::size_t i = 0; i < count; ++i)
                out[begin + i] = w[begin + i] + sigma_ * normal[i];
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
