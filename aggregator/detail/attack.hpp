// What the attackers of a simulation send instead of their updates. They see all of a round's updates and the server's
// rule cannot tell who they are, as in the literature. Private to the aggregator.
#pragma once

#include "core/config.hpp"
#include "core/rng.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace dither {

/// One round's updates, a float each parameter.
struct AttackedRound {
    struct Lie {
        std::uint32_t client = 0;
        std::span<float> update;  ///< what the client trained, to be replaced
    };
    std::vector<std::span<const float>> honest;  ///< ascending clients
    std::vector<Lie> lies;                       ///< likewise
    double scale = 1;                            ///< the options'
    StreamKey key;                               ///< of the round, with Purpose::attack: each attacker has its client's
};

/// Replaces the lies. Where nobody is honest, those that build upon what is honest stay what they are.
///
/// sign_flip   -scale * its own update
/// gaussian    independent normal values of mean 0 and deviation `scale`
/// alie        mean - scale * deviation of the honest updates, parameter by parameter, all the same: Baruch, Baruch,
///             Goldberg, "A little is enough: circumventing defenses for distributed learning", NeurIPS 2019 (their z)
/// ipm         -scale * mean of the honest updates: Xie, Koyejo, Gupta, "Fall of empires: breaking Byzantine-tolerant
///             SGD by inner product manipulation", UAI 2020 (their epsilon)
/// mimic       the update of the honest client with the lowest number: Karimireddy, He, Jaggi, "Byzantine-robust
///             learning on heterogeneous datasets via bucketing", ICLR 2022
using Attack = void (*)(const AttackedRound& round);

/// Null for none and for label_flip, where nothing is replaced: that attack is in how nodes train. Throws InputError on
/// an unknown kind.
Attack attack_of(const AttackOptions& options);

}  // namespace dither
