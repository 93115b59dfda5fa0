#include "core/data/detail/groups.hpp"
#include "core/data/detail/readers.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace dither {

namespace {

using Reader = DataSplits (*)(const DataOptions&, std::uint32_t seed);

constexpr std::array kFormats{
    ChoiceRow<Reader>{"idx", "MNIST's four files, in the folder data.path", detail::load_idx},
    ChoiceRow<Reader>{"cifar", "the binary files of CIFAR-10 or CIFAR-100, in the folder data.path",
                      detail::load_cifar},
    ChoiceRow<Reader>{"csv", "a table of numbers, the file data.path", detail::load_csv},
    ChoiceRow<Reader>{"npy",
                      "NumPy's arrays train_x, train_y, test_x and test_y: .npy files in the folder data.path, or "
                      "the .npz file data.path",
                      detail::load_npy},
    ChoiceRow<Reader>{"libsvm", "lines of label index:value ...: train and test in the folder data.path, or the file",
                      detail::load_libsvm},
    ChoiceRow<Reader>{"images", "the folders train/CLASS and test/CLASS of image files in the folder data.path",
                      detail::load_images},
};

}  // namespace

std::vector<Choice> data_format_choices() {
    return choices_of(kFormats);
}

bool is_regression(const DataOptions& options) {
    constexpr std::array<std::string_view, 3> kTasks{"csv", "npy", "libsvm"};
    return options.task == "regression" && std::ranges::find(kTasks, options.format) != kTasks.end();
}

DataSplits load_data(const DataOptions& options, std::uint32_t seed) {
    DataSplits data = choose(kFormats, "data.format", options.format)(options, seed);
    if (options.augment != Augmentation::none && data.train.pixels().empty())
        throw InputError(
            fmt::format("data.augment: only images of bytes are augmented, and {} has none", options.path));
    return data;
}

DataSplits load_data_to_deal(const Job& job) {
    DataSplits data = load_data(job.data, job.job.seed);
    if (job.federation.partition.kind == "natural" && data.train.groups().empty())
        data.train = std::move(data.train).with_groups(detail::read_groups(job.data, data));
    return data;
}

void apply(const Preparation& preparation, DataOptions& options) {
    options.classes = preparation.classes;
    options.labels = preparation.labels;
    options.mean = preparation.mean;
    options.deviation = preparation.deviation;
}

namespace detail {

void check_preparation(const DataOptions& options, std::size_t inputs, std::string_view what) {
    if (!options.mean.empty() && options.mean.size() != inputs)
        throw InputError(fmt::format("data.mean: expected {} numbers, one for each {} of {}, found {}", inputs, what,
                                     options.path, options.mean.size()));
}

int count_classes(std::span<const std::int32_t> labels) {
    std::vector<bool> seen(labels.size() + 1);
    for (const std::int32_t label : labels)
        if (label >= 0 && static_cast<std::size_t>(label) < labels.size())
            seen[static_cast<std::size_t>(label)] = true;
    return static_cast<int>(std::find(seen.begin(), seen.end(), false) - seen.begin());
}

void fail_label(const std::string& place, std::int32_t label, int classes) {
    throw InputError(
        fmt::format("{}: label {} is out of range: expected 0 .. {}, since no sample of the set has label {}", place,
                    label, classes - 1, classes));
}

}  // namespace detail
}  // namespace dither
