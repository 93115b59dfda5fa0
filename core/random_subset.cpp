#include "core/random_subset.hpp"

#include "core/error.hpp"

#include <set>

namespace dither {
namespace {

constexpr std::uint32_t kBitsOfANode = 256;  // what a number takes in a set, at least

std::vector<std::uint32_t> choose_many(Stream& stream, std::uint32_t bound, std::uint32_t count) {
    std::vector<bool> chosen(bound);
    for (std::uint32_t last = bound - count; last < bound; ++last) {
        const std::uint32_t drawn = stream.below(last + 1);
        chosen[chosen[drawn] ? last : drawn] = true;
    }
    std::vector<std::uint32_t> numbers;
    numbers.reserve(count);
    for (std::uint32_t i = 0; i < bound; ++i)
        if (chosen[i])
            numbers.push_back(i);
    return numbers;
}

}  // namespace

std::vector<std::uint32_t> random_subset(Stream& stream, std::uint32_t bound, std::uint32_t count) {
    require(count <= bound, "cannot draw {} different numbers out of {}", count, bound);
    if (count > bound / kBitsOfANode)
        return choose_many(stream, bound, count);
    std::set<std::uint32_t> chosen;
    for (std::uint32_t last = bound - count; last < bound; ++last) {
        // last + 1 values: 0 .. last. If the drawn one is taken, `last` cannot be.
        const bool is_new = chosen.insert(stream.below(last + 1)).second;
        if (!is_new)
            chosen.insert(last);
    }
    return {chosen.begin(), chosen.end()};
}

}  // namespace dither
