// A random rotation that makes the coordinates of any vector look Gaussian: random signs and Walsh-Hadamard transforms
// (Ailon and Chazelle, "The fast Johnson-Lindenstrauss transform", 2009; for updates: Suresh et al., "Distributed mean
// estimation with limited communication", ICML 2017).
//
// Of d coordinates, n is the largest power of two that is not above d. A pass is z <- H D z / sqrt(n) on n of them, D
// diagonal with random signs. A round is one pass if d = n. Otherwise it is a pass over the first n coordinates, one
// with new signs over the last n, and a merge that spreads the d - n coordinates that only the first pass reached
// evenly among the others: nothing is padded, and d coordinates stay d. There are two rounds: one alone leaves a bias
// that an average of many clients shows. After them every coordinate of z has the same expected square, and the first
// so many coordinates carry the same share of every coordinate of x.
#pragma once

#include "core/rng.hpp"

#include <cstddef>
#include <span>

namespace dither {

/// An orthogonal matrix drawn from a key. The same bits on every machine: additions in one order and one product a
/// pass. Immutable; may be shared by threads.
class Rotation {
public:
    /// Of `count` coordinates. The key's step is overwritten: each pass is a step.
    Rotation(std::size_t count, const StreamKey& key);

    /// z <- R z. `scratch` has as many floats, which are overwritten; it may be empty if `count` is a power of two.
    void apply(std::span<float> z, std::span<float> scratch) const;
    /// z <- R^-1 z, up to rounding.
    void invert(std::span<float> z, std::span<float> scratch) const;

private:
    void pass(std::span<float> z, std::uint32_t index, bool forward) const;
    void check(std::span<const float> z, std::span<const float> scratch) const;
    bool is_whole() const { return part_ == count_; }

    std::size_t count_;
    std::size_t part_;  ///< the n of a pass
    StreamKey key_;
};

}  // namespace dither
