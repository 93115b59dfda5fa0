// Error feedback (Seide et al., "1-bit stochastic gradient descent", Interspeech 2014; Karimireddy et al., "Error
// feedback fixes SignSGD and other gradient compression schemes", ICML 2019): what encoding loses of an update is added
// to the client's next one,
//
//     p = update + e,     send C(p),     e <- p - decode(C(p))
//
// where e is that of the last update that was counted: a lost update takes none of it away (residual_store.hpp).
#pragma once

#include "node/residual_store.hpp"
#include "transport/codec.hpp"
#include "transport/messages.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace dither {

/// True if updates by this codec get error feedback: options.feedback says so, or leaves it to the codec.
bool wants_feedback(const CodecOptions& options, const Codec& codec);

/// Not thread-safe: one for each worker, for one client after the other. Borrows the codec.
class ErrorFeedback {
public:
    ErrorFeedback(const Codec& codec, ResidualStore store, std::size_t parameters);

    /// Encodes `update`, which becomes p, for the client and round of `plan`; `out` is overwritten by the payload. What
    /// that loses is kept before this returns. Throws what the codec and the store throw; the store is as it was then.
    void encode(std::span<float> update, const RoundPlan& plan, const Terms& terms, std::vector<std::byte>& out);

private:
    const Codec& codec_;
    ResidualStore store_;
    std::vector<float> residual_;  ///< e of the last update that was counted
    std::vector<float> lost_;      ///< e of this one
};

}  // namespace dither
