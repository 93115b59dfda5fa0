// Noise on weights that imitates the error of rounding them to the target bits, channel by channel.
#include "core/noise/detail/kinds.hpp"

#include "core/error.hpp"
#include "core/noise/detail/kernels.hpp"

#include <algorithm>
#include <array>

namespace dither {
namespace {

using Chunk = std::array<float, kernels::kNoiseChunk>;

/// values[i] = of_channel[(first + i) % channels], for the first `count` of them.
void spread(std::span<const float> of_channel, std::size_t first, std::size_t count, Chunk& values) {
    const std::size_t period = std::min(of_channel.size(), count);
    const std::size_t tail = std::min(of_channel.size() - first, period);
    std::copy_n(of_channel.data() + first, tail, values.data());
    std::copy_n(of_channel.data(), period - tail, values.data() + tail);
    for (std::size_t filled = period; filled < count; filled *= 2)
        std::copy_n(values.data(), std::min(filled, count - filled), values.data() + filled);
}

/// Walks over the weights in chunks; the kinds add their noise to one.
class Profiled : public Noise {
public:
    bool profiled() const final { return true; }

    void perturb(std::span<const float> w, const NoiseSite& site, std::span<float> out,
                 const StreamKey& key) const final {
        require(w.size() == out.size() && site.weights <= w.size(),
                "noise on {} parameters, {} of them weights, into {}", w.size(), site.weights, out.size());
        if (w.data() != out.data())
            std::copy(w.begin(), w.end(), out.begin());
        if (site.strength == 0)
            return;
        require(site.profile != nullptr && site.profile->weight_mean.size() == site.channels,
                "profiled noise on {} channels with a profile of {}", site.channels,
                site.profile == nullptr ? 0 : site.profile->weight_mean.size());
        Stream stream(key);
        for (std::size_t begin = 0; begin < site.weights; begin += kernels::kNoiseChunk)
            add(out.subspan(begin, std::min(kernels::kNoiseChunk, site.weights - begin)), *site.profile,
                begin % site.channels, site.strength, stream);
    }

private:
    /// Adds noise to consecutive weights, the first of which belongs to channel `first`.
    virtual void add(std::span<float> out, const LayerProfile& profile, std::size_t first, float strength,
                     Stream& stream) const = 0;
};

/// d1 - d2 of two independent N(mean, deviation^2): the means cancel before anything is drawn, so that the difference
/// is exactly unbiased, of variance 2 deviation^2.
class Differential final : public Profiled {
    void add(std::span<float> out, const LayerProfile& profile, std::size_t first, float strength,
             Stream& stream) const override {
        Chunk one;
        Chunk other;
        Chunk deviation;
        stream.fill_normal(std::span(one).first(out.size()));
        stream.fill_normal(std::span(other).first(out.size()));
        spread(profile.weight_deviation, first, out.size(), deviation);
        kernels::add_difference(out.data(), one.data(), other.data(), deviation.data(), out.size(), strength);
    }
};

/// d1 alone, bias included.
class Naive final : public Profiled {
    void add(std::span<float> out, const LayerProfile& profile, std::size_t first, float strength,
             Stream& stream) const override {
        Chunk normal;
        Chunk mean;
        Chunk deviation;
        stream.fill_normal(std::span(normal).first(out.size()));
        spread(profile.weight_mean, first, out.size(), mean);
        spread(profile.weight_deviation, first, out.size(), deviation);
        kernels::add_biased(out.data(), normal.data(), mean.data(), deviation.data(), out.size(), strength);
    }
};

/// Uniform over one step of the channel's codes: the error of rounding to nearest, were it independent of w.
class Dither final : public Profiled {
    void add(std::span<float> out, const LayerProfile& profile, std::size_t first, float strength,
             Stream& stream) const override {
        Chunk uniform;
        Chunk step;
        stream.fill_uniform(std::span(uniform).first(out.size()));
        spread(profile.weight_step, first, out.size(), step);
        kernels::add_uniform(out.data(), uniform.data(), step.data(), out.size(), strength);
    }
};

}  // namespace

std::unique_ptr<Noise> make_differential(const NoiseOptions&) {
    return std::make_unique<Differential>();
}

std::unique_ptr<Noise> make_naive(const NoiseOptions&) {
    return std::make_unique<Naive>();
}

std::unique_ptr<Noise> make_dither(const NoiseOptions&) {
    return std::make_unique<Dither>();
}

}  // namespace dither
