// The bounded archive, whatever fields a message may have: the first bytes say which are read, the rest is the body.
#include "core/error.hpp"
#include "tests/fuzz/target.hpp"
#include "transport/detail/bounded_archive.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

namespace dither::fuzz {
namespace {

constexpr std::size_t kFields = 12;
constexpr std::uint32_t kMostLayers = 64;

using Archive = detail::BoundedReader;
using Read = void (*)(Archive&, std::size_t body_bytes);

template <typename Number>
void read_number(Archive& archive, std::size_t /*body_bytes*/) {
    Number value{};
    archive("number", value);
}

void read_narrow(Archive& archive, std::size_t /*body_bytes*/) {
    int value = 0;
    archive.as<std::uint8_t>("narrow number", value);
    require(value >= 0 && value <= 0xff, "a byte of {}", value);
}

void read_text(Archive& archive, std::size_t body_bytes) {
    std::string text;
    archive.text("text", text, 1000);
    require(text.size() <= std::min<std::size_t>(body_bytes, 1000), "a text of {} bytes", text.size());
}

void read_layers(Archive& archive, std::size_t body_bytes) {
    std::vector<std::uint32_t> layers;
    archive.per_layer("layers", layers, sizeof(std::uint32_t), [&](auto& value) { archive("layer", value); });
    require(layers.size() <= std::min<std::size_t>(body_bytes / 4, kMostLayers), "{} layers", layers.size());
}

void read_list(Archive& archive, std::size_t body_bytes) {
    std::vector<std::string> texts;
    archive.list("list", texts, sizeof(std::uint32_t), [&](auto& text) { archive.text("entry", text, 100); });
    require(texts.size() <= body_bytes / 4, "{} entries", texts.size());
}

void read_few(Archive& archive, std::size_t /*body_bytes*/) {
    std::vector<std::uint8_t> few;
    archive.few("few", few, 16, [&](auto& value) { archive("one", value); });
    require(few.size() <= 16, "{} of a few", few.size());
}

/// Nothing but finish() may follow a payload that ends its body.
void read_payload(Archive& archive, std::size_t body_bytes) {
    Bytes payload;
    archive.payload("payload", payload);
    require(payload.size() <= body_bytes, "a payload of {} bytes in {}", payload.size(), body_bytes);
}

constexpr std::array<Read, 11> kReads{read_number<std::uint8_t>,
                                      read_number<std::uint16_t>,
                                      read_number<std::uint32_t>,
                                      read_number<std::uint64_t>,
                                      read_number<float>,
                                      read_number<bool>,
                                      read_narrow,
                                      read_text,
                                      read_layers,
                                      read_list,
                                      read_few};

}  // namespace

std::vector<Bytes> seeds() {
    std::vector<Bytes> seeds;
    for (std::size_t first = 0; first < kReads.size(); ++first) {
        Bytes& seed = seeds.emplace_back();
        for (std::size_t i = 0; i < kFields; ++i)
            seed.push_back(static_cast<std::byte>(first + i));
        for (std::size_t i = 0; i < 40; ++i)
            seed.push_back(i % 4 == 0 ? std::byte{1} : std::byte{0});
    }
    return seeds;
}

void run(std::span<const std::byte> bytes) {
    if (bytes.size() < kFields)
        return;
    Bytes body(bytes.begin() + kFields, bytes.end());
    const std::size_t body_bytes = body.size();
    Archive archive("message", body, kMostLayers);
    try {
        for (const std::byte field : bytes.first(kFields))
            kReads[std::to_integer<std::size_t>(field) % kReads.size()](archive, body_bytes);
        read_payload(archive, body_bytes);
        archive.finish();
    } catch (const FormatError&) {
    }
}

}  // namespace dither::fuzz
