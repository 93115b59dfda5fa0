// LIBSVM's sparse text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <istream>
#include <string>
#include <vector>

namespace dither::detail {

struct SparseRows {
    std::string path;                     ///< for messages
    std::vector<double> answers;          ///< [rows], the numbers that the lines begin with
    std::vector<std::size_t> lines;       ///< [rows], where each stands in the file, from 1
    std::vector<std::size_t> ends;        ///< [rows], of each one's entries
    std::vector<std::uint32_t> features;  ///< of each entry, from 0, ascending within a row
    std::vector<double> values;           ///< likewise, finite
    std::uint32_t width = 0;              ///< one more than the largest feature

    std::size_t size() const { return lines.size(); }
};

/// Lines of `answer index:value index:value ...`, indices from 1 and strictly ascending; blank lines are skipped.
/// Throws InputError that names the line on anything else. Memory is proportional to the text.
SparseRows parse_libsvm(std::istream& text, const std::string& path);

}  // namespace dither::detail
