#include "transport/codec.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "transport/detail/codecs.hpp"

namespace dither {

std::unique_ptr<Codec> make_codec(const CodecOptions& options, const Schema& schema) {
    if (options.kind == "raw")
        return detail::make_raw_codec(schema);
    if (options.kind == "grid")
        return detail::make_grid_codec(schema);
    throw InputError(fmt::format("codec kind: expected raw or grid, not \"{}\"", options.kind));
}

}  // namespace dither
