// Error feedback (Seide et al., "1-bit stochastic gradient descent", Interspeech 2014; Karimireddy et al., "Error
// feedback fixes SignSGD and other gradient compression schemes", ICML 2019): what encoding loses of an update is added
// to the client's next one,
//
//     p = update + e,     send C(p),     e <- p - decode(C(p))
//
// where e is that of the last update that was counted: a lost update takes none of it away (client_vector.hpp).
#pragma once

#include "node/client_vector.hpp"
#include "transport/codec.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace dither {

/// Not thread-safe: one for each worker, for one client after the other. Borrows the codec.
class ErrorFeedback {
public:
    ErrorFeedback(const Codec& codec, ResidualStore store, std::size_t parameters);

    /// ClientVector::begin.
    void begin(const RoundPlan& plan) { residual_.begin(plan); }

    /// Encodes `update`, which becomes p, of what was begun last; `out` is overwritten by the payload. What that loses
    /// is kept as ClientVector::keep does, and returned until the next begin(). Throws what the codec throws, too;
    /// nothing is kept then.
    std::span<const float> encode(std::span<float> update, const Terms& terms, std::vector<std::byte>& out);

private:
    const Codec& codec_;
    ClientVector residual_;
};

}  // namespace dither
