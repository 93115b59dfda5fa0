#include "core/data/readers.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <vector>

namespace dither {

DataSplits load_data(const DataOptions& options, std::uint32_t seed) {
    if (options.format == "idx")
        return detail::load_idx(options);
    if (options.format == "csv")
        return detail::load_csv(options, seed);
    throw InputError(fmt::format("data.format: expected \"idx\" or \"csv\", found \"{}\"", options.format));
}

namespace detail {

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
