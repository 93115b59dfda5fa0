// Which clients a round asks.
#pragma once

#include <cstdint>
#include <vector>

namespace dither {

/// `count` different clients out of `clients`, uniformly (Floyd 1987), ascending: a pure function of its arguments.
/// `lane` tells draws of one round apart. Memory grows with count, not with clients. count <= clients.
std::vector<std::uint32_t> sample_uniform(std::uint32_t clients, std::uint32_t count, std::uint32_t seed,
                                          std::uint32_t round, std::uint32_t lane = 0);

/// count * factor, rounded up, where a product that only floating point keeps from being whole counts as whole:
/// 100 * 1.1 is 110, not 111.
double scaled_up(std::uint32_t count, double factor);

}  // namespace dither
