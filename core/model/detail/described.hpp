// [[model.layers]]: models described layer by layer in the job file. Private to core.
#pragma once

#include "core/config.hpp"
#include "core/detail/options.hpp"

#include <string>
#include <vector>

namespace dither::detail {

/// The list of layers as an option of the job: `layers` must outlive it.
Option layers_option(const std::string& key, std::vector<LayerOptions>& layers);
/// Every kind of layer and its keys with default, meaning and range, for the help.
std::string describe_layers();

}  // namespace dither::detail
