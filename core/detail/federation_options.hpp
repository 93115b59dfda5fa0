// The keys of [data] and [federation]. Private to core's configuration.
#pragma once

#include "core/config.hpp"
#include "core/detail/combinations.hpp"
#include "core/detail/options.hpp"

namespace dither::detail {

void declare_data(OptionList& list, DataOptions& data);
void declare_federation(OptionList& list, FederationOptions& federation);
/// Refuses a federation that cannot be, or not of such data or training.
void check_federation(const Job& job, const Combinations& combinations);

}  // namespace dither::detail
