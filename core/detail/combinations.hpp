// Options that are fine alone but not together. Private to core's configuration.
#pragma once

#include "core/detail/options.hpp"

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace dither::detail {

/// Says of refused options where each was set. Borrows the list.
class Combinations {
public:
    /// `source` names the job in errors.
    Combinations(OptionList& options, std::string source) : options_(options), source_(std::move(source)) {}

    /// Throws InputError if `broken`.
    void forbid(bool broken, std::initializer_list<std::string_view> keys, std::string_view reason) const;

private:
    OptionList& options_;
    std::string source_;
};

}  // namespace dither::detail
