// Keeps optimizer state in few bits: blocks of 256 values with a scale of their own, rounded stochastically, so that an
// outlier costs only its block its resolution (Dettmers, Lewis, Shleifer, Zettlemoyer, "8-bit optimizers via block-wise
// quantization", ICLR 2022). Private to core/optim.
#pragma once

#include "core/rng.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace dither {

/// Rounds the blocks of one layer's state in one step, in the order of its calls.
class BlockRounder {
public:
    static constexpr std::size_t kBlock = 256;

    /// bits: 2..16. `key` carries client, round and step.
    BlockRounder(const StreamKey& key, std::size_t layer, int bits);

    /// At most kBlock values, symmetric. Throws TrainingError on a NaN or an infinity.
    void round(std::span<float> block);
    /// At most kBlock values >= 0, on the codes 0 .. 2^bits - 1. A positive value never becomes 0: it may be the
    /// denominator of an update (Li, Chen, Zhu, "Memory efficient optimizers with 4-bit states", NeurIPS 2023).
    void round_positive(std::span<float> block);

private:
    void round_to(std::span<float> block, float scale, int code_low, int code_high);

    Stream stream_;
    int bits_;
    std::array<std::uint16_t, kBlock> random_;
};

}  // namespace dither
