#include "transport/codec.hpp"

#include "core/choice.hpp"
#include "core/config.hpp"
#include "transport/detail/codecs.hpp"

#include <array>

namespace dither {

namespace {

using Maker = std::unique_ptr<Codec> (*)(const CodecOptions& options, const Schema& schema);

constexpr auto kCodecs = std::to_array<ChoiceRow<Maker>>({
    {"raw", "fp32", detail::make_raw_codec},
    {"grid", "integers on a grid that all clients share, entropy-coded", detail::make_grid_codec},
    {"fp16", "the nearest binary16 of IEEE 754", detail::make_fp16_codec},
    {"bf16", "the nearest number of the upper 16 bits of fp32", detail::make_bf16_codec},
    {"qsgd", "stochastic levels of the norm of 512 values", detail::make_qsgd_codec},
    {"terngrad", "a layer's largest magnitude, 0 or its negative, by chance", detail::make_terngrad_codec},
    {"sign", "one bit and a layer's mean magnitude", detail::make_sign_codec},
    {"topk", "the largest magnitudes and their places", detail::make_topk_codec},
    {"eden", "a rotation, then the best scalar quantizer; unbiased at any rate", detail::make_eden_codec},
    {"trellis", "a rotation, then a trellis and an entropy coder; unbiased at any rate", detail::make_trellis_codec},
});

}  // namespace

std::unique_ptr<Codec> make_codec(const CodecOptions& options, const Schema& schema) {
    return choose(kCodecs, "codec kind", options.kind)(options, schema);
}

bool feeds_back(const CodecOptions& options, const Codec& codec) {
    return options.feedback == "on" || (options.feedback == "auto" && codec.is_biased());
}

}  // namespace dither
