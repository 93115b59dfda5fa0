#include "core/data/detail/libsvm.hpp"
#include "core/data/detail/class_names.hpp"
#include "core/data/detail/readers.hpp"
#include "core/data/detail/tables.hpp"
#include "core/error.hpp"

#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <utility>

namespace dither::detail {
namespace {

/// Of one split, all zeros included: more than that is no work for dense layers.
constexpr std::uint64_t kMostValues = std::uint64_t{1} << 28;

SparseRows read_rows(const std::filesystem::path& path, std::size_t least) {
    std::ifstream file(path);
    if (!std::filesystem::is_regular_file(path) || !file)
        throw InputError(
            fmt::format("{}: expected a file in LIBSVM's format, and there is none to read", path.string()));
    SparseRows rows = parse_libsvm(file, path.string());
    if (rows.size() < least)
        throw InputError(fmt::format("{}: expected at least {} samples, found {}", rows.path, least, rows.size()));
    return rows;
}

std::vector<std::uint32_t> all_of(const SparseRows& rows) {
    std::vector<std::uint32_t> all(rows.size());
    std::iota(all.begin(), all.end(), 0U);
    return all;
}

std::int64_t to_label(double answer, const SparseRows& rows, std::size_t row) {
    constexpr double kMostLabel = std::int64_t{1} << 31;
    if (answer != std::floor(answer) || std::abs(answer) > kMostLabel)
        throw InputError(
            fmt::format("{}:{}: expected a label, an integer, found {}: other numbers are for data.task = "
                        "\"regression\"",
                        rows.path, rows.lines[row], answer));
    return static_cast<std::int64_t>(answer);
}

/// The classes of labels such as -1 and 1, or 1 to 10.
class Numbering {
public:
    Numbering(const DataOptions& options, const SparseRows& rows) {
        std::set<std::int64_t> labels;
        for (std::size_t row = 0; row < rows.size() && options.labels.empty(); ++row)
            labels.insert(to_label(rows.answers[row], rows, row));
        std::vector<std::string> found;
        for (const std::int64_t label : labels)
            found.push_back(std::to_string(label));
        names_ = class_names(options, found);
        for (const std::string& name : names_)
            if (!numbers_.emplace(parse(name), static_cast<std::int32_t>(numbers_.size())).second)
                throw InputError(fmt::format("data.labels: \"{}\" is a label that is there before", name));
    }

    const std::vector<std::string>& names() const { return names_; }

    std::int32_t number_of(const SparseRows& rows, std::size_t row) const {
        const auto found = numbers_.find(to_label(rows.answers[row], rows, row));
        if (found == numbers_.end())
            throw InputError(fmt::format("{}:{}: expected one of the labels {}, found {}", rows.path, rows.lines[row],
                                         fmt::join(names_, ", "), rows.answers[row]));
        return found->second;
    }

private:
    static std::int64_t parse(const std::string& name) {
        std::int64_t label = 0;
        const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), label);
        if (error != std::errc{} || end != name.data() + name.size())
            throw InputError(
                fmt::format("data.labels: expected integers, as LIBSVM's format has them, found \"{}\"", name));
        return label;
    }

    std::vector<std::string> names_;
    std::map<std::int64_t, std::int32_t> numbers_;
};

std::size_t width_of(const SparseRows& train, const SparseRows& test, const DataOptions& options) {
    const std::size_t width = std::max(train.width, test.width);
    if (width == 0)
        throw InputError(fmt::format("{}: expected at least one index:value", train.path));
    if (options.mean.empty())
        return width;
    if (width > options.mean.size())
        throw InputError(fmt::format("data.mean: expected {} numbers, one for each feature of {}, found {}", width,
                                     options.path, options.mean.size()));
    return options.mean.size();
}

/// What is not written is 0.
Numbers<double> gather(const SparseRows& rows, std::span<const std::uint32_t> chosen, std::size_t width,
                       const Numbering* numbering) {
    if (chosen.size() > kMostValues / width)
        throw InputError(
            fmt::format("{}: {} samples of {} features are more than 2^28 values", rows.path, chosen.size(), width));
    Numbers<double> numbers{.sample = {1, static_cast<std::int64_t>(width)}, .values = {}, .labels = {}, .targets = {}};
    numbers.values.resize(chosen.size() * width);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
        const std::size_t row = chosen[i];
        for (std::size_t entry = row == 0 ? 0 : rows.ends[row - 1]; entry < rows.ends[row]; ++entry)
            numbers.values[i * width + rows.features[entry]] = rows.values[entry];
        if (numbering != nullptr)
            numbers.labels.push_back(numbering->number_of(rows, row));
        else
            numbers.targets.push_back(static_cast<float>(rows.answers[row]));
    }
    return numbers;
}

}  // namespace

DataSplits load_libsvm(const DataOptions& options, std::uint32_t seed) {
    const bool is_split = std::filesystem::is_directory(options.path);
    const std::filesystem::path path = options.path;
    const SparseRows first = read_rows(is_split ? path / "train" : path, is_split ? 1 : 2);
    const SparseRows second = is_split ? read_rows(path / "test", 1) : SparseRows{};
    const SparseRows& test = is_split ? second : first;
    Rows rows = is_split ? Rows{all_of(first), all_of(second)} : split_rows(first.size(), options, seed);

    std::optional<Numbering> numbering;
    if (!is_regression(options))
        numbering.emplace(options, first);
    const int classes = numbering ? std::max(options.classes, static_cast<int>(numbering->names().size())) : 0;
    const std::size_t width = width_of(first, test, options);
    DataSplits splits = standardize_splits(gather(first, rows.train, width, numbering ? &*numbering : nullptr),
                                           gather(test, rows.test, width, numbering ? &*numbering : nullptr), classes,
                                           numbering ? classes : 1, options);
    if (numbering)
        splits.preparation.labels = numbering->names();
    rows.train.resize(splits.train.size());
    splits.origin = {.count = first.size(), .rows = is_split ? std::vector<std::uint32_t>{} : std::move(rows.train)};
    return splits;
}

}  // namespace dither::detail
