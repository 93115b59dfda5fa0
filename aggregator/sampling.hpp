// Which clients a round asks.
#pragma once

#include <cstdint>
#include <vector>

namespace dither {

/// `count` different clients out of `clients`, uniformly (Floyd 1987), ascending: a pure function of its arguments.
/// Memory grows with count, not with clients. count <= clients.
std::vector<std::uint32_t> sample_uniform(std::uint32_t clients, std::uint32_t count, std::uint32_t seed,
                                          std::uint32_t round);

}  // namespace dither
