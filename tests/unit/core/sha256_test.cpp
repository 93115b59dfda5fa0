#include "core/sha256.hpp"

#include <doctest/doctest.h>

#include <array>
#include <string>
#include <vector>

using dither::sha256;
using dither::to_hex;

TEST_SUITE("core/sha256") {
    TEST_CASE("the digests are those of FIPS 180-4's examples") {
        CHECK(to_hex(sha256("")) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        CHECK(to_hex(sha256("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        CHECK(to_hex(sha256(std::string(1'000'000, 'a'))) ==
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }

    TEST_CASE("floats are hashed as their little-endian bytes, in order") {
        const std::vector<float> values{1.0F, -2.0F};
        const std::array<unsigned char, 8> bytes{0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x00, 0xc0};
        CHECK(sha256(values) == sha256(std::as_bytes(std::span(bytes))));
        const std::vector<float> reversed{-2.0F, 1.0F};
        CHECK(sha256(reversed) != sha256(values));
    }

    TEST_CASE("zero and minus zero are different models") {
        const std::vector<float> zero{0.0F};
        const std::vector<float> minus_zero{-0.0F};
        CHECK(sha256(zero) != sha256(minus_zero));
    }

    TEST_CASE("bytes that come in pieces have the digest of the whole") {
        const std::string text(1000, 'x');
        for (const std::size_t piece : {1U, 7U, 64U, 1000U}) {
            dither::Sha256Stream stream;
            for (std::size_t at = 0; at < text.size(); at += piece)
                stream.add(std::string_view(text).substr(at, piece));
            CHECK(stream.finish() == sha256(std::string_view(text)));
        }
        CHECK(dither::Sha256Stream().finish() == sha256(std::string_view()));
    }
}
