#include "aggregator/floors.hpp"

#include "aggregator/detail/state_reader.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <utility>

namespace dither {

namespace {

constexpr std::array kLocalPhases{Phase::forward, Phase::backward, Phase::optimizer};

}  // namespace

Floors::Floors(Levels levels, FixedBits fixed, std::size_t layers)
    : levels_(std::move(levels)), fixed_(std::move(fixed)), floors_(layers) {}

/// A layer whose bits are fixed has no level between those and fp32.
int Floors::one_level_more(std::size_t layer, Phase phase, int bits) const {
    const int raised = levels_.raise(bits + 1);
    return phase != Phase::optimizer && fixed_.bits(layer, phase, raised) <= bits ? kFullBits : raised;
}

std::vector<PlanChange> Floors::alarm(std::uint32_t round, const std::string& reason, PrecisionPlan& plan) {
    std::vector<PlanChange> changes;
    for (std::size_t layer = 0; layer < floors_.size(); ++layer) {
        floors_[layer] = {.round = round};
        for (std::size_t i = 0; i < kLocalPhases.size(); ++i) {
            const Phase phase = kLocalPhases[i];
            int& bits = plan.layers[layer][phase];
            const int raised = one_level_more(layer, phase, bits);
            floors_[layer].bits[i] = raised;
            if (raised == bits)
                continue;
            changes.push_back({layer, phase, bits, raised, reason});
            bits = raised;
        }
    }
    return changes;
}

void Floors::saturate(std::uint32_t round, std::size_t layer, double share, int ran) {
    Floor& floor = floors_[layer];
    floor.bits[0] = std::max(floor.bits[0], one_level_more(layer, Phase::forward, ran));
    floor.round = round;
    floor.committed = 0;
    floor.saturation = share;
}

void Floors::committed() {
    for (Floor& floor : floors_)
        if (++floor.committed >= kHeldRounds)
            floor = {};
}

std::string Floors::reason_of(const Floor& floor, int bits) {
    if (floor.saturation > 0)
        return fmt::format("held at {} bits after {:.3g} of its values were clipped in round {}", bits,
                           floor.saturation, floor.round);
    return fmt::format("held at {} bits after a divergence in round {}", bits, floor.round);
}

void Floors::hold(PrecisionPlan& plan, std::vector<PlanChange>& changes) const {
    for (std::size_t layer = 0; layer < floors_.size(); ++layer)
        for (std::size_t i = 0; i < kLocalPhases.size(); ++i) {
            int& bits = plan.layers[layer][kLocalPhases[i]];
            const int floor = floors_[layer].bits[i];
            if (bits >= floor)
                continue;
            changes.push_back({layer, kLocalPhases[i], bits, floor, reason_of(floors_[layer], floor)});
            bits = floor;
        }
}

// Each layer: three floors, the cause's round, the rounds committed since, and the saturation that was the cause.
void Floors::append_state(std::vector<double>& state) const {
    for (const Floor& floor : floors_) {
        state.insert(state.end(), floor.bits.begin(), floor.bits.end());
        state.insert(state.end(),
                     {static_cast<double>(floor.round), static_cast<double>(floor.committed), floor.saturation});
    }
}

void Floors::restore(StateReader& reader) {
    for (Floor& floor : floors_) {
        for (int& bits : floor.bits)
            bits = reader.floor();
        floor.round = reader.round();
        floor.committed = reader.round();
        floor.saturation = reader.measured();
    }
}

}  // namespace dither
