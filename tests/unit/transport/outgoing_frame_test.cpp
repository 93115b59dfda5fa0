#include "transport/detail/outgoing_frame.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

namespace {

using namespace dither;
using detail::OutgoingFrame;

std::vector<std::byte> written(const OutgoingFrame& frame) {
    std::vector<std::byte> bytes;
    while (bytes.size() < frame.size()) {
        const auto piece = frame.from(bytes.size());
        bytes.insert(bytes.end(), piece.begin(), piece.end());
    }
    return bytes;
}

SharedBytes bytes_of(std::size_t size) {
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i)
        bytes[i] = static_cast<std::byte>(i * i >> 3);
    return bytes;
}

RoundPlan plan_with(const std::vector<std::size_t>& payload_bytes) {
    const auto parts = static_cast<std::uint32_t>(payload_bytes.size());
    RoundPlan plan{.round = parts + 1, .client = 3, .base = 1, .plan = PrecisionPlan::uniform(2, 8)};
    for (std::uint32_t i = 0; i < parts; ++i)
        plan.parts.push_back({.round = i + 2, .steps = {1, 2}, .payload = bytes_of(payload_bytes[i])});
    return plan;
}

}  // namespace

TEST_SUITE("transport/outgoing_frame") {
    TEST_CASE("its bytes are those of encode_frame, whatever of it is shared, from any position on") {
        CHECK(rc::check([] {
            const auto sizes = *rc::gen::container<std::vector<std::size_t>>(
                rc::gen::oneOf(rc::gen::inRange<std::size_t>(0, 20), rc::gen::inRange<std::size_t>(4090, 4100),
                               rc::gen::just<std::size_t>(100'000)));
            const Message plan = plan_with(sizes);
            const OutgoingFrame frame(plan);
            const auto expected = encode_frame(plan);
            RC_ASSERT(written(frame) == expected);
            const auto at = *rc::gen::inRange<std::size_t>(0, expected.size());
            const auto piece = frame.from(at);
            RC_ASSERT(!piece.empty());
            RC_ASSERT(std::ranges::equal(piece, std::span(expected).subspan(at, piece.size())));
        }));
        for (const Message& small : {Message(Hello{.node = "n"}), Message(Heartbeat{}),
                                     Message(Update{.payload = std::vector<std::byte>(50'000)})})
            CHECK(written(OutgoingFrame(small)) == encode_frame(small));
    }

    TEST_CASE("frames of one broadcast hold its payload once, and little of their own") {
        RoundPlan plan = plan_with({1'000'000});
        const SharedBytes payload = plan.parts[0].payload;
        CHECK(payload.copies() == 2);
        const OutgoingFrame one{plan};
        plan.client = 4;
        const OutgoingFrame other{plan};
        CHECK(payload.copies() == 4);
        CHECK(one.shared()[0].bytes.data() == payload.data());
        CHECK(one.own_bytes() < 200);
        CHECK(other.size() == one.size());
    }
}
