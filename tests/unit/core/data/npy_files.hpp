// Made-up arrays of NumPy's format.
#pragma once

#include "tests/unit/core/data/small_files.hpp"

#include <cstring>
#include <string>
#include <vector>

namespace dither {

inline Bytes npy_with_header(const std::string& header, const Bytes& payload) {
    Bytes bytes{0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
    const std::string padded = header + std::string(63 - (header.size() + 10) % 64, ' ') + '\n';
    bytes.push_back(static_cast<std::uint8_t>(padded.size() & 0xff));
    bytes.push_back(static_cast<std::uint8_t>(padded.size() >> 8));
    bytes.insert(bytes.end(), padded.begin(), padded.end());
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    return bytes;
}

/// descr: "<f4"; shape: "(2, 3)".
template <typename T>
Bytes npy(const std::string& descr, const std::string& shape, const std::vector<T>& values) {
    Bytes payload(values.size() * sizeof(T));
    std::memcpy(payload.data(), values.data(), payload.size());
    return npy_with_header("{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }", payload);
}

}  // namespace dither
