// Numbers and digests in the text that files are made of: little-endian, as core/little_endian.hpp.
#pragma once

#include "core/little_endian.hpp"
#include "core/sha256.hpp"

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace dither {

inline std::string_view as_text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline std::string_view as_text(const Sha256& digest) {
    return as_text(std::as_bytes(std::span(digest)));
}

template <Number T>
void append_little(std::string& out, T value) {
    std::array<std::byte, sizeof(T)> bytes;
    store_little(value, bytes.data());
    out += as_text(bytes);
}

/// Of the bytes at `at`, which must be there.
template <Number T>
T load_little(std::string_view in, std::size_t at) {
    return load_little<T>(std::as_bytes(std::span(in)).data() + at);
}

}  // namespace dither
