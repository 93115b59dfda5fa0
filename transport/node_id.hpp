// What may be a node's name, wherever one is read.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace dither {

inline constexpr std::size_t kMaxNodeIdBytes = 64;

/// [a-z0-9_-]{1,64}
inline bool is_node_id(std::string_view text) {
    return !text.empty() && text.size() <= kMaxNodeIdBytes && std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    });
}

}  // namespace dither
