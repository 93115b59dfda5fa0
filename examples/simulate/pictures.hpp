// The two pictures of a run, drawn by gnuplot from rounds.jsonl: accuracy.png (accuracy and loss over the rounds) and
// precision.png (bits of each layer in each round, forward and backward; 4 = blue to 32 = red).
#pragma once

#include <filesystem>
#include <string>

namespace dither {

/// Draws both into `folder`, which holds a run's rounds.jsonl. Returns a sentence that says why not if gnuplot is not
/// installed or fails; empty on success. Throws FormatError if rounds.jsonl cannot be read.
std::string draw_pictures(const std::filesystem::path& folder);

}  // namespace dither
