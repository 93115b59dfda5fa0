// Bodies of messages behind a byte with their type: what a frame's checksum keeps from a fuzzer.
#include "core/error.hpp"
#include "tests/fuzz/messages.hpp"
#include "tests/fuzz/target.hpp"
#include "transport/detail/body.hpp"
#include "transport/frame.hpp"

namespace dither::fuzz {

std::vector<Bytes> seeds() {
    std::vector<Bytes> seeds;
    for (const Message& message : sample_messages()) {
        Bytes& seed = seeds.emplace_back(1, static_cast<std::byte>(detail::type_of(message)));
        detail::write_body(message, seed);
    }
    for (const Bytes& frame : golden_bytes("v" + std::to_string(kProtocolVersion))) {
        Bytes& seed = seeds.emplace_back(1, frame[6]);
        append(seed, std::span(frame).subspan(kFrameHeaderBytes));
    }
    return seeds;
}

void run(std::span<const std::byte> bytes) {
    if (bytes.empty())
        return;
    try {
        const auto type = std::to_integer<std::uint8_t>(bytes[0]);
        const Message message = detail::read_body(type, {bytes.begin() + 1, bytes.end()}, 16);
        Bytes again{bytes[0]};
        detail::write_body(message, again);
        require(again == Bytes(bytes.begin(), bytes.end()), "a body is not what its message gives");
    } catch (const FormatError&) {
    }
}

}  // namespace dither::fuzz
