#include "core/quantize/quantizer.hpp"

#include "core/error.hpp"
#include "core/precision/plan.hpp"
#include "core/quantize/detail/grids.hpp"
#include "core/quantize/detail/kernels.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

namespace dither {
namespace {

/// Values whose random bits are drawn at once: a whole number of stream blocks, small enough for the first cache.
constexpr std::size_t kChunk = 1024;

/// Groups within a row have none.
template <typename Grid>
constexpr bool kHasCodes = !std::is_same_v<Grid, kernels::GridGroups>;

void check_layout(std::size_t count, const QuantLayout& layout) {
    require(layout.rows * layout.columns == count, "a layout of {} x {} for {} values", layout.rows, layout.columns,
            count);
    require(layout.samples > 0 && layout.rows % layout.samples == 0, "{} rows do not split into {} samples",
            layout.rows, layout.samples);
}

}  // namespace

template <typename Visit>
void Quantizer::for_each_run(std::size_t count, const Visit& visit) const {
    const auto [blocks, block, channels] = partition_;
    const std::size_t pattern = pattern_of(channels);
    for (std::size_t begin = 0, end = 0; begin < count; begin = end) {
        const std::size_t index = begin / block;
        const std::size_t inside = begin - index * block;
        const std::size_t chunk_end = std::min(count, (begin / kChunk + 1) * kChunk);
        end = std::min(chunk_end, (index + 1) * block);
        if (channels > 1) {
            const std::size_t at = inside % pattern;
            end = std::min(end, begin + pattern - at);
            const float* arrays = columns_.data() + index * kGridArrays * pattern;
            visit(begin, end - begin, from_element(arrays_of(arrays, pattern), at));
        } else if (blocks > 1 && options_.granularity == Granularity::per_group) {
            end = chunk_end;
            const kernels::GridArrays grids = from_element(arrays_of(columns_.data(), blocks), index);
            visit(begin, end - begin, kernels::GridGroups{grids, block, inside});
        } else {
            visit(begin, end - begin, grid_of(scales_[index], clip_[index], bits_, options_.symmetry));
        }
    }
}

void Quantizer::apply(std::span<const float> x, std::span<float> out, const QuantLayout& layout, int bits,
                      const StreamKey& key, bool update_range) {
    require(x.size() == out.size(), "quantization of {} values into {}", x.size(), out.size());
    check_layout(x.size(), layout);
    clipped_ = 0;
    bits_ = bits;
    if (bits == kFullBits) {
        if (x.data() != out.data())
            std::copy(x.begin(), x.end(), out.begin());
        return;
    }
    if (const std::optional<FloatFormat> format = float_format(options_, bits)) {
        round_floats(x, out, layout, *format, key, update_range);
        return;
    }
    choose_scales(x, layout, update_range);
    round(
        x, key,
        [&](std::size_t begin, std::size_t count, const auto& grid) {
            return kernels::nearest(x.data() + begin, out.data() + begin, count, grid);
        },
        [&](std::size_t begin, std::size_t count, const auto& grid, const std::uint16_t* random) {
            return kernels::stochastic(x.data() + begin, random, out.data() + begin, count, grid);
        });
}

QuantError Quantizer::error(std::span<const float> x, const QuantLayout& layout, int bits, const StreamKey& key) {
    require(bits < kFullBits && !float_format(options_, bits), "the error of {} bits, expected an integer width", bits);
    check_layout(x.size(), layout);
    bits_ = bits;
    choose_scales(x, layout, true);
    rounded_.resize(kChunk);
    QuantError sum;
    const auto add_error = [&](std::size_t begin, std::size_t count) {
        QuantError term;
        kernels::squared_error(x.data() + begin, rounded_.data(), count, term.error, term.signal);
        sum.error += term.error;
        sum.signal += term.signal;
    };
    round(
        x, key,
        [&](std::size_t begin, std::size_t count, const auto& grid) {
            const std::size_t clipped = kernels::nearest(x.data() + begin, rounded_.data(), count, grid);
            add_error(begin, count);
            return clipped;
        },
        [&](std::size_t begin, std::size_t count, const auto& grid, const std::uint16_t* random) {
            const std::size_t clipped = kernels::stochastic(x.data() + begin, random, rounded_.data(), count, grid);
            add_error(begin, count);
            return clipped;
        });
    return sum;
}

void Quantizer::round_floats(std::span<const float> x, std::span<float> out, const QuantLayout& layout,
                             FloatFormat format, const StreamKey& key, bool update_range) {
    if (format != FloatFormat::bf16) {
        observe(x, layout, update_range);
    } else {
        if (!all_finite(x))
            throw_not_finite(x);
        clip_.clear();
    }
    choose_format_scale(format);
    partition_ = {.blocks = 1, .block = x.size(), .channels = 1};
    const float scale = scales_.front().scale;
    round(
        x, key,
        [&](std::size_t begin, std::size_t count, const auto&) {
            return round_nearest(x.subspan(begin, count), out.subspan(begin, count), format, scale);
        },
        [&](std::size_t begin, std::size_t count, const auto&, const std::uint16_t* random) {
            return round_stochastic(x.subspan(begin, count), {random, count}, out.subspan(begin, count), format, scale);
        });
}

void Quantizer::encode(std::span<const float> x, std::span<std::uint8_t> codes, const QuantLayout& layout, int bits,
                       const StreamKey& key, bool signed_codes, bool update_range) {
    require(x.size() == codes.size(), "quantization of {} values into {}", x.size(), codes.size());
    require(bits >= 2 && bits <= 8 && !float_format(options_, bits),
            "codes of {} bits in a byte, expected integers of 2..8", bits);
    require(options_.granularity != Granularity::per_group, "the scheme {} has no codes", scheme_name(options_));
    require(signed_codes ? options_.symmetry == Symmetry::symmetric : options_.granularity != Granularity::per_channel,
            "the scheme {} has no {} codes", scheme_name(options_), signed_codes ? "signed" : "unsigned");
    check_layout(x.size(), layout);
    bits_ = bits;
    choose_scales(x, layout, update_range);
    const auto offset_at = [&](std::size_t begin) {
        return signed_codes ? 0 : offset(begin / (x.size() / clip_.size()));
    };
    round(
        x, key,
        [&]<typename Grid>(std::size_t begin, std::size_t count, const Grid& grid) {
            if constexpr (kHasCodes<Grid>)
                return kernels::encode_nearest(x.data() + begin, codes.data() + begin, count, grid, offset_at(begin));
            return std::size_t{0};
        },
        [&]<typename Grid>(std::size_t begin, std::size_t count, const Grid& grid, const std::uint16_t* random) {
            if constexpr (kHasCodes<Grid>)
                return kernels::encode_stochastic(x.data() + begin, random, codes.data() + begin, count, grid,
                                                  offset_at(begin));
            return std::size_t{0};
        });
}

std::int32_t Quantizer::offset(std::size_t index) const {
    return options_.symmetry == Symmetry::symmetric ? 1 << (bits_ - 1) : scales_[index].zero_point;
}

template <typename Nearest, typename Stochastic>
void Quantizer::round(std::span<const float> x, const StreamKey& key, const Nearest& nearest,
                      const Stochastic& stochastic) {
    clipped_ = 0;
    clipped_chunks_.assign((x.size() + kChunk - 1) / kChunk, 0);
    const auto count_clipped = [&](std::size_t begin, std::size_t clipped) {
        clipped_ += clipped;
        clipped_chunks_[begin / kChunk] |= clipped > 0 ? 1U : 0U;
    };
    if (options_.rounding == Rounding::nearest) {
        for_each_run(x.size(), [&](std::size_t begin, std::size_t count, const auto& grid) {
            count_clipped(begin, nearest(begin, count, grid));
        });
        return;
    }
    Stream stream(key);
    random_.resize(kChunk);
    for_each_run(x.size(), [&](std::size_t begin, std::size_t count, const auto& grid) {
        if (begin % kChunk == 0)
            stream.fill_halfwords(std::span(random_).first(std::min(kChunk, x.size() - begin)));
        count_clipped(begin, stochastic(begin, count, grid, random_.data() + begin % kChunk));
    });
}

void Quantizer::mark_clipped(std::span<const float> x, std::span<std::uint8_t> bits) const {
    require(bits.size() == (x.size() + 7) / 8, "{} bytes of marks for {} values", bits.size(), x.size());
    std::fill(bits.begin(), bits.end(), std::uint8_t{0});
    if (clipped_ == 0)
        return;
    for_each_run(x.size(), [&](std::size_t begin, std::size_t count, const auto& grid) {
        if (clipped_chunks_[begin / kChunk] != 0)
            kernels::mark(x.data() + begin, begin, count, grid, bits.data());
    });
}

void Quantizer::mask_gradient(std::span<const float> x, std::span<float> gradient, const QuantLayout& layout) const {
    require(x.size() == gradient.size(), "a mask of {} values for {}", x.size(), gradient.size());
    check_layout(x.size(), layout);
    if (clipped_ == 0)
        return;
    for_each_run(x.size(), [&](std::size_t begin, std::size_t count, const auto& grid) {
        kernels::mask(x.data() + begin, gradient.data() + begin, count, grid);
    });
}

void stop_marked(std::span<const std::uint8_t> bits, std::span<float> gradient) {
    for (std::size_t byte = 0; byte < bits.size(); ++byte)
        for (unsigned left = bits[byte]; left != 0; left &= left - 1)
            gradient[8 * byte + static_cast<std::size_t>(std::countr_zero(left))] = 0;
}

QuantError quant_error(std::span<const float> exact, std::span<const float> quantized) {
    require(exact.size() == quantized.size(), "the error between {} and {} values", exact.size(), quantized.size());
    QuantError result;
    kernels::squared_error(exact.data(), quantized.data(), exact.size(), result.error, result.signal);
    return result;
}

}  // namespace dither
