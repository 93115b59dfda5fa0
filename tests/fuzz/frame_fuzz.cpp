// Whole frames, checksums and all; and behind a header whose length and checksums are made to fit, what they keep the
// fuzzer from. Two such frames arrive in pieces, as a socket and as an MPI rank give them.
#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "tests/fuzz/messages.hpp"
#include "tests/fuzz/target.hpp"
#include "transport/detail/crc32c.hpp"
#include "transport/detail/frame_assembler.hpp"
#include "transport/detail/frame_parser.hpp"
#include "transport/frame.hpp"

#include <algorithm>
#include <cstdint>

namespace dither::fuzz {
namespace {

constexpr std::size_t kLengthAt = 8;
constexpr std::size_t kBodyChecksumAt = 16;
constexpr std::size_t kHeaderChecksumAt = 20;

/// The same bytes with a header that fits them; its magic, version, type and flags are as they were.
Bytes fitted(std::span<const std::byte> bytes) {
    Bytes frame(bytes.begin(), bytes.end());
    const auto body = bytes.subspan(kFrameHeaderBytes);
    store_little(std::uint64_t{body.size()}, frame.data() + kLengthAt);
    store_little(detail::crc32c(body), frame.data() + kBodyChecksumAt);
    store_little(detail::crc32c(std::span(frame).first(kHeaderChecksumAt)), frame.data() + kHeaderChecksumAt);
    return frame;
}

/// Calls take(piece) for bytes of `whole`, at most `size` at once.
template <typename Take>
void in_pieces(std::span<const std::byte> whole, std::size_t size, Take take) {
    while (!whole.empty()) {
        const auto piece = whole.first(std::min(size, whole.size()));
        take(piece);
        whole = whole.subspan(piece.size());
    }
}

std::vector<Message> parsed(std::span<const std::byte> frame, std::size_t piece_bytes) {
    std::vector<Message> messages;
    detail::FrameParser parser;
    for (int repeat = 0; repeat < 2; ++repeat)
        in_pieces(frame, piece_bytes, [&](std::span<const std::byte> piece) {
            while (!piece.empty())
                if (auto message = parser.take(piece, FrameLimits{}))
                    messages.push_back(std::move(*message));
        });
    require(parser.between_frames(), "the parser waits for more after whole frames");
    return messages;
}

std::vector<Message> assembled(std::span<const std::byte> frame, std::size_t piece_bytes) {
    std::vector<Message> messages;
    detail::FrameAssembler assembler;
    const auto take = [&](std::span<const std::byte> part) {
        std::ranges::copy(part, assembler.place(part.size()).begin());
        if (auto message = assembler.arrived(FrameLimits{}))
            messages.push_back(std::move(*message));
    };
    for (int repeat = 0; repeat < 2; ++repeat) {
        take(frame.first(kFrameHeaderBytes));
        in_pieces(frame.subspan(kFrameHeaderBytes), piece_bytes, take);
    }
    return messages;
}

void read_whole(std::span<const std::byte> bytes) {
    try {
        decode_header(bytes.first(kFrameHeaderBytes), FrameLimits{});
        const Message message = decode_frame({bytes.begin(), bytes.end()}, FrameLimits{});
        require(encode_frame(message) == Bytes(bytes.begin(), bytes.end()), "a frame is not what its message gives");
    } catch (const FormatError&) {
    }
}

void read_in_pieces(std::span<const std::byte> frame) {
    const std::size_t piece_bytes = 1 + frame.size() % 61;
    try {
        const std::vector<Message> messages = parsed(frame, piece_bytes);
        require(messages.size() == 2 && messages[0] == messages[1], "two equal frames give {} messages",
                messages.size());
        require(assembled(frame, piece_bytes) == messages, "the same frames, assembled, give other messages");
    } catch (const FormatError&) {
    }
}

}  // namespace

std::vector<Bytes> seeds() {
    std::vector<Bytes> seeds;
    for (const int version : {1, 2, 3, 4, 5})
        for (Bytes& frame : golden_bytes("v" + std::to_string(version)))
            seeds.push_back(std::move(frame));
    for (const Message& message : sample_messages())
        seeds.push_back(encode_frame(message));
    return seeds;
}

void run(std::span<const std::byte> bytes) {
    if (bytes.size() < kFrameHeaderBytes)
        return;
    read_whole(bytes);
    read_in_pieces(fitted(bytes));
}

}  // namespace dither::fuzz
