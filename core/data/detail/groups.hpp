// Whose each training sample is.
#pragma once

#include "core/config.hpp"
#include "core/data/dataset.hpp"

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace dither::detail {

/// The same text is the same group; groups count from 0 in the order of their first appearance.
std::vector<std::uint32_t> number_groups(std::span<const std::string_view> texts);

/// Of the training samples, by the text file options.groups: a line for each sample that `data` was read from, the
/// carriage return before its end apart. Throws InputError that names the file where it is not so.
std::vector<std::uint32_t> read_groups(const DataOptions& options, const DataSplits& data);

}  // namespace dither::detail
