// Labelled samples in memory, and batches gathered from them by index.
#pragma once

#include "core/choice.hpp"
#include "core/tensor.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dither {

/// What a batch's samples should give: class labels, or rows of regression targets; the other one is empty.
struct Targets {
    std::vector<std::int32_t> labels;  ///< [batch], 0 .. classes - 1
    Tensor values;                     ///< [batch, outputs]
};

struct Batch {
    Tensor inputs;  ///< [batch, ...sample shape]
    Targets targets;
};

/// Immutable after loading; may be shared by threads. Images stay bytes and are normalized as they are gathered:
/// (pixel / 255 - mean) / deviation, with one mean and deviation of the training set.
class Dataset {
public:
    /// Bytes, for images. sample: one item's shape with batch extent 1; pixels: [count, ...]; labels: [count].
    Dataset(const Shape& sample, std::vector<std::uint8_t> pixels, std::vector<std::int32_t> labels, int classes,
            float mean, float deviation);
    /// Floats, for tables; used as they are. Either labels with classes > 0 or targets: [count, outputs].
    Dataset(const Shape& sample, std::vector<float> values, std::vector<std::int32_t> labels, int classes,
            std::vector<float> targets, int outputs);

    std::size_t size() const { return size_; }
    const Shape& sample_shape() const { return sample_; }
    int classes() const { return classes_; }  ///< 0 for regression
    int outputs() const { return outputs_; }  ///< width of the network's last layer
    std::span<const std::int32_t> labels() const { return labels_; }

    /// Fills `batch` with the samples at `indices`; its buffers only ever grow.
    void gather(std::span<const std::uint32_t> indices, Batch& batch) const;

private:
    Shape sample_;
    std::size_t size_ = 0;
    std::vector<std::uint8_t> pixels_;
    std::vector<float> values_;
    std::vector<std::int32_t> labels_;
    std::vector<float> targets_;
    int classes_ = 0;
    int outputs_ = 0;
    float center_ = 0;  ///< normalized = (pixel - center_) * factor_
    float factor_ = 1;
};

struct DataOptions;

/// The training and the test split of a job. To add a format: one file in core/data/, its declaration in
/// core/data/detail/readers.hpp, its row in the table of load.cpp and its line in CMake.
struct DataSplits {
    Dataset train;
    Dataset test;
};

/// Throws InputError that names the file and what was expected: missing, truncated, wrong magic, label out of range.
DataSplits load_data(const DataOptions& options, std::uint32_t seed);
std::vector<Choice> data_format_choices();

}  // namespace dither
