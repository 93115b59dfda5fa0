// The keys of [quantize], and [[quantize.layers]], which overrides some of them for some layers. Private to core.
#pragma once

#include "core/config.hpp"
#include "core/detail/options.hpp"

#include <string>
#include <vector>

namespace dither::detail {

/// Declares every key of [quantize] but `layers`; `prefix` is "quantize." or, within an override, "".
void declare_quantize(OptionList& list, const std::string& prefix, QuantizeOptions& quantize);
/// The list of overrides as an option of the job: `overrides` must outlive it.
Option overrides_option(const std::string& key, std::vector<LayerOverride>& overrides);

}  // namespace dither::detail
