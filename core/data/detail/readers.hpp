// The readers behind load_data, one for each format, and what they share.
#pragma once

#include "core/config.hpp"
#include "core/data/dataset.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace dither::detail {

/// MNIST's format: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte
/// in the folder options.path, each plain or with .gz; its splits are given, so the seed does not matter.
/// http://yann.lecun.com/exdb/mnist
DataSplits load_idx(const DataOptions& options, std::uint32_t seed);

/// CIFAR's binary version: data_batch_1.bin .. data_batch_5.bin, as many of them as there are, and test_batch.bin
/// (CIFAR-10), or train.bin and test.bin (CIFAR-100), each plain or with .gz, in the folder options.path or in the
/// subfolder that the archive unpacks to. CIFAR-100 has the labels "coarse" (20 classes) and "fine" (100, the last and
/// thereby the default). The splits are given, so the seed does not matter.
/// Krizhevsky, "Learning multiple layers of features from tiny images", 2009;
/// https://www.cs.toronto.edu/~kriz/cifar.html
DataSplits load_cifar(const DataOptions& options, std::uint32_t seed);

/// A table of numbers, one sample a line, comma-separated; a first line without any number is a header. The rows are
/// shuffled by the seed; the first test_fraction of them is the test split, the next `limit` ones train. Features are
/// standardized by the training split: (x - mean) / deviation, column by column. A feature that is empty, NA, NaN or ?
/// is missing, and becomes the mean of the training rows that have it. The column of the header that options.groups
/// names, if there is one, is no feature but says whose each sample is, in any text.
DataSplits load_csv(const DataOptions& options, std::uint32_t seed);

/// NumPy's arrays train_x, train_y, test_x and test_y, or x_train and so on, as .npy files (plain or with .gz) in the
/// folder options.path or as members of the .npz file of that name. x: [count, features] or [count, height, width] or
/// [count, height, width, channels]; bytes of the latter two stay bytes with up to 16 channels, everything else becomes
/// floats, standardized by feature or channel. y: [count] of integers, or, for regression, [count] or [count, outputs].
/// The splits are given, so the seed does not matter.
DataSplits load_npy(const DataOptions& options, std::uint32_t seed);

/// LIBSVM's sparse text, made dense: the files train and test in the folder options.path, or one file that is split as
/// a table is. There are as many features as the largest index says, or as options.mean has numbers. Labels are any
/// integers, those of options.labels or all that the training data has, ascending: -1 and 1 become 0 and 1. Features
/// are standardized. Chang and Lin, "LIBSVM: a library for support vector machines", 2011.
DataSplits load_libsvm(const DataOptions& options, std::uint32_t seed);

/// Image files (.png, .jpg, .jpeg, .bmp, .pgm, .ppm; others are ignored) of one size, all gray or all RGB, in the
/// folders train/CLASS and test/CLASS of options.path. Classes are options.labels, or all folders of train, sorted. A
/// split's order is the first file of each class by name, then the second of each, and so on.
DataSplits load_images(const DataOptions& options, std::uint32_t seed);

/// Throws InputError unless data.mean and data.deviation are absent or have one number for each of so many inputs.
void check_preparation(const DataOptions& options, std::size_t inputs, std::string_view what);

/// Labels are 0 .. classes - 1, each of which occurs: the number of classes is the first label that does not.
int count_classes(std::span<const std::int32_t> labels);

[[noreturn]] void fail_label(const std::string& place, std::int32_t label, int classes);

/// Throws InputError on the first label that is not in 0 .. classes - 1; place(i) says where label i stands.
template <typename Place>
void require_labels_below(std::span<const std::int32_t> labels, int classes, Place place) {
    for (std::size_t i = 0; i < labels.size(); ++i)
        if (labels[i] < 0 || labels[i] >= classes)
            fail_label(place(i), labels[i], classes);
}

}  // namespace dither::detail
