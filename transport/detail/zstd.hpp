// zstd with the memory in our hands: nothing is allocated because a compressed frame asks for it.
#pragma once

#include <zstd.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dither::detail {

class Compressor {
public:
    /// Replaces `out` by the compressed bytes, fewer than `limit` of them, and returns true; false if that is
    /// impossible.
    bool compress(std::span<const std::byte> bytes, std::size_t limit, std::vector<std::byte>& out);

private:
    struct Free {
        void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
    };
    std::unique_ptr<ZSTD_CCtx, Free> context_;  ///< made at first use
};

class Decompressor {
public:
    /// Fills `out` if `bytes` is exactly one frame of exactly out.size() bytes; otherwise says what is wrong with it.
    std::string decompress(std::span<const std::byte> bytes, std::span<std::byte> out);

private:
    struct Free {
        void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
    };
    std::unique_ptr<ZSTD_DCtx, Free> context_;  ///< made at first use
};

}  // namespace dither::detail
