#include "core/data/dataset.hpp"

#include "core/error.hpp"
#include "core/simd.hpp"

#include <algorithm>
#include <utility>

namespace dither {
namespace {

DITHER_CLONES void normalize(const std::uint8_t* pixels, std::size_t count, float center, float factor, float* out) {
    for (std::size_t i = 0; i < count; ++i)
        out[i] = (static_cast<float>(pixels[i]) - center) * factor;
}

}  // namespace

Dataset::Dataset(const Shape& sample, std::vector<std::uint8_t> pixels, std::vector<std::int32_t> labels, int classes,
                 float mean, float deviation)
    : sample_(sample.with_batch(1)),
      size_(labels.size()),
      pixels_(std::move(pixels)),
      labels_(std::move(labels)),
      classes_(classes),
      outputs_(classes),
      center_(255 * mean),
      factor_(1 / (255 * deviation)) {
    require(classes > 0, "a set of labelled images has at least one class, not {}", classes);
    require(deviation > 0, "the deviation of the pixels is positive, not {}", deviation);
    require(pixels_.size() == size_ * static_cast<std::size_t>(sample_.count()),
            "{} samples of shape {} do not have {} pixels", size_, sample_.str(), pixels_.size());
}

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

void Dataset::gather(std::span<const std::uint32_t> indices, Batch& batch) const {
    const auto count = static_cast<std::int64_t>(indices.size());
    const auto width = static_cast<std::size_t>(sample_.count());
    const auto outputs = targets_.empty() ? std::size_t{0} : static_cast<std::size_t>(outputs_);
    batch.inputs.resize(sample_.with_batch(count));
    batch.targets.labels.resize(labels_.empty() ? 0 : indices.size());
    batch.targets.values.resize({targets_.empty() ? 0 : count, outputs_});
    for (std::size_t i = 0; i < indices.size(); ++i) {
        const std::size_t sample = indices[i];
        require(sample < size_, "sample {} of a set of {}", sample, size_);
        float* const input = batch.inputs.data() + i * width;
        if (pixels_.empty())
            std::copy_n(values_.data() + sample * width, width, input);
        else
            normalize(pixels_.data() + sample * width, width, center_, factor_, input);
        if (!labels_.empty())
            batch.targets.labels[i] = labels_[sample];
        std::copy_n(targets_.data() + sample * outputs, outputs, batch.targets.values.data() + i * outputs);
    }
}

}  // namespace dither
