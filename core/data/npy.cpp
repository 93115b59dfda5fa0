#include "core/data/detail/npy.hpp"

#include "core/data/detail/images.hpp"
#include "core/data/detail/readers.hpp"
#include "core/data/detail/tables.hpp"
#include "core/error.hpp"
#include "core/little_endian.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string_view>
#include <utility>

namespace dither::detail {
namespace {

constexpr std::int64_t kMostOutputs = 1 << 20;  // of a row of targets
constexpr std::int64_t kMostChannels = 16;      // of an image

class Folder final : public NpyArchive {
public:
    explicit Folder(std::string path) : path_(std::move(path)) {}

    std::optional<NpyArray> find(const std::string& name) override {
        const std::optional<std::string> path = find_plain_or_gz(path_, name + ".npy");
        if (!path)
            return std::nullopt;
        BinaryFile file(*path);
        return read_npy(file);
    }

private:
    std::string path_;
};

std::unique_ptr<NpyArchive> open_archive(const std::string& path) {
    if (std::filesystem::is_directory(path))
        return std::make_unique<Folder>(path);
    if (!std::filesystem::is_regular_file(path))
        throw InputError(fmt::format("{}: expected a folder of .npy files or a .npz file, and there is neither", path));
    return open_npz(path);
}

/// Either "train_x" or, as Keras calls it, "x_train".
NpyArray read_array(NpyArchive& archive, const std::string& path, std::string_view split, std::string_view letter) {
    const std::string ours = fmt::format("{}_{}", split, letter);
    const std::string keras = fmt::format("{}_{}", letter, split);
    for (const std::string& name : {ours, keras})
        if (std::optional<NpyArray> array = archive.find(name))
            return std::move(*array);
    throw InputError(fmt::format("{}: expected {}.npy or {}.npy, found neither", path, ours, keras));
}

template <typename Stored, typename Value>
std::vector<Value> convert(const NpyArray& array) {
    std::vector<Value> values(array.bytes.size() / sizeof(Stored));
    const std::byte* const bytes = std::as_bytes(std::span(array.bytes)).data();
    for (std::size_t i = 0; i < values.size(); ++i) {
        const auto stored = load_little<Stored>(bytes + i * sizeof(Stored));
        if constexpr (std::is_floating_point_v<Stored>)
            if (!(std::abs(stored) <= static_cast<Stored>(std::numeric_limits<Value>::max())))
                throw InputError(fmt::format("{}: sample {}: expected finite numbers, found {}", array.path,
                                             i / (values.size() / array.item_count()), stored));
        values[i] = static_cast<Value>(stored);
    }
    return values;
}

template <typename Value>
std::vector<Value> values_of(const NpyArray& array) {
    switch (array.type) {
        case NpyType::u1:
            return convert<std::uint8_t, Value>(array);
        case NpyType::i4:
            return convert<std::int32_t, Value>(array);
        case NpyType::i8:
            return convert<std::int64_t, Value>(array);
        case NpyType::f4:
            return convert<float, Value>(array);
        case NpyType::f8:
            break;
    }
    return convert<double, Value>(array);
}

std::vector<std::int32_t> read_labels(const NpyArray& array) {
    if (array.type == NpyType::f4 || array.type == NpyType::f8)
        throw InputError(
            fmt::format("{}: expected integers, the labels of classes, found floats: those are for "
                        "data.task = \"regression\"",
                        array.path));
    std::vector<std::int32_t> labels;
    for (const std::int64_t label : values_of<std::int64_t>(array)) {
        if (label < 0 || label > std::numeric_limits<std::int32_t>::max())
            throw InputError(fmt::format("{}: sample {}: expected a label, an integer >= 0, found {}", array.path,
                                         labels.size(), label));
        labels.push_back(static_cast<std::int32_t>(label));
    }
    return labels;
}

struct Split {
    NpyArray inputs;
    std::string answers_path;
    std::vector<std::int32_t> labels;  ///< of classification
    std::vector<float> targets;        ///< [count, outputs], of regression
    int outputs = 0;
};

/// [n, features], [n, height, width] of one channel or [n, height, width, channels].
Shape sample_of(const NpyArray& inputs) {
    const auto& extents = inputs.extents;
    switch (extents.size()) {
        case 2:
            return {1, extents[1]};
        case 3:
            return {1, extents[1], extents[2], 1};
        case 4:
            return {1, extents[1], extents[2], extents[3]};
        default:
            throw InputError(
                fmt::format("{}: expected 2 to 4 extents, [samples, features] or [samples, height, width, "
                            "channels], found {}",
                            inputs.path, extents.size()));
    }
}

Split read_split(NpyArchive& archive, const DataOptions& options, std::string_view name) {
    Split split{.inputs = read_array(archive, options.path, name, "x")};
    const NpyArray answers = read_array(archive, options.path, name, "y");
    const std::size_t count = split.inputs.item_count();
    if (answers.item_count() != count)
        throw InputError(fmt::format("{}: expected {} answers, one for each sample of {}, found {}", answers.path,
                                     count, split.inputs.path, answers.item_count()));
    const std::int64_t width = answers.extents.size() == 1 ? 1 : answers.extents[1];
    if (answers.extents.size() > 2 || width > (is_regression(options) ? kMostOutputs : 1))
        throw InputError(fmt::format("{}: expected [samples]{}, found ({})", answers.path,
                                     is_regression(options) ? " or [samples, outputs]" : "",
                                     fmt::join(answers.extents, ", ")));
    split.answers_path = answers.path;
    split.outputs = static_cast<int>(width);
    if (is_regression(options))
        split.targets = values_of<float>(answers);
    else
        split.labels = read_labels(answers);
    return split;
}

void require_same_shapes(const Split& train, const Split& test) {
    if (sample_of(test.inputs) != sample_of(train.inputs) || test.outputs != train.outputs)
        throw InputError(fmt::format("{}: samples of shape {} with {} answers, but those of {} have {} with {}",
                                     test.inputs.path, sample_of(test.inputs).str(), test.outputs, train.inputs.path,
                                     sample_of(train.inputs).str(), train.outputs));
}

bool is_image(const Split& split) {
    const Shape sample = sample_of(split.inputs);
    return split.inputs.type == NpyType::u1 && sample.rank() == 4 && sample[3] <= kMostChannels &&
           split.targets.empty();
}

LabelledImages to_images(Split split) {
    return {sample_of(split.inputs), std::move(split.inputs.bytes), std::move(split.labels)};
}

template <typename Value>
Numbers<Value> to_numbers(Split split) {
    return {sample_of(split.inputs), values_of<Value>(split.inputs), std::move(split.labels), std::move(split.targets)};
}

template <typename Value>
DataSplits standardize(Split train, Split test, int classes, const DataOptions& options) {
    const int outputs = classes > 0 ? classes : train.outputs;
    // In a statement of their own, after which the files' bytes are gone.
    Numbers<Value> train_numbers = to_numbers<Value>(std::move(train));
    Numbers<Value> test_numbers = to_numbers<Value>(std::move(test));
    return standardize_splits(std::move(train_numbers), std::move(test_numbers), classes, outputs, options);
}

/// Neither a byte nor a float of 4 bytes loses anything as a float.
bool fits_float(const Split& split) {
    return split.inputs.type == NpyType::u1 || split.inputs.type == NpyType::f4;
}

int classes_of(const Split& train, const Split& test, const DataOptions& options) {
    const int classes = options.classes > 0 ? options.classes : count_classes(train.labels);
    for (const Split* split : {&train, &test})
        require_labels_below(split->labels, classes,
                             [&](std::size_t i) { return fmt::format("{}: sample {}", split->answers_path, i); });
    return classes;
}

}  // namespace

DataSplits load_npy(const DataOptions& options, std::uint32_t /*seed*/) {
    const auto archive = open_archive(options.path);
    Split train = read_split(*archive, options, "train");
    Split test = read_split(*archive, options, "test");
    require_same_shapes(train, test);
    const int classes = is_regression(options) ? 0 : classes_of(train, test, options);
    if (is_image(train) && is_image(test))
        return normalize_splits(to_images(std::move(train)), to_images(std::move(test)), classes, options);
    if (fits_float(train) && fits_float(test))
        return standardize<float>(std::move(train), std::move(test), classes, options);
    return standardize<double>(std::move(train), std::move(test), classes, options);
}

}  // namespace dither::detail
