// Test images that a camera or its owner spoilt: what a model meets after it was trained on clean ones.
//
// After Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations",
// ICLR 2019, with the severities of its data set of small images (CIFAR-10-C); shift is added. v is a pixel in 0..1, c
// its image's mean over the channel, and results are clipped to 0..1 and rounded to the nearest byte:
//
//     severity                                               1     2     3     4     5
//     gaussian_noise   v + s N(0, 1)                    s  0.04  0.06  0.08  0.09  0.10
//     blur             Gaussian of s pixels             s  0.4   0.6   0.7   0.8   1.0
//     contrast         (v - c) s + c                    s  0.75  0.5   0.4   0.3   0.15
//     brightness       v + s                            s  0.05  0.1   0.15  0.2   0.3
//     shift            moved by s pixels                s  1     2     3     4     5
//
// The blur's kernel ends at 4 s and meets repeated edge pixels. Brightness moves every channel alike, not the value of
// HSV. A shift goes in one of the 8 directions of the compass (s pixels along each axis that it moves on), and black
// follows from beyond the edge.
#pragma once

#include "core/choice.hpp"
#include "core/data/dataset.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dither {

enum class CorruptionKind : std::uint8_t { gaussian_noise, blur, contrast, brightness, shift };

/// In the order of the enumeration.
std::vector<Choice> corruption_choices();

inline constexpr int kMostSeverity = 5;

struct Corruption {
    CorruptionKind kind = CorruptionKind::gaussian_noise;
    int severity = 1;  ///< 1 .. kMostSeverity

    bool operator==(const Corruption&) const = default;
};

/// "blur"
std::string_view name_of(CorruptionKind kind);
/// "blur=3"
std::string to_string(const Corruption& corruption);
/// The inverse; "all=3" is every kind. Throws InputError that says what was expected.
std::vector<Corruption> parse_corruption(std::string_view text);

/// The images of `data`, corrupted. What is random about image i comes from the streams (seed, Purpose::corruption,
/// step i), lane 0 for noise and lane 1 for directions, at every severity the same. Throws InputError where `data` has
/// no images of bytes, [1, height, width, channels], and on a severity out of range.
Dataset corrupt(const Dataset& data, const Corruption& corruption, std::uint32_t seed);

}  // namespace dither
