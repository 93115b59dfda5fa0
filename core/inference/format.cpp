// The file of an integer model; core/inference/README.md has the table.
#include "core/error.hpp"
#include "core/inference/integer_model.hpp"
#include "core/sha256.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstring>

namespace dither {
namespace {

constexpr std::string_view kMagic = "DITHINT1";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHeaderBytes = kMagic.size() + 4 + 8;
constexpr std::size_t kDigestBytes = std::tuple_size_v<Sha256>;

class Writer {
public:
    template <std::unsigned_integral Value>
    void put(Value value) {
        for (std::size_t i = 0; i < sizeof value; ++i)
            bytes_.push_back(static_cast<std::byte>(value >> (8 * i) & 0xffU));
    }
    void put(float value) { put(std::bit_cast<std::uint32_t>(value)); }
    void put_flag(bool value) { put(static_cast<std::uint8_t>(value)); }
    void put_byte(std::int64_t value) { put(static_cast<std::uint8_t>(value)); }
    void put_count(std::int64_t value) { put(static_cast<std::uint32_t>(value)); }
    void put(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
    void put(const std::string& text) {
        put_count(static_cast<std::int64_t>(text.size()));
        put(std::as_bytes(std::span(text)));
    }
    void put(const std::vector<float>& values) {
        for (const float value : values)
            put(value);
    }

    std::vector<std::byte> take() { return std::move(bytes_); }

private:
    std::vector<std::byte> bytes_;
};

/// Never reads beyond its bytes; what is read takes no memory before its bytes are there.
class Reader {
public:
    explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

    std::span<const std::byte> take(std::uint64_t count) {
        if (count > bytes_.size())
            throw FormatError(fmt::format("integer model: ends where {} bytes more are expected, at most {} are left",
                                          count, bytes_.size()));
        const std::span<const std::byte> taken = bytes_.first(count);
        bytes_ = bytes_.subspan(count);
        return taken;
    }
    template <std::unsigned_integral Value>
    Value get() {
        Value value = 0;
        for (std::size_t i = 0; const std::byte byte : take(sizeof value))
            value = static_cast<Value>(value | static_cast<Value>(static_cast<Value>(byte) << (8 * i++)));
        return value;
    }
    float get_float() { return std::bit_cast<float>(get<std::uint32_t>()); }
    std::int64_t get_count() { return get<std::uint32_t>(); }
    bool get_flag() {
        const auto value = get<std::uint8_t>();
        if (value > 1)
            throw FormatError(fmt::format("integer model: a flag of {}", value));
        return value == 1;
    }
    std::string get_text() {
        const std::span<const std::byte> text = take(get<std::uint32_t>());
        return {reinterpret_cast<const char*>(text.data()), text.size()};
    }
    std::vector<float> get_floats(std::int64_t count) {
        Reader values(take(static_cast<std::uint64_t>(count) * sizeof(float)));
        std::vector<float> floats(static_cast<std::size_t>(count));
        std::ranges::generate(floats, [&] { return values.get_float(); });
        return floats;
    }
    bool empty() const { return bytes_.empty(); }

private:
    std::span<const std::byte> bytes_;
};

// One writer and one reader for each kind of operation; its number is its place in the variant.

void write(Writer& out, const ProductOperation& p) {
    const ConvGeometry& g = p.geometry;
    out.put(p.name);
    out.put_flag(p.linear);
    for (const std::int64_t extent :
         {g.in_height, g.in_width, g.in_channels, g.out_channels, g.kernel, g.stride, g.padding, g.groups})
        out.put_count(extent);
    out.put_byte(p.bits);
    out.put(p.grid.scale);
    out.put_byte(p.grid.bits);
    out.put_byte(p.grid.zero_point);
    out.put_byte(p.grid.lowest);
    out.put_flag(!p.bias.empty());
    out.put(p.scales);
    out.put(p.bias);
    out.put(std::as_bytes(std::span(p.weights)));
}

void write(Writer& out, const AffineOperation& a) {
    out.put(a.name);
    out.put_count(static_cast<std::int64_t>(a.mean.size()));
    out.put(a.mean);
    out.put(a.scale);
    out.put(a.shift);
}

void write(Writer& out, const ClampOperation& c) {
    out.put(c.low);
    out.put(c.high);
}

void write(Writer&, const TanhOperation&) {}

void write(Writer& out, const PoolOperation& p) {
    out.put_flag(p.mean);
    out.put_flag(p.flat);
    for (const std::int64_t extent : {p.kernel_height, p.kernel_width, p.stride, p.padding})
        out.put_count(extent);
}

void write(Writer& out, const AddOperation& a) {
    out.put(a.other);
}

void read(Reader& in, ProductOperation& p) {
    ConvGeometry& g = p.geometry;
    p.name = in.get_text();
    p.linear = in.get_flag();
    for (std::int64_t* extent :
         {&g.in_height, &g.in_width, &g.in_channels, &g.out_channels, &g.kernel, &g.stride, &g.padding, &g.groups})
        *extent = in.get_count();
    p.bits = in.get<std::uint8_t>();
    p.grid.scale = in.get_float();
    p.grid.bits = in.get<std::uint8_t>();
    p.grid.zero_point = in.get<std::uint8_t>();
    p.grid.lowest = in.get<std::uint8_t>();
    const bool bias = in.get_flag();
    p.scales = in.get_floats(g.out_channels);
    if (bias)
        p.bias = in.get_floats(g.out_channels);
    // Each factor may be large, so the bytes are counted with care: what is left bounds them.
    const bool sane = g.groups > 0 && g.kernel <= 1 << 15 && g.in_channels <= 1 << 20 && g.out_channels <= 1 << 20;
    const std::uint64_t taps = sane ? static_cast<std::uint64_t>(g.kernel * g.kernel * (g.in_channels / g.groups)) : 0;
    if (!sane || taps > std::uint64_t{1} << 32)
        throw FormatError(fmt::format("integer model: weights of {} x {} x {} in {} groups", g.kernel, g.in_channels,
                                      g.out_channels, g.groups));
    const std::uint64_t bits = taps * static_cast<std::uint64_t>(g.out_channels) * static_cast<std::uint64_t>(p.bits);
    const std::span<const std::byte> weights = in.take(bits / 8 + (bits % 8 > 0 ? 1 : 0));
    p.weights.resize(weights.size());
    std::ranges::transform(weights, p.weights.begin(),
                           [](std::byte byte) { return std::to_integer<std::uint8_t>(byte); });
}

void read(Reader& in, AffineOperation& a) {
    a.name = in.get_text();
    const std::int64_t channels = in.get_count();
    for (std::vector<float>* constants : {&a.mean, &a.scale, &a.shift})
        *constants = in.get_floats(channels);
}

void read(Reader& in, ClampOperation& c) {
    c.low = in.get_float();
    c.high = in.get_float();
}

void read(Reader&, TanhOperation&) {}

void read(Reader& in, PoolOperation& p) {
    p.mean = in.get_flag();
    p.flat = in.get_flag();
    for (std::int64_t* extent : {&p.kernel_height, &p.kernel_width, &p.stride, &p.padding})
        *extent = in.get_count();
}

void read(Reader& in, AddOperation& a) {
    a.other = in.get<std::uint32_t>();
}

/// The operation of a kind, with nothing in it yet.
template <std::size_t Kind = 0>
Operation operation_of(std::size_t kind) {
    if constexpr (Kind < std::variant_size_v<Operation>)
        return kind == Kind ? Operation(std::in_place_index<Kind>) : operation_of<Kind + 1>(kind);
    else
        throw FormatError(fmt::format("integer model: a step of the unknown kind {}", kind));
}

void write_body(Writer& out, const IntegerModel& model) {
    out.put(model.name);
    out.put(model.quantization);
    out.put_byte(model.sample.rank());
    for (int axis = 0; axis < model.sample.rank(); ++axis)
        out.put_count(model.sample[axis]);
    out.put_count(model.outputs);
    out.put_count(static_cast<std::int64_t>(model.scaling.size()));
    for (const ChannelScaling& scaling : model.scaling) {
        out.put(scaling.mean);
        out.put(scaling.deviation);
    }
    out.put_count(static_cast<std::int64_t>(model.steps.size()));
    for (const Step& step : model.steps) {
        out.put(step.input);
        out.put_byte(static_cast<std::int64_t>(step.operation.index()));
        std::visit([&](const auto& operation) { write(out, operation); }, step.operation);
    }
}

Shape read_shape(Reader& in) {
    const auto rank = in.get<std::uint8_t>();
    if (rank != 2 && rank != 4)
        throw FormatError(fmt::format("integer model: a sample of rank {}", rank));
    std::array<std::int64_t, 4> e{};
    for (std::size_t axis = 0; axis < rank; ++axis)
        e[axis] = in.get_count();
    return rank == 2 ? Shape{e[0], e[1]} : Shape{e[0], e[1], e[2], e[3]};
}

IntegerModel read_body(Reader& in) {
    IntegerModel model;
    model.name = in.get_text();
    model.quantization = in.get_text();
    model.sample = read_shape(in);
    model.outputs = static_cast<int>(std::min<std::int64_t>(in.get_count(), 1 << 30));
    for (std::int64_t count = in.get_count(); count > 0; --count) {
        const float mean = in.get_float();
        model.scaling.push_back({mean, in.get_float()});
    }
    std::int64_t count = in.get_count();
    if (count > std::int64_t{kMaxSteps})
        throw FormatError(fmt::format("integer model: {} steps, expected at most {}", count, kMaxSteps));
    for (; count > 0; --count) {
        Step step{.input = in.get<std::uint32_t>(), .operation = {}};
        step.operation = operation_of(in.get<std::uint8_t>());
        std::visit([&](auto& operation) { read(in, operation); }, step.operation);
        model.steps.push_back(std::move(step));
    }
    if (!in.empty())
        throw FormatError("integer model: bytes behind the last step");
    return model;
}

}  // namespace

std::vector<std::byte> serialize(const IntegerModel& model) {
    check(model);
    Writer body;
    write_body(body, model);
    const std::vector<std::byte> bytes = body.take();
    Writer file;
    file.put(std::as_bytes(std::span(kMagic)));
    file.put(kVersion);
    file.put(std::uint64_t{bytes.size()});
    file.put(std::span(bytes));
    std::vector<std::byte> whole = file.take();
    const Sha256 digest = sha256(whole);
    const std::span<const std::byte> tail = std::as_bytes(std::span(digest));
    whole.insert(whole.end(), tail.begin(), tail.end());
    return whole;
}

IntegerModel deserialize_integer_model(std::span<const std::byte> bytes) {
    if (bytes.size() < kHeaderBytes + kDigestBytes || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
        throw FormatError(fmt::format("integer model: does not begin with {} or is shorter than {} bytes", kMagic,
                                      kHeaderBytes + kDigestBytes));
    Reader in(bytes.subspan(kMagic.size()));
    if (const auto version = in.get<std::uint32_t>(); version != kVersion)
        throw FormatError(fmt::format("integer model: version {}, expected {}", version, kVersion));
    const auto length = in.get<std::uint64_t>();
    const std::size_t expected = bytes.size() - kHeaderBytes - kDigestBytes;
    if (length != expected)
        throw FormatError(fmt::format("integer model: a body of {} bytes, but {} are here", length, expected));
    const Sha256 digest = sha256(bytes.first(kHeaderBytes + expected));
    if (std::memcmp(digest.data(), bytes.data() + kHeaderBytes + expected, kDigestBytes) != 0)
        throw FormatError("integer model: the SHA-256 at the end is another one's");
    Reader body(in.take(expected));
    IntegerModel model = read_body(body);
    check(model);
    return model;
}

}  // namespace dither
