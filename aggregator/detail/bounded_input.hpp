// Reads what cereal's portable binary archive has written, little-endian, where anyone may have written it: no count is
// believed before as many bytes are there, and a flag is 0 or 1. Private to the aggregator.
#pragma once

#include "core/error.hpp"
#include "core/little_endian.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <streambuf>
#include <type_traits>

#include <cereal/cereal.hpp>

namespace dither {

/// Borrows `in`. Throws FormatError, as does every load below.
class BoundedInput : public cereal::InputArchive<BoundedInput, cereal::AllowEmptyClassElision> {
public:
    /// So many bytes are in `in`, the first of which says little-endian.
    BoundedInput(std::streambuf& in, std::uint64_t bytes) : InputArchive(this), in_(in), left_(bytes) {
        std::byte order{};
        read(&order, 1);
        if (order != std::byte{1})
            throw FormatError("not little-endian");
    }

    std::uint64_t left() const { return left_; }
    void expect_left(std::uint64_t count) const {
        if (count > left_)
            throw FormatError(fmt::format("{} more promised than the {} bytes that are left", count, left_));
    }
    void read(std::byte* to, std::size_t size) {
        expect_left(size);
        const auto wanted = static_cast<std::streamsize>(size);
        if (in_.sgetn(reinterpret_cast<char*>(to), wanted) != wanted)
            throw FormatError(fmt::format("{} bytes cannot be read", size));
        left_ -= size;
    }

private:
    std::streambuf& in_;
    std::uint64_t left_;
};

template <typename Value>
std::enable_if_t<std::is_arithmetic_v<Value>> load(BoundedInput& in, Value& value) {
    std::array<std::byte, sizeof(Value)> bytes{};
    in.read(bytes.data(), bytes.size());
    if (std::is_same_v<Value, bool> && bytes[0] > std::byte{1})
        throw FormatError("a flag that is neither 0 nor 1");
    value = load_little<Value>(bytes.data());
}

template <typename Value>
void load(BoundedInput& in, cereal::NameValuePair<Value>& pair) {
    in(pair.value);
}

template <typename Size>
void load(BoundedInput& in, cereal::SizeTag<Size>& tag) {
    std::uint64_t count = 0;
    load(in, count);
    in.expect_left(count);
    tag.size = static_cast<std::remove_reference_t<Size>>(count);
}

/// A vector's numbers, or a string's characters.
template <typename Pointer>
void load(BoundedInput& in, cereal::BinaryData<Pointer>& data) {
    using Value = std::remove_pointer_t<std::remove_reference_t<Pointer>>;
    auto* const bytes = reinterpret_cast<std::byte*>(data.data);
    in.read(bytes, static_cast<std::size_t>(data.size));
    for (std::size_t i = 0; i < static_cast<std::size_t>(data.size); i += sizeof(Value)) {
        const Value value = load_little<Value>(bytes + i);
        std::memcpy(bytes + i, &value, sizeof(Value));
    }
}

}  // namespace dither
