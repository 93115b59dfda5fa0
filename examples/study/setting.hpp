// What a study sets of a job.
#pragma once

#include <string>

namespace dither {

/// A key of a job and the value that it is given, "section.key=value" of dither-simulate.
struct Setting {
    std::string key;
    std::string value;  ///< TOML
    std::string where;  ///< "study.toml:12:5"

    std::string text() const { return key + '=' + value; }
    bool operator==(const Setting&) const = default;
};

}  // namespace dither
