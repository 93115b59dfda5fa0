#include "core/error.hpp"
#include "core/noise/detail/kernels.hpp"
#include "core/noise/noise.hpp"

#include <algorithm>
#include <array>

namespace dither {

void drop_in(std::span<const float> x, std::span<float> out, const LayerProfile& profile, float share, float strength,
             const StreamKey& key) {
    require(x.size() == out.size(), "noise on {} activations into {}", x.size(), out.size());
    require(share >= 0 && share <= 1, "drop-in on a share of {}, expected 0 .. 1", share);
    if (x.data() != out.data())
        std::copy(x.begin(), x.end(), out.begin());
    if (share == 0 || strength == 0)
        return;
    require(!profile.empty(), "drop-in without a profile");
    Stream stream(key);
    std::array<float, kernels::kNoiseChunk> normal;
    std::array<float, kernels::kNoiseChunk> chance;
    for (std::size_t begin = 0; begin < out.size(); begin += kernels::kNoiseChunk) {
        const std::size_t count = std::min(kernels::kNoiseChunk, out.size() - begin);
        stream.fill_normal(std::span(normal).first(count));
        stream.fill_uniform(std::span(chance).first(count));
        kernels::add_where(out.data() + begin, normal.data(), chance.data(), count, share,
                           strength * profile.activation_mean, strength * profile.activation_deviation);
    }
}

}  // namespace dither
