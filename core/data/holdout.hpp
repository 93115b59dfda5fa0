// What a client trains on, and what it holds back to evaluate models on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dither {

/// A client's samples, each in one of the two, both in the order that they came in.
struct LocalSamples {
    std::vector<std::uint32_t> trained;   ///< at least one where there was one
    std::vector<std::uint32_t> held_out;  ///< only evaluated: by no training, probe or calibration seen
};

/// federation.holdout of so many samples, rounded down; one at least is left to train on.
std::size_t held_out_count(std::size_t samples, double share);
/// The others.
inline std::size_t trained_count(std::size_t samples, double share) {
    return samples - held_out_count(samples, share);
}
/// Holds back so many of a client's `samples`, drawn by the seed and the client: the same in every round.
LocalSamples hold_out(std::vector<std::uint32_t> samples, double share, std::uint32_t seed, std::uint32_t client);

}  // namespace dither
