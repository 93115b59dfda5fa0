#include "transport/detail/value_groups.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <numeric>

namespace dither::detail {
namespace {

constexpr std::size_t kMostOctaves = 64;  // a layer; the lowest takes all below
constexpr unsigned kLevelBits = 4;        // a level is a sixteenth of an octave

/// Of each coordinate of a layer, whose first tensor is number `tensor` of the model; counted from the lowest one.
std::vector<std::uint8_t> octaves_of(const LayerSpec& layer, const Expectation& expectation, std::size_t tensor) {
    std::vector<std::int16_t> octaves;
    octaves.reserve(layer.count);
    for (std::size_t i = 0; i < layer.tensors.size(); ++i) {
        const Expectation::Levels levels = expectation.of(tensor + i);
        for (const std::int16_t row : levels.rows)
            for (const std::int16_t column : levels.columns)
                octaves.push_back(
                    static_cast<std::int16_t>(std::max<std::int32_t>(row + column, levels.least) >> kLevelBits));
    }
    require(octaves.size() == layer.count, "{} expected values for {} of layer {}", octaves.size(), layer.count,
            layer.name);
    const std::int32_t highest = octaves.empty() ? 0 : *std::max_element(octaves.begin(), octaves.end());
    const std::int32_t lowest = highest - static_cast<std::int32_t>(kMostOctaves) + 1;
    std::vector<std::uint8_t> counted(octaves.size());
    std::transform(octaves.begin(), octaves.end(), counted.begin(), [lowest](std::int32_t octave) {
        return static_cast<std::uint8_t>(std::max(octave, lowest) - lowest);
    });
    return counted;
}

/// Gives adjacent octaves the number of their group, so that groups have `fewest` members or more.
std::array<std::uint8_t, kMostOctaves> merge_octaves(const std::array<std::size_t, kMostOctaves>& counts,
                                                     std::size_t fewest) {
    std::array<std::uint8_t, kMostOctaves> group{};
    const std::size_t total = std::accumulate(counts.begin(), counts.end(), std::size_t{0});
    std::uint8_t current = 0;
    std::size_t members = 0;  // of the current group
    std::size_t left = total;
    for (std::size_t octave = 0; octave < kMostOctaves; ++octave) {
        if (members >= fewest && left >= fewest) {
            ++current;
            members = 0;
        }
        group[octave] = current;
        members += counts[octave];
        left -= counts[octave];
    }
    return group;
}

}  // namespace

ValueGroups::ValueGroups(const Schema& schema, const Expectation* expectation, std::size_t fewest) : schema_(schema) {
    places_.resize(expectation != nullptr ? schema.parameters() : 0);
    std::size_t tensor = 0;
    for (std::size_t layer = 0; layer < schema.layer_count(); ++layer) {
        const LayerSpec& spec = schema.layers()[layer];
        if (expectation != nullptr)
            split(layer, octaves_of(spec, *expectation, tensor), fewest);
        else
            groups_.push_back({layer, static_cast<std::uint32_t>(layer * kMostOctaves), spec.offset, spec.count, true});
        tensor += spec.tensors.size();
    }
}

void ValueGroups::split(std::size_t layer, std::span<const std::uint8_t> octaves, std::size_t fewest) {
    std::array<std::size_t, kMostOctaves> counts{};
    for (const std::uint8_t octave : octaves)
        ++counts[octave];
    const auto group_of = merge_octaves(counts, fewest);
    std::array<std::size_t, kMostOctaves> next{};  // place of each group's next member, in the order of groups
    std::size_t first = schema_.layers()[layer].offset;
    for (std::uint8_t group = 0; group <= group_of.back(); ++group) {
        std::size_t count = 0;
        for (std::size_t octave = 0; octave < kMostOctaves; ++octave)
            count += group_of[octave] == group ? counts[octave] : 0;
        next[group] = first;
        groups_.push_back({layer, static_cast<std::uint32_t>(layer * kMostOctaves + group), first, count, false});
        first += count;
    }
    groups_.back().ends_layer = true;
    for (std::size_t i = 0; i < octaves.size(); ++i)
        places_[next[group_of[octaves[i]]]++] = static_cast<std::uint32_t>(i);
}

void ValueGroups::gather(const ValueGroup& group, std::span<const float> values, std::span<float> out) const {
    if (places_.empty()) {
        std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(group.first), group.count, out.begin());
        return;
    }
    const float* layer = values.data() + schema_.layers()[group.layer].offset;
    for (std::size_t i = 0; i < group.count; ++i)
        out[i] = layer[places_[group.first + i]];
}

void ValueGroups::scatter(const ValueGroup& group, std::span<const float> in, std::span<float> layer_values) const {
    if (places_.empty()) {
        std::copy_n(in.begin(), group.count, layer_values.begin());
        return;
    }
    for (std::size_t i = 0; i < group.count; ++i)
        layer_values[places_[group.first + i]] = in[i];
}

}  // namespace dither::detail
