#include "core/sha256.hpp"

#include <fmt/format.h>
#include <openssl/sha.h>

#include <bit>

namespace dither {

Sha256 sha256(std::span<const std::byte> bytes) {
    Sha256 digest;
    SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
    return digest;
}

Sha256 sha256(std::string_view text) {
    return sha256(std::as_bytes(std::span(text)));
}

Sha256 sha256(std::span<const float> values) {
    static_assert(std::endian::native == std::endian::little, "the memory of floats is what is hashed");
    return sha256(std::as_bytes(values));
}

std::string to_hex(const Sha256& digest) {
    return fmt::format("{:02x}", fmt::join(digest, ""));
}

}  // namespace dither
