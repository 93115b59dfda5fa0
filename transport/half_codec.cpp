// fp16 and bf16: the nearest number of 16 bits, ties to even. The rounding is deterministic, but below 2^-11 (2^-9) of
// a value, which no training needs back: the codecs do not ask for error feedback.
#include "transport/detail/codecs.hpp"
#include "transport/detail/fixed_point.hpp"
#include "transport/detail/half.hpp"

#include <array>

namespace dither::detail {
namespace {

class HalfCodec final : public FixedPointCodec {
public:
    HalfCodec(const Schema& schema, FloatFormat format) : FixedPointCodec(schema), format_(format) {}

    std::string_view name() const override { return format_ == FloatFormat::bf16 ? "bf16" : "fp16"; }
    bool is_biased() const override { return false; }

    void encode(std::span<const float> values, const Terms& /*terms*/, std::vector<std::byte>& out) const override {
        check_values(values);
        out.clear();
        append_halves(values, format_, out);
    }

private:
    void read(std::span<const std::byte> payload, const Terms& /*terms*/, FloatSink& sink) const override {
        check_size(payload, kHalfBytes * schema().parameters());
        std::array<float, kFixedPointChunk> buffer;
        for_each_chunk(schema(), [&](std::size_t layer, std::size_t offset, std::size_t count) {
            const auto values = std::span(buffer).first(count);
            load_halves(payload.data(), format_, values);
            payload = payload.subspan(kHalfBytes * count);
            sink.add(layer, offset, values);
        });
    }

    FloatFormat format_;
};

}  // namespace

std::unique_ptr<Codec> make_fp16_codec(const CodecOptions& /*options*/, const Schema& schema) {
    return std::make_unique<HalfCodec>(schema, FloatFormat::fp16);
}

std::unique_ptr<Codec> make_bf16_codec(const CodecOptions& /*options*/, const Schema& schema) {
    return std::make_unique<HalfCodec>(schema, FloatFormat::bf16);
}

}  // namespace dither::detail
