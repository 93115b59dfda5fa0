#include "core/data/detail/tables.hpp"

#include "core/data/detail/readers.hpp"
#include "core/error.hpp"
#include "core/rng.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace dither::detail {
namespace {

/// Tells the stream that splits the rows from the one that deals the training set to clients.
constexpr std::uint32_t kSplitLane = 1;

std::size_t inputs_of(const Shape& sample) {
    return static_cast<std::size_t>(sample[sample.rank() - 1]);
}

template <typename Value>
void keep_first(Numbers<Value>& numbers, std::size_t count, std::size_t outputs) {
    numbers.values.resize(count * static_cast<std::size_t>(numbers.sample.count()));
    numbers.labels.resize(std::min(numbers.labels.size(), count));
    numbers.targets.resize(std::min(numbers.targets.size(), count * outputs));
}

/// Adds term(value, input) up for each input, in the order of the samples.
template <typename Value, typename Term>
std::vector<double> means_of(const std::vector<Value>& values, std::size_t inputs, Term term) {
    std::vector<double> sums(inputs);
    for (std::size_t start = 0; start < values.size(); start += inputs)
        for (std::size_t i = 0; i < inputs; ++i)
            sums[i] += term(static_cast<double>(values[start + i]), i);
    for (double& sum : sums)
        sum /= static_cast<double>(values.size() / inputs);
    return sums;
}

/// Rounding can put the mean of equal values beside them, and their deviation would not be 0.
template <typename Value>
void keep_within_values(const Numbers<Value>& train, std::vector<double>& means) {
    const std::size_t inputs = means.size();
    for (std::size_t i = 0; i < inputs; ++i) {
        auto low = static_cast<double>(train.values[i]), high = low;
        for (std::size_t at = i; at < train.values.size(); at += inputs) {
            low = std::min(low, static_cast<double>(train.values[at]));
            high = std::max(high, static_cast<double>(train.values[at]));
        }
        means[i] = std::clamp(means[i], low, high);
    }
}

/// What a job file would refuse cannot be told to nodes.
void check_measured(const Preparation& preparation, const DataOptions& options) {
    constexpr double kLeast = std::numeric_limits<float>::min(), kMost = std::numeric_limits<float>::max();
    for (std::size_t i = 0; i < preparation.mean.size(); ++i) {
        const double mean = preparation.mean[i], deviation = preparation.deviation[i];
        if (!(std::abs(mean) <= kMost) || !(deviation >= kLeast) || !(deviation <= kMost))
            throw InputError(
                fmt::format("{}: input {} cannot be standardized: its mean {} or its deviation {} is too large or too "
                            "small for a float",
                            options.path, i, mean, deviation));
    }
}

/// How inputs were prepared: from the options, else from the training set, whose features or channels that are all
/// alike are only centered.
template <typename Value>
Preparation measure(const Numbers<Value>& train, int classes, const DataOptions& options) {
    Preparation preparation{.classes = classes, .mean = options.mean, .deviation = options.deviation};
    const std::size_t inputs = inputs_of(train.sample);
    check_preparation(options, inputs, train.sample.rank() == 2 ? "feature" : "channel");
    if (!options.mean.empty())
        return preparation;
    preparation.mean = means_of(train.values, inputs, [](double x, std::size_t) { return x; });
    keep_within_values(train, preparation.mean);
    preparation.deviation = means_of(train.values, inputs, [&mean = preparation.mean](double x, std::size_t i) {
        return (x - mean[i]) * (x - mean[i]);
    });
    for (double& deviation : preparation.deviation) {
        deviation = std::sqrt(deviation);
        deviation = deviation > 0 ? deviation : 1;
    }
    check_measured(preparation, options);
    return preparation;
}

template <typename Value>
Dataset to_dataset(Numbers<Value> numbers, const Preparation& preparation, int outputs, const DataOptions& options) {
    const std::size_t inputs = inputs_of(numbers.sample);
    std::vector<double> factors(inputs);
    std::ranges::transform(preparation.deviation, factors.begin(), [](double deviation) { return 1 / deviation; });
    std::vector<float> values(numbers.values.size());
    for (std::size_t start = 0; start < values.size(); start += inputs)
        for (std::size_t i = 0; i < inputs; ++i) {
            const double centered = static_cast<double>(numbers.values[start + i]) - preparation.mean[i];
            values[start + i] = static_cast<float>(centered * factors[i]);
            if (!std::isfinite(values[start + i]))
                throw InputError(fmt::format("{}: input {} cannot be standardized: {} is too large", options.path, i,
                                             numbers.values[start + i]));
        }
    if (!std::ranges::all_of(numbers.targets, [](float target) { return std::isfinite(target); }))
        throw InputError(fmt::format("{}: a target is too large for a float", options.path));
    return {numbers.sample,      std::move(values),          std::move(numbers.labels),
            preparation.classes, std::move(numbers.targets), outputs};
}

}  // namespace

std::optional<double> parse_number(std::string_view text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value))
        return std::nullopt;
    return value;
}

Rows split_rows(std::size_t rows, const DataOptions& options, std::uint32_t seed) {
    std::vector<std::uint32_t> order(rows);
    std::iota(order.begin(), order.end(), 0U);
    Stream({.seed = seed, .purpose = Purpose::partition, .lane = kSplitLane}).shuffle(order);
    const auto wanted = static_cast<std::size_t>(std::lround(options.test_fraction * static_cast<double>(rows)));
    const auto cut = order.begin() + static_cast<std::ptrdiff_t>(std::clamp<std::size_t>(wanted, 1, rows - 1));
    return {{cut, order.end()}, {order.begin(), cut}};
}

template <typename Value>
DataSplits standardize_splits(Numbers<Value> train, Numbers<Value> test, int classes, int outputs,
                              const DataOptions& options) {
    const std::size_t count = train.values.size() / static_cast<std::size_t>(train.sample.count());
    if (options.limit > 0 && options.limit < count)
        keep_first(train, options.limit, static_cast<std::size_t>(outputs));
    Preparation preparation = measure(train, classes, options);
    return {.train = to_dataset(std::move(train), preparation, outputs, options),
            .test = to_dataset(std::move(test), preparation, outputs, options),
            .preparation = std::move(preparation),
            .origin = {.count = count, .rows = {}},
            .notes = {}};
}

template DataSplits standardize_splits(Numbers<float>, Numbers<float>, int, int, const DataOptions&);
template DataSplits standardize_splits(Numbers<double>, Numbers<double>, int, int, const DataOptions&);

}  // namespace dither::detail
