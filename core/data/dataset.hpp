// Labelled samples in memory, and batches gathered from them by index.
#pragma once

#include "core/choice.hpp"
#include "core/data/augmentation.hpp"
#include "core/rng.hpp"
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
    std::vector<std::uint8_t> varied;  ///< room for one image that gather augments
};

/// How a channel's pixels become inputs: (pixel / 255 - mean) / deviation.
struct ChannelScaling {
    float mean = 0;
    float deviation = 1;

    bool operator==(const ChannelScaling&) const = default;
};

/// Immutable after loading; may be shared by threads. Images stay bytes and are normalized as they are gathered.
class Dataset {
public:
    /// Bytes, for images. sample: one item's shape with batch extent 1; pixels: [count, ...]; labels: [count]; scaling:
    /// one for each channel, the innermost extent of the sample, or one for all.
    Dataset(const Shape& sample, std::vector<std::uint8_t> pixels, std::vector<std::int32_t> labels, int classes,
            std::span<const ChannelScaling> scaling);
    /// The same mean and deviation for every channel.
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
    /// [count], whose each sample is: 0 .. groups - 1 in the order of first appearance; empty where nobody asked.
    std::span<const std::uint32_t> groups() const { return groups_; }
    /// Of the targets around each output's mean, the mean over samples and outputs; 0 for classification.
    double target_variance() const;
    std::span<const std::uint8_t> pixels() const { return pixels_; }      ///< [count, ...] of images, empty for a table
    std::span<const ChannelScaling> scaling() const { return scaling_; }  ///< of images, as constructed

    /// The first `count` samples, or all where there are fewer.
    Dataset first(std::size_t count) const;
    /// The same samples, normalized the same way, with other pixels: as many as these images have.
    Dataset with_pixels(std::vector<std::uint8_t> pixels) const;
    /// The same samples, which belong to groups: one for each, or none at all.
    Dataset with_groups(std::vector<std::uint32_t> groups) &&;

    /// Fills `batch` with the samples at `indices`; its buffers only ever grow.
    void gather(std::span<const std::uint32_t> indices, Batch& batch) const;
    /// The same with images varied at random: the variation of position i is drawn from word i of the stream `key` with
    /// Purpose::augmentation, so it depends on seed, client, round, step and place in the batch alone. Anything but
    /// Augmentation::none needs images of bytes, [1, height, width, channels].
    void gather(std::span<const std::uint32_t> indices, Batch& batch, Augmentation augmentation,
                const StreamKey& key) const;

private:
    /// Everything of a batch but the values of its inputs.
    void prepare(std::span<const std::uint32_t> indices, Batch& batch) const;
    /// vary(image) says where the pixels are that stand for those of `image`.
    template <typename Vary>
    void normalize_images(std::span<const std::uint32_t> indices, Batch& batch, Vary vary) const;

    Shape sample_;
    std::size_t size_ = 0;
    std::vector<std::uint8_t> pixels_;
    std::vector<float> values_;
    std::vector<std::int32_t> labels_;
    std::vector<std::uint32_t> groups_;
    std::vector<float> targets_;
    int classes_ = 0;
    int outputs_ = 0;
    std::vector<ChannelScaling> scaling_;
    /// normalized[i] = (pixel[i] - centers_[i % size]) * factors_[i % size]: a channel's numbers repeated for some
    /// pixels
    std::vector<float> centers_;
    std::vector<float> factors_;
};

struct DataOptions;
struct Job;

/// Whether samples have targets: data.task = "regression" of a format that knows tasks.
bool is_regression(const DataOptions& options);

/// How labels and inputs were read: as data.classes, data.labels, data.mean and data.deviation of DataOptions say, or,
/// where these are not given, as the training split decided. With it in its DataOptions other data is read the same
/// way.
struct Preparation {
    int classes = 0;                  ///< 0 for regression
    std::vector<std::string> labels;  ///< of images and libsvm those that are there, else empty
    std::vector<double> mean;         ///< [channels] or [features]
    std::vector<double> deviation;    ///< likewise

    bool operator==(const Preparation&) const = default;
};
void apply(const Preparation& preparation, DataOptions& options);

/// Where the training samples stand in their files.
struct Origin {
    std::size_t count = 0;            ///< samples there, before data.limit; of what the seed split, all of them
    std::vector<std::uint32_t> rows;  ///< [train]; empty: the first ones, in their order
};

/// The training and the test split of a job. To add a format: one file in core/data/, its declaration in
/// core/data/detail/readers.hpp, its row in the table of load.cpp and its line in CMake.
struct DataSplits {
    Dataset train;
    Dataset test;
    Preparation preparation;
    Origin origin;
    std::vector<std::string> notes;  ///< what a reader did to the data that its user should know, a line each
};

/// Throws InputError that names the file and what was expected: missing, truncated, wrong magic, label out of range.
/// Reads no file of data.groups.
DataSplits load_data(const DataOptions& options, std::uint32_t seed);
/// The same for a program that deals the training set to clients: for the partition natural its samples have groups,
/// those of the column or the file data.groups. A file whose lines are not as many as the samples is an InputError.
DataSplits load_data_to_deal(const Job& job);
std::vector<Choice> data_format_choices();

}  // namespace dither
