#include "core/data/dataset.hpp"

#include "core/data/detail/crop_flip.hpp"
#include "core/error.hpp"
#include "core/simd.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace dither {
namespace {

/// Pixels whose centers and factors are laid out, so that the loop over them is the same for any number of channels.
constexpr std::size_t kRun = 64;

/// out[i] = (pixels[i] - centers[i % period]) * factors[i % period]
DITHER_CLONES void normalize(const std::uint8_t* __restrict pixels, std::size_t count, const float* __restrict centers,
                             const float* __restrict factors, std::size_t period, float* __restrict out) {
    for (std::size_t begin = 0; begin < count; begin += period) {
        const std::size_t end = std::min(period, count - begin);
        for (std::size_t i = 0; i < end; ++i)
            out[begin + i] = (static_cast<float>(pixels[begin + i]) - centers[i]) * factors[i];
    }
}

/// The samples of a batch lie anywhere in the set; asking for the next one early hides the way to memory.
void prefetch(const std::uint8_t* pixels, std::size_t count) {
    constexpr std::size_t kCacheLine = 64;
    for (std::size_t i = 0; i < count; i += kCacheLine)
        __builtin_prefetch(pixels + i);
}

}  // namespace

Dataset::Dataset(const Shape& sample, std::vector<std::uint8_t> pixels, std::vector<std::int32_t> labels, int classes,
                 std::span<const ChannelScaling> scaling)
    : sample_(sample.with_batch(1)),
      size_(labels.size()),
      pixels_(std::move(pixels)),
      labels_(std::move(labels)),
      classes_(classes),
      outputs_(classes),
      scaling_(scaling.begin(), scaling.end()) {
    require(classes > 0, "a set of labelled images has at least one class, not {}", classes);
    const std::size_t channels = scaling.size();
    require(channels == 1 || (channels > 1 && sample_[sample_.rank() - 1] == static_cast<std::int64_t>(channels)),
            "means and deviations of {} channels for samples of shape {}", channels, sample_.str());
    require(pixels_.size() == size_ * static_cast<std::size_t>(sample_.count()),
            "{} samples of shape {} do not have {} pixels", size_, sample_.str(), pixels_.size());
    for (std::size_t i = 0; i < kRun * channels; ++i) {
        const auto [mean, deviation] = scaling[i % channels];
        require(deviation > 0, "the deviation of the pixels is positive, not {}", deviation);
        centers_.push_back(255 * mean);
        factors_.push_back(1 / (255 * deviation));
    }
}

Dataset::Dataset(const Shape& sample, std::vector<std::uint8_t> pixels, std::vector<std::int32_t> labels, int classes,
                 float mean, float deviation)
    : Dataset(sample, std::move(pixels), std::move(labels), classes, std::array{ChannelScaling{mean, deviation}}) {}

Dataset::Dataset(const Shape& sample, std::vector<float> values, std::vector<std::int32_t> labels, int classes,
                 std::vector<float> targets, int outputs)
    : sample_(sample.with_batch(1)),
      values_(std::move(values)),
      labels_(std::move(labels)),
      targets_(std::move(targets)),
      classes_(classes),
      outputs_(outputs) {
    require(outputs > 0, "a sample has at least one output, not {}", outputs);
    require((classes > 0) == targets_.empty(), "samples have either labels of classes or targets, not both");
    size_ = classes > 0 ? labels_.size() : targets_.size() / static_cast<std::size_t>(outputs);
    require(classes > 0 || (labels_.empty() && targets_.size() == size_ * static_cast<std::size_t>(outputs)),
            "{} targets are not whole rows of {} outputs", targets_.size(), outputs);
    require(values_.size() == size_ * static_cast<std::size_t>(sample_.count()),
            "{} samples of shape {} do not have {} values", size_, sample_.str(), values_.size());
}

Dataset Dataset::first(std::size_t count) const {
    Dataset part = *this;
    part.size_ = std::min(count, size_);
    const std::size_t width = part.size_ * static_cast<std::size_t>(sample_.count());
    const auto keep = [](auto& values, std::size_t most) { values.resize(std::min(values.size(), most)); };
    keep(part.pixels_, width);
    keep(part.values_, width);
    keep(part.labels_, part.size_);
    keep(part.groups_, part.size_);
    keep(part.targets_, part.size_ * static_cast<std::size_t>(outputs_));
    return part;
}

double Dataset::target_variance() const {
    const auto outputs = static_cast<std::size_t>(outputs_);
    double squares = 0;
    for (std::size_t k = 0; k < outputs && !targets_.empty(); ++k) {
        double sum = 0;
        for (std::size_t i = k; i < targets_.size(); i += outputs)
            sum += targets_[i];
        const double mean = sum / static_cast<double>(size_);
        for (std::size_t i = k; i < targets_.size(); i += outputs)
            squares += (targets_[i] - mean) * (targets_[i] - mean);
    }
    return targets_.empty() ? 0 : squares / static_cast<double>(targets_.size());
}

Dataset Dataset::with_pixels(std::vector<std::uint8_t> pixels) const {
    require(pixels.size() == pixels_.size() && !pixels.empty(), "{} pixels for images of {}", pixels.size(),
            pixels_.size());
    Dataset other = *this;
    other.pixels_ = std::move(pixels);
    return other;
}

Dataset Dataset::with_groups(std::vector<std::uint32_t> groups) && {
    require(groups.empty() || groups.size() == size_, "{} groups for {} samples", groups.size(), size_);
    groups_ = std::move(groups);
    return std::move(*this);
}

void Dataset::prepare(std::span<const std::uint32_t> indices, Batch& batch) const {
    const auto count = static_cast<std::int64_t>(indices.size());
    const auto outputs = targets_.empty() ? std::size_t{0} : static_cast<std::size_t>(outputs_);
    batch.inputs.resize(sample_.with_batch(count));
    batch.targets.labels.resize(labels_.empty() ? 0 : indices.size());
    batch.targets.values.resize({targets_.empty() ? 0 : count, outputs_});
    for (std::size_t i = 0; i < indices.size(); ++i) {
        const std::size_t sample = indices[i];
        require(sample < size_, "sample {} of a set of {}", sample, size_);
        if (!labels_.empty())
            batch.targets.labels[i] = labels_[sample];
        std::copy_n(targets_.data() + sample * outputs, outputs, batch.targets.values.data() + i * outputs);
    }
}

template <typename Vary>
void Dataset::normalize_images(std::span<const std::uint32_t> indices, Batch& batch, Vary vary) const {
    const auto width = static_cast<std::size_t>(sample_.count());
    for (std::size_t i = 0; i < indices.size(); ++i) {
        if (i + 1 < indices.size())
            prefetch(pixels_.data() + indices[i + 1] * width, width);
        const std::uint8_t* const image = vary(pixels_.data() + indices[i] * width);
        normalize(image, width, centers_.data(), factors_.data(), centers_.size(), batch.inputs.data() + i * width);
    }
}

void Dataset::gather(std::span<const std::uint32_t> indices, Batch& batch) const {
    prepare(indices, batch);
    if (!pixels_.empty())
        return normalize_images(indices, batch, [](const std::uint8_t* image) { return image; });
    const auto width = static_cast<std::size_t>(sample_.count());
    for (std::size_t i = 0; i < indices.size(); ++i)
        std::copy_n(values_.data() + indices[i] * width, width, batch.inputs.data() + i * width);
}

void Dataset::gather(std::span<const std::uint32_t> indices, Batch& batch, Augmentation augmentation,
                     const StreamKey& key) const {
    if (augmentation == Augmentation::none)
        return gather(indices, batch);
    require(!pixels_.empty() && sample_.rank() == 4, "augmentation is for images, not for samples of shape {}",
            sample_.str());
    prepare(indices, batch);
    batch.varied.resize(static_cast<std::size_t>(sample_.count()));
    Stream stream(key.with(Purpose::augmentation));
    normalize_images(indices, batch, [&](const std::uint8_t* image) {
        detail::crop_flip({sample_[1], sample_[2], sample_[3]}, image, detail::draw_crop_flip(stream()),
                          batch.varied.data());
        return batch.varied.data();
    });
}

}  // namespace dither
