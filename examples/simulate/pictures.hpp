// The pictures of a run, drawn by gnuplot from rounds.jsonl: accuracy.png (accuracy and loss over the rounds),
// precision.png (bits of each layer in each round, forward and backward; 2 = blue to 32 = red) and precision_why.png
// (the gradient's norm and the mean bits over the rounds).
#pragma once

#include <filesystem>
#include <string>

namespace dither {

/// Draws them into `folder`, which holds a run's rounds.jsonl. Returns a sentence that says why not if gnuplot is not
/// installed or fails; empty on success. Throws FormatError if rounds.jsonl cannot be read.
std::string draw_pictures(const std::filesystem::path& folder);

}  // namespace dither
