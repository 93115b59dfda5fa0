// A random subset of 0 .. bound - 1.
#pragma once

#include "core/rng.hpp"

#include <cstdint>
#include <vector>

namespace dither {

/// `count` different numbers below `bound`, every such set with the same chance, ascending: `count` calls of
/// Stream::below (Bentley and Floyd, "Programming pearls: a sample of brilliance", CACM 30(9), 1987). Memory beside the
/// result: bound / 8 bytes where many are chosen, else a node of a set for each. count <= bound.
std::vector<std::uint32_t> random_subset(Stream& stream, std::uint32_t bound, std::uint32_t count);

}  // namespace dither
