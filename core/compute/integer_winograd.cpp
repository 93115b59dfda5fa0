#include "core/compute/integer_winograd.hpp"

#include "core/compute/detail/integer_products.hpp"
#include "core/error.hpp"
#include "core/simd.hpp"

#include <algorithm>
#include <array>

namespace dither {
namespace detail {
namespace {

constexpr std::int64_t kPoints = 6;           // products for each tile, channel, channel and kernel row
constexpr std::int64_t kTile = 4;             // results in a tile
constexpr std::int64_t kTiles = 48;           // that pass through the first-level cache together, at least
constexpr std::uint32_t kThird = 0xaaaaaaab;  // 3 * kThird = 1, modulo 2^32

/// B^T x of `count` tiles side by side: x: [4 * count + 2, channels]; point p goes to out + p * pitch, [count,
/// channels].
///
///           [4  0 -5  0  1  0]
///           [0 -4 -4  1  1  0]
///     B^T = [0  4 -4 -1  1  0]
///           [0 -2 -1  2  1  0]
///           [0  2 -1 -2  1  0]
///           [0  4  0 -5  0  1]
DITHER_CLONES
void transform_inputs(const std::int16_t* __restrict x, std::int64_t count, std::int64_t channels,
                      std::int16_t* __restrict out, std::int64_t pitch) {
    for (std::int64_t t = 0; t < count; ++t, x += kTile * channels, out += channels) {
#pragma GCC ivdep
        for (std::int64_t c = 0; c < channels; ++c) {
            const std::int16_t a = x[c];
            const std::int16_t b = x[c + channels];
            const std::int16_t d = x[c + 2 * channels];
            const std::int16_t e = x[c + 3 * channels];
            const std::int16_t f = x[c + 4 * channels];
            const std::int16_t g = x[c + 5 * channels];
            const auto even = static_cast<std::int16_t>(f - 4 * d);
            const auto odd = static_cast<std::int16_t>(e - 4 * b);
            const auto near = static_cast<std::int16_t>(f - d);
            const auto twice = static_cast<std::int16_t>(2 * (e - b));
            out[c] = static_cast<std::int16_t>(4 * a - 5 * d + f);
            out[c + pitch] = static_cast<std::int16_t>(even + odd);
            out[c + 2 * pitch] = static_cast<std::int16_t>(even - odd);
            out[c + 3 * pitch] = static_cast<std::int16_t>(near + twice);
            out[c + 4 * pitch] = static_cast<std::int16_t>(near - twice);
            out[c + 5 * pitch] = static_cast<std::int16_t>(4 * b - 5 * e + g);
        }
    }
}

/// Of 24 y.
[[gnu::always_inline]] inline std::int32_t divided(std::uint32_t sum) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<std::int32_t>(sum) >> 3) * kThird);
}

/// A^T m / 24 of one tile, of whose results the first `Results` exist; point p comes from m + p * pitch.
///
///           [1  1  1  1  1  0]
///     A^T = [0  1 -1  2 -2  0]
///           [0  1  1  4  4  0]
///           [0  1 -1  8 -8  1]
template <int Results>
[[gnu::always_inline]] inline void transform_output(const std::uint32_t* __restrict m, std::int64_t pitch,
                                                    std::int64_t channels, std::int32_t* __restrict y) {
#pragma GCC ivdep
    for (std::int64_t c = 0; c < channels; ++c) {
        const std::uint32_t near_sum = m[c + pitch] + m[c + 2 * pitch];
        const std::uint32_t near_difference = m[c + pitch] - m[c + 2 * pitch];
        const std::uint32_t far_sum = m[c + 3 * pitch] + m[c + 4 * pitch];
        const std::uint32_t far_difference = m[c + 3 * pitch] - m[c + 4 * pitch];
        y[c] = divided(m[c] + near_sum + far_sum);
        if constexpr (Results > 1)
            y[c + channels] = divided(near_difference + 2 * far_difference);
        if constexpr (Results > 2)
            y[c + 2 * channels] = divided(near_sum + 4 * far_sum);
        if constexpr (Results > 3)
            y[c + 3 * channels] = divided(near_difference + 8 * far_difference + m[c + 5 * pitch]);
    }
}

/// A row of `width` results.
DITHER_CLONES
void transform_outputs(const std::uint32_t* m, std::int64_t pitch, std::int64_t width, std::int64_t channels,
                       std::int32_t* y) {
    std::int64_t x = 0;
    for (; x + kTile <= width; x += kTile, m += channels, y += kTile * channels)
        transform_output<4>(m, pitch, channels, y);
    if (width - x == 3)
        transform_output<3>(m, pitch, channels, y);
    else if (width - x == 2)
        transform_output<2>(m, pitch, channels, y);
    else if (width - x == 1)
        transform_output<1>(m, pitch, channels, y);
}

/// 24 G applied to a kernel row: [6 0 0; -4 -4 -4; -4 4 -4; 1 2 4; 1 -2 4; 0 0 24]
std::array<int, kPoints> transform_weights(int a, int b, int c) {
    return {6 * a, -4 * (a + b + c), -4 * (a - b + c), a + 2 * b + 4 * c, a - 2 * b + 4 * c, 24 * c};
}

}  // namespace
}  // namespace detail

class IntegerWinograd::Plan {
public:
    Plan(const ConvGeometry& geometry, const detail::WordKernels& kernels);

    void pack(std::span<const std::int8_t> w);
    void run(std::span<const std::uint8_t> x, std::int32_t zero_point, std::span<std::int32_t> y);

private:
    std::int64_t group_count() const { return 3 * geometry_.in_channels / kernels_.group; }
    std::int64_t panels() const { return (geometry_.out_channels + kernels_.panel - 1) / kernels_.panel; }
    std::int64_t point_size() const { return panels() * kernels_.panel * 3 * geometry_.in_channels; }
    std::int64_t frame_rows() const { return geometry_.out_height() + 2; }
    void run_rows(std::int64_t first, std::int64_t rows, std::int32_t* y);

    ConvGeometry geometry_;
    const detail::WordKernels& kernels_;
    std::int64_t across_;             ///< tiles in a row
    std::int64_t width_;              ///< of the padded image, in pixels: what whole tiles see
    std::int64_t strip_;              ///< rows at a time
    std::vector<std::int64_t> rows_;  ///< where the tiles of a strip start, among the transformed inputs of a point
    std::vector<std::int64_t> outputs_;
    std::vector<std::int64_t> groups_;
    detail::AlignedValues<std::int16_t> padded_;
    detail::AlignedValues<std::int16_t> weights_;  ///< [points][panels][groups][panel][group]
    detail::AlignedValues<std::int16_t> inputs_;   ///< [points][padded rows][tiles][in]
    std::vector<std::int32_t> products_;           ///< [points][tiles][out]
    bool packed_ = false;
};

IntegerWinograd::Plan::Plan(const ConvGeometry& g, const detail::WordKernels& kernels)
    : geometry_(g),
      kernels_(kernels),
      across_((g.out_width() + detail::kTile - 1) / detail::kTile),
      width_(detail::kTile * across_ + 2),
      strip_(std::min(g.out_height(), (detail::kTiles + across_ - 1) / across_)) {
    const std::int64_t tiles = strip_ * across_;
    for (std::int64_t t = 0; t < tiles; ++t) {
        rows_.push_back(t * g.in_channels);
        outputs_.push_back(t * g.out_channels);
    }
    for (std::int64_t ky = 0; ky < 3; ++ky)
        for (std::int64_t i = 0; i < g.in_channels; i += kernels_.group)
            groups_.push_back(ky * across_ * g.in_channels + i);
    const auto room = [](std::int64_t count) { return static_cast<std::size_t>(count + detail::kIntegerSlack); };
    padded_.resize(room(frame_rows() * width_ * g.in_channels));
    weights_.resize(room(detail::kPoints * point_size()));
    inputs_.resize(room(detail::kPoints * frame_rows() * across_ * g.in_channels));
    products_.resize(room(detail::kPoints * tiles * g.out_channels));
}

void IntegerWinograd::Plan::pack(std::span<const std::int8_t> w) {
    const std::int64_t in = geometry_.in_channels;
    const std::int64_t out = geometry_.out_channels;
    detail::check_integer_weights(w.size(), 9 * in * out);
    const auto place_of = [&](std::int64_t term, std::int64_t o) {
        const std::int64_t group = o / kernels_.panel * group_count() + term / kernels_.group;
        return (group * kernels_.panel + o % kernels_.panel) * kernels_.group + term % kernels_.group;
    };
    for (std::int64_t ky = 0; ky < 3; ++ky)
        for (std::int64_t i = 0; i < in; ++i)
            for (std::int64_t o = 0; o < out; ++o) {
                const std::int8_t* first = w.data() + (3 * ky * in + i) * out + o;
                const auto points = detail::transform_weights(first[0], first[in * out], first[2 * in * out]);
                for (std::int64_t p = 0; p < detail::kPoints; ++p)
                    weights_[static_cast<std::size_t>(p * point_size() + place_of(ky * in + i, o))] =
                        static_cast<std::int16_t>(points[static_cast<std::size_t>(p)]);
            }
    packed_ = true;
}

void IntegerWinograd::Plan::run(std::span<const std::uint8_t> x, std::int32_t zero_point, std::span<std::int32_t> y) {
    const ConvGeometry& g = geometry_;
    const std::int64_t row = g.in_width * g.in_channels;
    detail::check_integer_operands(1, 1, x.size(), g.in_height * row, y.size(),
                                   g.out_height() * g.out_width() * g.out_channels);
    detail::check_zero_points({&zero_point, 1}, 1);
    require(packed_, "a convolution before its weights are packed");
    std::int16_t* to = padded_.data() + g.padding * (width_ + 1) * g.in_channels;
    for (std::int64_t i = 0; i < g.in_height; ++i)
        kernels_.load_codes(row, x.data() + i * row, zero_point, to + i * width_ * g.in_channels);
    const std::int64_t tiles = across_ * g.in_channels;
    for (std::int64_t i = 0; i < frame_rows(); ++i)
        detail::transform_inputs(padded_.data() + i * width_ * g.in_channels, across_, g.in_channels,
                                 inputs_.data() + i * tiles, frame_rows() * tiles);
    for (std::int64_t first = 0; first < g.out_height(); first += strip_)
        run_rows(first, std::min(strip_, g.out_height() - first), y.data());
}

void IntegerWinograd::Plan::run_rows(std::int64_t first, std::int64_t rows, std::int32_t* y) {
    const std::int64_t in = geometry_.in_channels;
    const std::int64_t out = geometry_.out_channels;
    const std::int64_t pitch = rows * across_ * out;
    for (std::int64_t p = 0; p < detail::kPoints; ++p)
        kernels_.multiply({inputs_.data() + (p * frame_rows() + first) * across_ * in, rows * across_, rows_.data(),
                           group_count(), groups_.data(), weights_.data() + p * point_size(), out,
                           products_.data() + p * pitch, outputs_.data(), false, nullptr, nullptr});
    const auto* products = reinterpret_cast<const std::uint32_t*>(products_.data());
    for (std::int64_t r = 0; r < rows; ++r)
        detail::transform_outputs(products + r * across_ * out, pitch, geometry_.out_width(), out,
                                  y + (first + r) * geometry_.out_width() * out);
}

bool IntegerWinograd::fits(const ConvGeometry& g) {
    constexpr std::int64_t kFewChannels = 16;
    constexpr std::int64_t kManyChannels = 256;  // 24 * 9 * 256 * 255 * 127 < 2^31
    const std::int64_t width = g.out_width();
    const std::int64_t whole = (width + detail::kTile - 1) / detail::kTile * detail::kTile;
    return g.kernel == 3 && g.stride == 1 && g.groups == 1 && g.padding < g.kernel && g.in_channels % 2 == 0 &&
           g.in_channels >= kFewChannels && g.in_channels <= kManyChannels && g.out_channels >= kFewChannels &&
           4 * width >= 3 * whole;
}

bool IntegerWinograd::pays(const ConvGeometry& geometry) {
    return fits(geometry) && detail::choose_integer_kernels({}).bytes == nullptr;
}

IntegerWinograd::IntegerWinograd(const ConvGeometry& geometry, std::string_view instruction_set) {
    geometry.check();
    require(fits(geometry), "no tiles of four results for this convolution");
    plan_ = std::make_unique<Plan>(geometry, *detail::choose_integer_kernels(instruction_set).words);
}
IntegerWinograd::IntegerWinograd(IntegerWinograd&&) noexcept = default;
IntegerWinograd::~IntegerWinograd() = default;

void IntegerWinograd::pack(std::span<const std::int8_t> w) {
    plan_->pack(w);
}

void IntegerWinograd::run(std::span<const std::uint8_t> x, std::int32_t zero_point, std::span<std::int32_t> y) {
    plan_->run(x, zero_point, y);
}

}  // namespace dither
