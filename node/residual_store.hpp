// What encoding lost of each client's updates, kept between rounds, sessions and restarts.
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

namespace dither {

/// What is left after the client's update of a round; round 0, before all updates, leaves nothing.
struct Residual {
    std::uint32_t round = 0;
    std::span<const float> values;
};

/// Writes no file before the first save. Several stores may share a folder, one after the other for each client: a
/// client may be trained by this worker now and by another one the next time.
class ResidualStore {
public:
    /// For models of `parameters` values.
    ResidualStore(std::filesystem::path folder, std::size_t parameters);

    /// Fills `residual`, of `parameters` values, with what is left after `client`'s update of round `counted`: zeros
    /// for round 0, and where the folder has nothing of that round. Throws InputError that names a file which is
    /// damaged or another model's.
    void load(std::uint32_t client, std::uint32_t counted, std::span<float> residual) const;

    /// Replaces what is kept of `client`, durably: `counted` is what the update was made from, `newest` is of a later
    /// round. Throws IoError.
    void save(std::uint32_t client, const Residual& counted, const Residual& newest) const;

private:
    std::filesystem::path file_of(std::uint32_t client) const;

    std::filesystem::path folder_;
    std::size_t parameters_;
};

}  // namespace dither
