// Classes that data call by names.
#pragma once

#include "core/config.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <span>
#include <string>
#include <vector>

namespace dither::detail {

/// The names of the classes, in the order of their numbers: those of options.labels, else `found`, which ascend.
inline std::vector<std::string> class_names(const DataOptions& options, const std::vector<std::string>& found) {
    const std::vector<std::string>& names = options.labels.empty() ? found : options.labels;
    if (options.classes > 0 && static_cast<std::size_t>(options.classes) < names.size())
        throw InputError(fmt::format("data.classes: {} has {} classes, {}, found {}", options.path, names.size(),
                                     fmt::join(names, ", "), options.classes));
    return names;
}

}  // namespace dither::detail
