#include "core/data/detail/readers.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <vector>

namespace dither {

namespace {

using Reader = DataSplits (*)(const DataOptions&, std::uint32_t seed);

constexpr std::array kFormats{
    ChoiceRow<Reader>{"idx", "MNIST's four files, in the folder data.path", detail::load_idx},
    ChoiceRow<Reader>{"cifar", "the binary files of CIFAR-10 or CIFAR-100, in the folder data.path",
                      detail::load_cifar},
    ChoiceRow<Reader>{"csv", "a table of numbers, the file data.path", detail::load_csv},
};

}  // namespace

std::vector<Choice> data_format_choices() {
    return choices_of(kFormats);
}

DataSplits load_data(const DataOptions& options, std::uint32_t seed) {
    return choose(kFormats, "data.format", options.format)(options, seed);
}

void apply(const Preparation& preparation, DataOptions& options) {
    options.classes = preparation.classes;
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
