// SHA-256 (FIPS 180-4) by OpenSSL: the name of a model, a job and a checkpoint.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace dither {

using Sha256 = std::array<unsigned char, 32>;

Sha256 sha256(std::span<const std::byte> bytes);
Sha256 sha256(std::string_view text);
/// Of the values' little-endian IEEE 754 bytes, in order: the `model_sha256` of a flat parameter vector.
Sha256 sha256(std::span<const float> values);

/// The same of bytes that come one after the other. Not thread-safe.
class Sha256Stream {
public:
    Sha256Stream();
    ~Sha256Stream();
    void add(std::span<const std::byte> bytes);
    void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
    /// Of all that was added; nothing follows.
    Sha256 finish();

private:
    struct State;
    std::unique_ptr<State> state_;
};

/// 64 lower-case hexadecimal digits.
std::string to_hex(const Sha256& digest);

}  // namespace dither
