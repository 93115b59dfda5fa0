#include "core/data/detail/images.hpp"

#include "core/data/detail/readers.hpp"

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

DataSplits normalize_splits(LabelledImages train, LabelledImages test, int classes, const DataOptions& options) {
    const Origin origin{.count = train.labels.size(), .rows = {}};
    if (options.limit > 0 && options.limit < train.labels.size()) {
        train.labels.resize(options.limit);
        train.pixels.resize(options.limit * static_cast<std::size_t>(train.sample.count()));
    }
    const auto channels = static_cast<std::size_t>(train.sample[3]);
    check_preparation(options, channels, "channel");
    std::vector<ChannelScaling> scaling;
    Preparation preparation{.classes = classes};
    for (std::size_t channel = 0; channel < channels; ++channel) {
        scaling.push_back(options.mean.empty() ? measure_channel(train, channel)
                                               : ChannelScaling{static_cast<float>(options.mean[channel]),
                                                                static_cast<float>(options.deviation[channel])});
        preparation.mean.push_back(static_cast<double>(scaling.back().mean));
        preparation.deviation.push_back(static_cast<double>(scaling.back().deviation));
    }
    return {.train = to_dataset(std::move(train), classes, scaling),
            .test = to_dataset(std::move(test), classes, scaling),
            .preparation = std::move(preparation),
            .origin = origin,
            .notes = {}};
}

}  // namespace dither::detail
