// The coordinates of a model, sorted into groups of about the same expected magnitude, each within one layer: what a
// codec rotates and scales together. A rotation makes its coordinates alike, so groups keep apart what both ends know
// to be different; bits then go where they are worth most. With nothing expected, every layer is a group.
#pragma once

#include "core/model/schema.hpp"
#include "transport/expectation.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dither::detail {

struct ValueGroup {
    std::size_t layer = 0;
    std::uint32_t lane = 0;  ///< its own, for random streams
    std::size_t first = 0;   ///< in the order of groups, counted through the model
    std::size_t count = 0;
    bool ends_layer = false;
};

/// Immutable after construction. The same for the same schema and expectation on every machine.
class ValueGroups {
public:
    /// A group has the coordinates that are expected within a factor of two, and at least `fewest`, or the whole layer.
    /// The schema is borrowed; the expectation may be nullptr and is not kept.
    ValueGroups(const Schema& schema, const Expectation* expectation, std::size_t fewest);

    /// Layer by layer, in each the smallest magnitudes first.
    std::span<const ValueGroup> all() const { return groups_; }
    /// out[i]: the group's i-th value of a whole model.
    void gather(const ValueGroup& group, std::span<const float> values, std::span<float> out) const;
    /// The inverse, into the values of the group's layer.
    void scatter(const ValueGroup& group, std::span<const float> in, std::span<float> layer_values) const;

private:
    /// octaves: of the layer's expected magnitudes.
    void split(std::size_t layer, std::span<const std::uint8_t> octaves, std::size_t fewest);

    const Schema& schema_;
    std::vector<ValueGroup> groups_;
    std::vector<std::uint32_t> places_;  ///< in their layer, in the order of groups; empty: as they are
};

}  // namespace dither::detail
