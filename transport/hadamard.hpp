// The Walsh-Hadamard transform, in place and without a matrix (Fino and Algazi, "Unified matrix treatment of the fast
// Walsh-Hadamard transform", IEEE Transactions on Computers, 1976).
#pragma once

#include <span>

namespace dither {

/// v <- H v with H[i][j] = (-1)^popcount(i & j), so that H H = n I: n = v.size() is a power of two. One butterfly
/// (a + b, a - b) for every pair at distance n / 2, then n / 4, ..., 1: only additions, in one order, so that all
/// machines agree to the bit. About n log2(n) additions; in passes over what fits a cache.
void hadamard_transform(std::span<float> v);

}  // namespace dither
