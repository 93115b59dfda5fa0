// The constructors behind make_codec.
#pragma once

#include "transport/codec.hpp"

#include <memory>

namespace dither::detail {

std::unique_ptr<Codec> make_raw_codec(const CodecOptions& options, const Schema& schema);
std::unique_ptr<Codec> make_grid_codec(const CodecOptions& options, const Schema& schema);
std::unique_ptr<Codec> make_fp16_codec(const CodecOptions& options, const Schema& schema);
std::unique_ptr<Codec> make_bf16_codec(const CodecOptions& options, const Schema& schema);
std::unique_ptr<Codec> make_qsgd_codec(const CodecOptions& options, const Schema& schema);
std::unique_ptr<Codec> make_terngrad_codec(const CodecOptions& options, const Schema& schema);
std::unique_ptr<Codec> make_sign_codec(const CodecOptions& options, const Schema& schema);
std::unique_ptr<Codec> make_topk_codec(const CodecOptions& options, const Schema& schema);
std::unique_ptr<Codec> make_eden_codec(const CodecOptions& options, const Schema& schema);
std::unique_ptr<Codec> make_trellis_codec(const CodecOptions& options, const Schema& schema);

}  // namespace dither::detail
