// [[model.layers]]: models described layer by layer in the job file. Private to core.
#pragma once

#include "core/config.hpp"
#include "core/detail/options.hpp"

#include <string>
#include <vector>

namespace dither::detail {

/// A fault within a list of layers, thrown by the option's assign.
struct LayerError {
    toml::source_region where;
    std::string message;  ///< begins with the place: "model.layers[3].kernel: ..."; places count from 0
};

/// The list of layers as an option of the job: `layers` must outlive it.
Option layers_option(const std::string& key, std::vector<LayerOptions>& layers);
/// Every kind of layer and its keys with default, meaning and range, for the help.
std::string describe_layers();

}  // namespace dither::detail
