// The precision plan: how many bits each layer may use in each phase of the next round.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace dither {

enum class Phase { forward, backward, optimizer, uplink, downlink };
inline constexpr std::array kPhases{Phase::forward, Phase::backward, Phase::optimizer, Phase::uplink, Phase::downlink};
std::string_view name_of(Phase phase);

/// 32 stands for fp32, 2..16 for integer codes of that width.
inline constexpr int kFullBits = 32;

struct LayerBits {
    int forward = kFullBits;
    int backward = kFullBits;   ///< of every operand of the backward pass: output gradient, weights and activations
    int optimizer = kFullBits;  ///< of the optimizer's state
    int uplink = kFullBits;     ///< nominal width of an update's codes; what crosses the wire is counted, not planned
    int downlink = kFullBits;

    int& operator[](Phase phase);
    int operator[](Phase phase) const;
    bool operator==(const LayerBits&) const = default;
};

struct PrecisionPlan {
    std::vector<LayerBits> layers;  ///< one for each layer of the schema, in its order

    static PrecisionPlan uniform(std::size_t layers, int bits);
    bool operator==(const PrecisionPlan&) const = default;
};

/// The widths that a plan may use, ascending; the last is always 32 ({4, 8, 16, 32} by default).
class Levels {
public:
    /// Throws InputError unless ascending, each in 2..16 or 32, and ending in 32.
    explicit Levels(std::vector<int> bits);

    std::span<const int> bits() const { return bits_; }
    /// The smallest level >= bits; the lowest level for anything below it and 32 for anything above, NaN included.
    int raise(double bits) const;
    bool contains(int bits) const;
    int lowest() const { return bits_.front(); }

private:
    std::vector<int> bits_;
};

}  // namespace dither
