// A decoder under fuzz. Each target's file defines both functions; libfuzzer.cpp hunts with them (preset fuzz), and
// replay.cpp runs them on mutated seeds in every other build.
#pragma once

#include "tests/fuzz/bytes.hpp"

#include <span>
#include <vector>

namespace dither::fuzz {

/// Valid inputs to begin with.
std::vector<Bytes> seeds();

/// Decodes `bytes`, whatever they are. Malformed ones are refused as the decoder promises; whatever else it throws is a
/// defect and leaves this function.
void run(std::span<const std::byte> bytes);

}  // namespace dither::fuzz
