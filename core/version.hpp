// What runs, and on what.
#pragma once

#include <string>
#include <string_view>

namespace dither {

/// Dither's version, "0.1.0".
std::string_view version();
/// "AMD EPYC 7763", from /proc/cpuinfo; "unknown" elsewhere.
std::string cpu_name();

}  // namespace dither
