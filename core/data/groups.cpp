#include "core/data/detail/groups.hpp"

#include "core/error.hpp"

#include <filesystem>
#include <fstream>
#include <string>
#include <unordered_map>

namespace dither::detail {
namespace {

std::vector<std::string> read_lines(const DataOptions& options) {
    std::ifstream file(options.groups);
    if (!std::filesystem::is_regular_file(options.groups) || !file)
        throw InputError(fmt::format("data.groups: expected a text file{}, found \"{}\"",
                                     options.format == "csv" ? " or a name in the header of " + options.path : "",
                                     options.groups));
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) {
        if (line.ends_with('\r'))
            line.pop_back();
        lines.push_back(line);
    }
    if (file.bad())
        throw InputError(fmt::format("{}: cannot be read to its end", options.groups));
    return lines;
}

}  // namespace

std::vector<std::uint32_t> number_groups(std::span<const std::string_view> texts) {
    std::unordered_map<std::string_view, std::uint32_t> numbers;
    std::vector<std::uint32_t> groups;
    groups.reserve(texts.size());
    for (const std::string_view text : texts)
        groups.push_back(numbers.try_emplace(text, static_cast<std::uint32_t>(numbers.size())).first->second);
    return groups;
}

std::vector<std::uint32_t> read_groups(const DataOptions& options, const DataSplits& data) {
    const std::vector<std::string> lines = read_lines(options);
    const auto& [count, rows] = data.origin;
    if (lines.size() != count)
        throw InputError(fmt::format("{}: expected {} lines, one for each {} of {}, found {}", options.groups, count,
                                     rows.empty() ? "training sample" : "sample", options.path, lines.size()));
    std::vector<std::string_view> texts(data.train.size());
    for (std::size_t i = 0; i < texts.size(); ++i)
        texts[i] = lines[rows.empty() ? i : rows[i]];
    return number_groups(texts);
}

}  // namespace dither::detail
