// The body of a checkpoint file, field by field: cereal's portable binary archive, little-endian. Private to the
// aggregator; README.md has the bytes.
#pragma once

#include "aggregator/checkpoint.hpp"

#include <cstdint>
#include <string_view>

namespace dither {

/// As the version of today has it.
void write_checkpoint_body(const Checkpoint& checkpoint, const ByteSink& sink);
void write_checkpoint_body(const CheckpointView& checkpoint, const ByteSink& sink);
/// Of a file of `version`, 1 .. kCheckpointVersion. Throws FormatError on anything that is not exactly a body; what its
/// fields say is not looked at.
Checkpoint parse_checkpoint_body(std::string_view body, std::uint32_t version);

}  // namespace dither
