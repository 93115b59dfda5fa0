// Bytes as targets take and make them.
#pragma once

#include "core/sha256.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dither::fuzz {

using Bytes = std::vector<std::byte>;

inline std::string_view as_text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline Bytes to_bytes(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

inline void append(Bytes& to, std::span<const std::byte> bytes) {
    to.insert(to.end(), bytes.begin(), bytes.end());
}

/// With the SHA-256 behind them that they demand.
inline Bytes sealed(Bytes bytes) {
    const Sha256 digest = sha256(bytes);
    append(bytes, std::as_bytes(std::span(digest)));
    return bytes;
}

/// Their first byte, which chooses among `choices`, and the rest.
inline std::pair<std::size_t, std::span<const std::byte>> split_choice(std::span<const std::byte> bytes,
                                                                       std::size_t choices) {
    if (bytes.empty())
        return {0, bytes};
    return {std::to_integer<std::size_t>(bytes.front()) % choices, bytes.subspan(1)};
}

inline Bytes with_choice(std::size_t choice, std::span<const std::byte> bytes) {
    Bytes whole{static_cast<std::byte>(choice)};
    append(whole, bytes);
    return whole;
}

inline Bytes read_bytes(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    if (!in)
        throw std::runtime_error(file.string() + ": cannot be opened");
    return to_bytes(std::string{std::istreambuf_iterator<char>(in), {}});
}

inline void write_bytes(const std::filesystem::path& file, std::span<const std::byte> bytes) {
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

/// The files of a folder and of those in it, by name.
inline std::vector<std::filesystem::path> files_in(const std::filesystem::path& folder,
                                                   std::string_view extension = {}) {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
        if (entry.is_regular_file() && (extension.empty() || entry.path().extension() == extension))
            files.push_back(entry.path());
    std::ranges::sort(files);
    return files;
}

/// What the project's own golden files below `folder` of tests/golden say in hexadecimal digits.
inline std::vector<Bytes> golden_bytes(const std::string& folder) {
    std::vector<Bytes> golden;
    for (const auto& file : files_in(std::filesystem::path(DITHER_SOURCE_DIR) / "tests/golden" / folder, ".hex")) {
        std::ifstream in(file);
        Bytes& bytes = golden.emplace_back();
        for (std::string line; std::getline(in, line);)
            for (std::size_t i = 0; i + 1 < line.size(); i += 2)
                bytes.push_back(static_cast<std::byte>(std::stoi(line.substr(i, 2), nullptr, 16)));
    }
    return golden;
}

}  // namespace dither::fuzz
