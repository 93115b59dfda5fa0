// A vector that a client takes from each counted update to its next one: what is kept between the two.
#pragma once

#include "node/residual_store.hpp"
#include "transport/messages.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace dither {

/// Not thread-safe: one for each worker, for one client after the other.
class ClientVector {
public:
    ClientVector(ResidualStore store, std::size_t parameters);

    /// Takes up the vector of the client and round of `plan`; before training, so that keep() can tell whether another
    /// worker went on with this client meanwhile. Throws FormatError on a plan that counts a round to come, and
    /// InputError on a file of no use.
    void begin(const RoundPlan& plan);
    /// What the update left that was counted last; zeros where nothing is kept of it. Until the next begin().
    std::span<const float> counted() const { return counted_; }
    /// Where what this update leaves is to be written, from begin() to keep().
    std::span<float> next();
    /// Keeps that, durably, before this returns: no update is sent whose vector is not kept. So a straggler, after
    /// whose begin() the same client's vector of a later round was kept, ends in a FormatError: its round is over, and
    /// keeping its vector would take away the later one's. Throws what the store throws, too; that is as it was then.
    void keep();

private:
    struct Task {
        std::uint32_t client;
        std::uint32_t round;
        std::uint32_t counted;
        Kept found;
    };

    ResidualStore store_;
    std::optional<Task> task_;  ///< that is begun
    std::vector<float> counted_;
    std::vector<float> next_;
};

}  // namespace dither
