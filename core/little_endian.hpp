// Little-endian bytes of numbers, whatever the machine's own order. On little-endian machines these are plain moves.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <type_traits>

namespace dither {

template <typename T>
concept Number = std::is_arithmetic_v<T>;

template <Number T>
void store_little(T value, std::byte* out) {
    auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
    if constexpr (std::endian::native == std::endian::big)
        std::reverse(bytes.begin(), bytes.end());
    std::memcpy(out, bytes.data(), sizeof(T));
}

template <Number T>
T load_little(const std::byte* in) {
    std::array<std::byte, sizeof(T)> bytes;
    std::memcpy(bytes.data(), in, sizeof(T));
    if constexpr (std::endian::native == std::endian::big)
        std::reverse(bytes.begin(), bytes.end());
    return std::bit_cast<T>(bytes);
}

}  // namespace dither
