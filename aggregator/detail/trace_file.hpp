// Tables of numbers that describe the devices of a simulation. Private to the aggregator.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dither {

/// A column of a trace, whose values are finite and lie within least .. most.
struct TraceColumn {
    std::string_view name;
    double least = 0;
    double most = 0;
};

struct TraceRow {
    std::size_t line = 0;        ///< in the file, from 1
    std::vector<double> values;  ///< one a column
};

/// The rows of a CSV file whose first line names exactly these columns, in this order; empty lines do not count. Throws
/// InputError that names file, line, column and what was expected.
std::vector<TraceRow> read_trace(const std::string& file, std::span<const TraceColumn> columns);

}  // namespace dither
