// The body of a checkpoint file, field by field: cereal's portable binary archive, little-endian. Private to the
// aggregator; README.md has the bytes.
#pragma once

#include "aggregator/checkpoint.hpp"

#include <cstddef>
#include <cstdint>

namespace dither {

/// As the version of today has it.
void write_checkpoint_body(const Checkpoint& checkpoint, const ByteSink& sink);
void write_checkpoint_body(const CheckpointView& checkpoint, const ByteSink& sink);

/// The bytes that are read at a time.
inline constexpr std::size_t kPartBytes = std::size_t{1} << 20;

/// Of the `length` bytes from `begin` on, in a file of `version`, 1 .. kCheckpointVersion. Throws FormatError on
/// anything that is not exactly a body; what its fields say is not looked at.
Checkpoint parse_checkpoint_body(const PartReader& read, std::uint64_t begin, std::uint64_t length,
                                 std::uint32_t version);

}  // namespace dither
