// oneDNN's convolutions and matrix products behind the compute interface; x86-64 only, where the build found it
// (CMake option DITHER_ONEDNN). oneDNN generates its code at run time for the processor it finds.
#pragma once

#include "core/compute/backend.hpp"

#include <memory>

namespace dither {

/// Declared in every build, defined where oneDNN is built in (DITHER_WITH_ONEDNN). Products that oneDNN has no
/// primitive for, or is known to be slow at, are Eigen's. Throws IoError if oneDNN does not start.
std::unique_ptr<Backend> make_onednn_backend();

}  // namespace dither
