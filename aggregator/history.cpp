#include "aggregator/history.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <utility>

namespace dither {

std::uint64_t wire_bytes(std::span<const ModelPart> parts) {
    std::uint64_t bytes = 0;
    for (const ModelPart& part : parts)
        bytes += part.wire_bytes();
    return bytes;
}

void History::push(ModelPart part, std::uint64_t most_bytes) {
    require(part.round == last() + 1, "the change of round {} after that of round {}", part.round, last());
    parts.push_back(std::move(part));
    std::uint64_t bytes = wire_bytes(parts);
    auto oldest = parts.begin();
    for (; bytes >= most_bytes && oldest != parts.end(); ++oldest)
        bytes -= oldest->wire_bytes();
    reach += static_cast<std::uint32_t>(oldest - parts.begin());
    parts.erase(parts.begin(), oldest);
}

void History::restart(std::uint32_t round) {
    reach = round;
    parts.clear();
}

std::uint32_t History::base_for(std::uint32_t held) const {
    const std::uint32_t base = std::max<std::uint32_t>(held, 1);
    return base >= reach && base <= last() ? base : 0;
}

std::span<const ModelPart> History::since(std::uint32_t base) const {
    require(base >= reach && base <= last(), "changes since round {}, expected {} .. {}", base, reach, last());
    return std::span(parts).subspan(base - reach);
}

}  // namespace dither
