// Whole frames, checksums and all.
#include "core/error.hpp"
#include "tests/fuzz/messages.hpp"
#include "tests/fuzz/target.hpp"
#include "transport/frame.hpp"

namespace dither::fuzz {

std::vector<Bytes> seeds() {
    std::vector<Bytes> seeds;
    for (const Message& message : sample_messages())
        seeds.push_back(encode_frame(message));
    return seeds;
}

void run(std::span<const std::byte> bytes) {
    try {
        if (bytes.size() < kFrameHeaderBytes)
            return;
        decode_header(bytes.first(kFrameHeaderBytes), FrameLimits{});
        const Message message = decode_frame({bytes.begin(), bytes.end()}, FrameLimits{});
        require(encode_frame(message) == Bytes(bytes.begin(), bytes.end()), "a frame is not what its message gives");
    } catch (const FormatError&) {
    }
}

}  // namespace dither::fuzz
