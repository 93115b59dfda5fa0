#include "core/data/detail/images.hpp"

#include <cmath>
#include <utility>

namespace dither::detail {
namespace {

/// Of pixel / 255, from sums of integers, which are exact.
ChannelScaling measure_channel(const LabelledImages& images, std::size_t channel) {
    const auto channels = static_cast<std::size_t>(images.sample[3]);
    std::uint64_t sum = 0;
    std::uint64_t squares = 0;
    for (std::size_t i = channel; i < images.pixels.size(); i += channels) {
        const std::uint64_t pixel = images.pixels[i];
        sum += pixel;
        squares += pixel * pixel;
    }
    const auto count = static_cast<double>(images.pixels.size() / channels);
    const double mean = static_cast<double>(sum) / count;
    const double variance = static_cast<double>(squares) / count - mean * mean;
    return {static_cast<float>(mean / 255), static_cast<float>(variance > 0 ? std::sqrt(variance) / 255 : 1)};
}

Dataset to_dataset(LabelledImages images, int classes, std::span<const ChannelScaling> scaling) {
    return {images.sample, std::move(images.pixels), std::move(images.labels), classes, scaling};
}

}  // namespace

DataSplits normalize_splits(LabelledImages train, LabelledImages test, int classes, std::uint64_t limit) {
    if (limit > 0 && limit < train.labels.size()) {
        train.labels.resize(limit);
        train.pixels.resize(limit * static_cast<std::size_t>(train.sample.count()));
    }
    std::vector<ChannelScaling> scaling;
    for (std::int64_t channel = 0; channel < train.sample[3]; ++channel)
        scaling.push_back(measure_channel(train, static_cast<std::size_t>(channel)));
    return {to_dataset(std::move(train), classes, scaling), to_dataset(std::move(test), classes, scaling)};
}

}  // namespace dither::detail
