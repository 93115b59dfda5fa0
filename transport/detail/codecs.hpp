// The constructors behind make_codec.
#pragma once

#include "transport/codec.hpp"

#include <memory>

namespace dither::detail {

std::unique_ptr<Codec> make_raw_codec(const Schema& schema);
std::unique_ptr<Codec> make_grid_codec(const Schema& schema);

}  // namespace dither::detail
