// The keys of [precision] and [[federation.devices]]. Private to core's configuration.
#pragma once

#include "core/config.hpp"
#include "core/detail/options.hpp"

#include <string>
#include <vector>

namespace dither::detail {

void declare_precision(OptionList& list, PrecisionOptions& precision);
/// [[federation.devices]], a list of tables.
Option devices_option(const std::string& key, std::vector<DeviceOptions>& devices);
/// The keys of one of them, for help.
std::string describe_devices();

}  // namespace dither::detail
