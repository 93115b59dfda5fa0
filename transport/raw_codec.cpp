// raw: the values as they are.
#include "core/little_endian.hpp"
#include "transport/detail/codecs.hpp"
#include "transport/detail/fixed_point.hpp"

#include <array>

namespace dither::detail {
namespace {

class RawCodec final : public FixedPointCodec {
public:
    using FixedPointCodec::FixedPointCodec;

    std::string_view name() const override { return "raw"; }
    bool is_biased() const override { return false; }

    void encode(std::span<const float> values, const Terms& /*terms*/, std::vector<std::byte>& out) const override {
        check_values(values);
        out.resize(sizeof(float) * values.size());
        for (std::size_t i = 0; i < values.size(); ++i)
            store_little(values[i], out.data() + sizeof(float) * i);
    }

private:
    void read(std::span<const std::byte> payload, const Terms& /*terms*/, FloatSink& sink) const override {
        check_size(payload, sizeof(float) * schema().parameters());
        std::array<float, kFixedPointChunk> buffer;
        for_each_chunk(schema(), [&](std::size_t layer, std::size_t offset, std::size_t count) {
            for (std::size_t i = 0; i < count; ++i)
                buffer[i] = load_little<float>(payload.data() + sizeof(float) * i);
            payload = payload.subspan(sizeof(float) * count);
            sink.add(layer, offset, std::span(buffer).first(count));
        });
    }
};

}  // namespace

std::unique_ptr<Codec> make_raw_codec(const CodecOptions& /*options*/, const Schema& schema) {
    return std::make_unique<RawCodec>(schema);
}

}  // namespace dither::detail
