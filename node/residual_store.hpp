// What encoding lost of each client's updates, or another vector that goes from one to the next (client_vector.hpp),
// kept between rounds, sessions and restarts.
//
// Whether an update is counted is known only when the client is asked again. So the file of a client holds two
// residuals: that of the last update known to be counted, from which the newest update was made, and that of the newest
// update. Whichever round the aggregator then says it counted last, its residual is at hand: a lost or refused update
// gives back the one it was made from. README.md has the file's bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "core/sha256.hpp"

namespace dither {

/// What is left after the client's update of a round; round 0, before all updates, leaves nothing.
struct Residual {
    std::uint32_t round = 0;
    std::span<const float> values;
};

/// The newest update of a client of which a store keeps the residual, and the digest that tells its file from any
/// other; as made: nothing is kept.
struct Kept {
    std::uint32_t round = 0;
    Sha256 digest{};
    bool operator==(const Kept&) const = default;
};

/// Writes no file before the first save. Stores of several threads and processes may share a folder: a client may be
/// trained by this worker now and by another one the next time, or by both at once, where one lags behind. One store
/// may be used by several threads.
class ResidualStore {
public:
    /// For models of `parameters` values.
    ResidualStore(std::filesystem::path folder, std::size_t parameters);

    /// Fills `residual`, of `parameters` values, with what is left after `client`'s update of round `counted`: zeros
    /// for round 0, and where the folder has nothing of that round. Throws InputError that names a file which is
    /// damaged or another model's.
    void load(std::uint32_t client, std::uint32_t counted, std::span<float> residual) const;

    /// What is there now; a file of another length than this model's is nothing.
    Kept kept(std::uint32_t client) const;

    /// Replaces what is kept of `client`, durably: `counted` is what the update was made from, `newest` is of a later
    /// round. Returns false, and does nothing, if a later round than that was saved after kept() gave `found`. What was
    /// there then is replaced, even of a later round: that is another run's, or of rounds that are run again from a
    /// checkpoint. Throws IoError.
    bool save(std::uint32_t client, const Residual& counted, const Residual& newest, const Kept& found = {}) const;

private:
    std::filesystem::path file_of(std::uint32_t client) const;

    std::filesystem::path folder_;
    std::size_t parameters_;
};

}  // namespace dither
