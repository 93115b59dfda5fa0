// What dither-hostile can do to an aggregator, by name. An attack returns once the aggregator has done what it should,
// and throws if it did something else; what its log says about it is for the caller to read.
#pragma once

#include "tests/chaos/line.hpp"

#include <span>
#include <string_view>

namespace dither::hostile {

struct Attack {
    std::string_view name;
    std::string_view what;
    void (*run)(const Setting& setting);
};

/// Of those who are not in, whatever certificate they show.
std::span<const Attack> attacks_of_strangers();
/// Of a node that was let in: what it says is no message, or none that it may say.
std::span<const Attack> attacks_of_members();
/// Of a node that was asked for an update: each takes a round. `setting.data` is what it trains on.
std::span<const Attack> attacks_of_liars();

}  // namespace dither::hostile
