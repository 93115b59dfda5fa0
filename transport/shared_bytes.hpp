// Bytes that many messages and frames hold at once: what a round broadcasts exists once, however many peers it goes to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace dither {

/// An immutable value; a copy takes no memory for the bytes. A contiguous range of const std::byte. Equal if the bytes
/// are. Thread-safe as an immutable value is: copies of one may be used on several threads.
class SharedBytes {
public:
    SharedBytes() = default;
    SharedBytes(std::vector<std::byte> bytes);  // NOLINT(google-explicit-constructor): what a codec has written

    bool empty() const { return content_ == nullptr; }
    std::size_t size() const;
    const std::byte* data() const;
    const std::byte* begin() const { return data(); }
    const std::byte* end() const { return data() + size(); }

    /// CRC32C, computed once for all copies.
    std::uint32_t checksum() const;
    /// How many copies there are, this one included; exact while no other thread makes or destroys one. 0 if empty.
    std::size_t copies() const { return static_cast<std::size_t>(content_.use_count()); }

    bool operator==(const SharedBytes& other) const;

private:
    struct Content;
    std::shared_ptr<const Content> content_;  ///< null: no bytes
};

}  // namespace dither
