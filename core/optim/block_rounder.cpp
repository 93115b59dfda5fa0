#include "core/optim/detail/block_rounder.hpp"

#include "core/error.hpp"
#include "core/optim/detail/kernels.hpp"
#include "core/quantize/detail/kernels.hpp"
#include "core/quantize/quantizer.hpp"

namespace dither {
namespace {

kernels::Extremes extremes_of(std::span<const float> block) {
    const kernels::Extremes found = kernels::extremes(block.data(), block.size());
    if (!found.finite)
        throw TrainingError("the optimizer's state is not finite");
    return found;
}

}  // namespace

BlockRounder::BlockRounder(const StreamKey& key, std::size_t layer, int bits)
    : stream_(key.with(Purpose::optimizer_rounding, static_cast<std::uint32_t>(layer))), bits_(bits) {}

void BlockRounder::round(std::span<float> block) {
    const kernels::Extremes found = extremes_of(block);
    const int limit = (1 << (bits_ - 1)) - 1;
    round_to(block, choose_scale(found.low, found.high, bits_, Symmetry::symmetric).scale, -limit, limit);
}

void BlockRounder::round_positive(std::span<float> block) {
    const kernels::Extremes found = extremes_of(block);
    const float scale = choose_scale(0, found.high, bits_, Symmetry::affine).scale;
    kernels::lift_positive(block.data(), block.size(), scale);
    round_to(block, scale, 0, (1 << bits_) - 1);
}

void BlockRounder::round_to(std::span<float> block, float scale, int code_low, int code_high) {
    require(block.size() <= kBlock, "a block of {} values, at most {}", block.size(), kBlock);
    stream_.fill_halfwords(std::span(random_).first(block.size()));
    const kernels::Grid grid{
        .scale = scale, .code_low = static_cast<float>(code_low), .code_high = static_cast<float>(code_high)};
    kernels::stochastic(block.data(), random_.data(), block.data(), block.size(), grid);
}

}  // namespace dither
