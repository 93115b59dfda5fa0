#include "core/sha256.hpp"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include <bit>
#include <new>

namespace dither {

struct Sha256Stream::State {
    struct Free {
        void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
    };
    std::unique_ptr<EVP_MD_CTX, Free> context{EVP_MD_CTX_new()};
};

Sha256Stream::Sha256Stream() : state_(std::make_unique<State>()) {
    if (!state_->context || EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr) != 1)
        throw std::bad_alloc();
}

Sha256Stream::~Sha256Stream() = default;

void Sha256Stream::add(std::span<const std::byte> bytes) {
    if (EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()) != 1)
        throw std::bad_alloc();
}

Sha256 Sha256Stream::finish() {
    Sha256 digest;
    if (EVP_DigestFinal_ex(state_->context.get(), digest.data(), nullptr) != 1)
        throw std::bad_alloc();
    return digest;
}

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
