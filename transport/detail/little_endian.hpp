#pragma once

#include "core/little_endian.hpp"

namespace dither::detail {

using dither::load_little;
using dither::Number;
using dither::store_little;

}  // namespace dither::detail
