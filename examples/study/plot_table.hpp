// [[plot]] of a study file.
#pragma once

#include <numeric>

#include "examples/study/strict_table.hpp"
#include "examples/study/study_file.hpp"

namespace dither {

/// Reads a table's plot, or those of the grid's points, whose names of methods, metrics and axes are the study's.
/// Throws InputError.
std::vector<Plot> read_plots(StrictTable& table, const Study& study);

/// `text`, the key's value, as a path whose [[evaluate]] the study has. Throws InputError.
MetricPath read_path(StrictTable& table, std::string_view key, const std::string& text, const Study& study);

/// Throws InputError at the key's place that names the nearest of `known`.
[[noreturn]] void fail_unknown(const StrictTable& table, std::string_view key, std::string_view what,
                               const std::string& name, std::span<const std::string> known);

/// Where `name` is among the names of `items`. Throws as fail_unknown does.
template <typename Items>
std::size_t index_of(const StrictTable& table, std::string_view key, std::string_view what, const std::string& name,
                     const Items& items) {
    std::vector<std::string> known;
    for (const auto& item : items) {
        if (item.name == name)
            return known.size();
        known.push_back(item.name);
    }
    fail_unknown(table, key, what, name, known);
}
/// The places of all items, for a list of names that was left out.
template <typename Items>
std::vector<std::size_t> all_of(const Items& items) {
    std::vector<std::size_t> places(items.size());
    std::iota(places.begin(), places.end(), std::size_t{0});
    return places;
}
/// Throws InputError unless `name` can be a file's: [A-Za-z0-9._-]{1,64}, not beginning with a dot.
void check_name(const StrictTable& table, std::string_view key, const std::string& name);

}  // namespace dither
