// The least bits of each layer's local phases after something went wrong: an alarm (a divergence) takes all phases of
// all layers one level up, saturation the forward phase of one layer, and no policy takes them below that before
// kHeldRounds more rounds have committed.
#pragma once

#include "aggregator/fixed_bits.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/policy.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace dither {

class StateReader;

/// Deterministic; not thread-safe.
class Floors {
public:
    static constexpr std::uint32_t kHeldRounds = 5;

    Floors(Levels levels, FixedBits fixed, std::size_t layers);

    /// Round `round` diverged, for this reason: raises the plan at once.
    std::vector<PlanChange> alarm(std::uint32_t round, const std::string& reason, PrecisionPlan& plan);
    /// So large a share of the layer's values was clipped in round `round`, under `ran` bits of the forward phase.
    /// Takes effect with the next hold.
    void saturate(std::uint32_t round, std::size_t layer, double share, int ran);
    /// A round has committed: floors that have held long enough are forgotten.
    void committed();
    /// Raises what the policy decided to the floors.
    void hold(PrecisionPlan& plan, std::vector<PlanChange>& changes) const;

    /// restore reads what append_state wrote, and throws PreconditionError on what is no state.
    void append_state(std::vector<double>& state) const;
    void restore(StateReader& reader);

private:
    struct Floor {
        std::array<int, 3> bits{};    ///< of the local phases; 0: none
        std::uint32_t round = 0;      ///< of the cause
        std::uint32_t committed = 0;  ///< rounds since
        double saturation = 0;        ///< that caused it; 0: a divergence did
    };

    int one_level_more(std::size_t layer, Phase phase, int bits) const;
    static std::string reason_of(const Floor& floor, int bits);

    Levels levels_;
    FixedBits fixed_;
    std::vector<Floor> floors_;
};

}  // namespace dither
