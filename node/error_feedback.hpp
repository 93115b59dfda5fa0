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
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace dither {

/// Not thread-safe: one for each worker, for one client after the other. Borrows the codec.
class ErrorFeedback {
public:
    ErrorFeedback(const Codec& codec, ResidualStore store, std::size_t parameters);

    /// Takes up e for the client and round of `plan`; before training, so that encode() can tell whether another worker
    /// went on with this client meanwhile. Throws FormatError on a plan that counts a round to come, and InputError on
    /// a file of no use.
    void begin(const RoundPlan& plan);

    /// Encodes `update`, which becomes p, of what was begun last; `out` is overwritten by the payload. What that loses
    /// is kept before this returns: no update is sent whose residual is not kept. So a straggler, after whose begin()
    /// the same client's update of a later round was kept, ends in a FormatError: its round is over, and keeping its
    /// residual would take away the later one's. Throws what the codec and the store throw, too; the store is as it was
    /// then.
    void encode(std::span<float> update, const Terms& terms, std::vector<std::byte>& out);

private:
    struct Task {
        std::uint32_t client;
        std::uint32_t round;
        std::uint32_t counted;
        Kept found;
    };

    const Codec& codec_;
    ResidualStore store_;
    std::optional<Task> task_;     ///< that is begun
    std::vector<float> residual_;  ///< e of the last update that was counted
    std::vector<float> lost_;      ///< e of this one
};

}  // namespace dither
