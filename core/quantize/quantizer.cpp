#include "core/quantize/quantizer.hpp"

#include "core/error.hpp"
#include "core/precision/plan.hpp"
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
/// Channels are repeated side by side up to at least so many, so that narrow layers run full vectors too.
constexpr std::size_t kPattern = 256;
/// The arrays of kernels::GridArrays.
constexpr std::size_t kGridArrays = 5;
/// Weight of the past in the moving average of a range.
constexpr float kRangeMemory = 0.9F;

struct Scheme {
    Granularity granularity;
    Symmetry symmetry;

    bool operator==(const Scheme&) const = default;
};

constexpr std::array kSchemes{
    ChoiceRow<Scheme>{
        "per_tensor_symmetric", "one scale, zero in the middle", {Granularity::per_tensor, Symmetry::symmetric}},
    ChoiceRow<Scheme>{"per_tensor_affine", "one scale and zero point", {Granularity::per_tensor, Symmetry::affine}},
    ChoiceRow<Scheme>{
        "per_channel_symmetric", "a scale for each output channel", {Granularity::per_channel, Symmetry::symmetric}},
    ChoiceRow<Scheme>{"per_channel_affine",
                      "a scale and zero point for each output channel",
                      {Granularity::per_channel, Symmetry::affine}},
    ChoiceRow<Scheme>{
        "per_sample_symmetric", "a scale for each sample of a batch", {Granularity::per_sample, Symmetry::symmetric}},
    ChoiceRow<Scheme>{"per_sample_affine",
                      "a scale and zero point for each sample of a batch",
                      {Granularity::per_sample, Symmetry::affine}},
};

constexpr std::array kRoundings{
    ChoiceRow<Rounding>{"nearest", "ties to even", Rounding::nearest},
    ChoiceRow<Rounding>{"stochastic", "up or down by chance, right in the mean", Rounding::stochastic},
};

constexpr std::array kObservers{
    ChoiceRow<Observer>{"minmax", "the extremes of the tensor at hand", Observer::minmax},
    ChoiceRow<Observer>{"moving_average_minmax", "their moving average, 0.9 old and 0.1 new",
                        Observer::moving_average_minmax},
};

constexpr std::array kExecutions{
    ChoiceRow<Execution>{"integer", "the processor's integer units", Execution::integer},
    ChoiceRow<Execution>{"simulated", "fp32 on the rounded values, the reference", Execution::simulated},
};

constexpr std::array kFormats16{
    ChoiceRow<Format16>{"bf16", "the upper half of fp32, no scale", Format16::bf16},
    ChoiceRow<Format16>{"fp16", "IEEE 754 binary16, a power-of-two scale for each tensor", Format16::fp16},
    ChoiceRow<Format16>{"int16", "integers, with the scheme of the tensor", Format16::int16},
};

constexpr std::array kFormats8{
    ChoiceRow<Format8>{"int8", "integers, with the scheme of the tensor", Format8::int8},
    ChoiceRow<Format8>{"e4m3", "4 bits of exponent, 3 of mantissa, a power-of-two scale for each tensor",
                       Format8::e4m3},
    ChoiceRow<Format8>{"e5m2", "5 bits of exponent, 2 of mantissa, a power-of-two scale for each tensor",
                       Format8::e5m2},
};

/// Codes counted from the zero point: q - zero_point.
struct CodeRange {
    int low = 0;
    int high = 0;
};

CodeRange code_range(int bits, Symmetry symmetry, int zero_point) {
    if (symmetry == Symmetry::symmetric) {
        const int limit = (1 << (bits - 1)) - 1;
        return {-limit, limit};
    }
    return {-zero_point, (1 << bits) - 1 - zero_point};
}

/// Covers what was observed and what the codes reach: rounding of scale and zero point must not clip the extremes.
ClipRange clip_range(const ClipRange& observed, const ScaleZero& grid, int bits, Symmetry symmetry) {
    const CodeRange codes = code_range(bits, symmetry, grid.zero_point);
    const float bound = std::max(std::abs(observed.low), std::abs(observed.high));
    const ClipRange data = symmetry == Symmetry::symmetric ? ClipRange{-bound, bound} : observed;
    return {std::min(data.low, grid.scale * static_cast<float>(codes.low)),
            std::max(data.high, grid.scale * static_cast<float>(codes.high))};
}

ClipRange blend(const ClipRange& past, const ClipRange& now) {
    return {kRangeMemory * past.low + (1 - kRangeMemory) * now.low,
            kRangeMemory * past.high + (1 - kRangeMemory) * now.high};
}

std::size_t group_count(Granularity granularity, const QuantLayout& layout) {
    switch (granularity) {
        case Granularity::per_channel:
            return layout.columns;
        case Granularity::per_sample:
            return layout.samples;
        case Granularity::per_tensor:
            break;
    }
    return 1;
}

std::size_t pattern_of(std::size_t columns) {
    return columns * ((kPattern + columns - 1) / columns);
}

void check_layout(std::size_t count, const QuantLayout& layout) {
    require(layout.rows * layout.columns == count, "a layout of {} x {} for {} values", layout.rows, layout.columns,
            count);
    require(layout.samples > 0 && layout.rows % layout.samples == 0, "{} rows do not split into {} samples",
            layout.rows, layout.samples);
}

[[noreturn]] void throw_not_finite(std::span<const float> x) {
    const auto bad = std::find_if(x.begin(), x.end(), [](float value) { return !std::isfinite(value); });
    throw TrainingError(fmt::format("cannot quantize {}, the value at {} of {}", *bad, bad - x.begin(), x.size()));
}

kernels::Grid grid_of(const ScaleZero& scale, const ClipRange& clip, int bits, Symmetry symmetry) {
    const CodeRange codes = code_range(bits, symmetry, scale.zero_point);
    return {scale.scale, static_cast<float>(codes.low), static_cast<float>(codes.high), clip.low, clip.high};
}

/// The grids of `columns_`: five arrays of `pattern` values, one after the other.
kernels::GridArrays arrays_of(const std::vector<float>& columns, std::size_t offset) {
    const std::size_t pattern = columns.size() / kGridArrays;
    const float* first = columns.data() + offset;
    return {first, first + pattern, first + 2 * pattern, first + 3 * pattern, first + 4 * pattern};
}

}  // namespace

std::string_view scheme_name(const QuantizerOptions& options) {
    const Scheme scheme{options.granularity, options.symmetry};
    return std::ranges::find(kSchemes, scheme, &ChoiceRow<Scheme>::value)->name;
}

bool set_scheme(QuantizerOptions& options, std::string_view name) {
    const auto row = std::ranges::find(kSchemes, name, &ChoiceRow<Scheme>::name);
    if (row == kSchemes.end())
        return false;
    options.granularity = row->value.granularity;
    options.symmetry = row->value.symmetry;
    return true;
}

std::vector<Choice> scheme_choices() {
    return choices_of(kSchemes);
}

std::vector<Choice> rounding_choices() {
    return choices_of(kRoundings);
}

std::vector<Choice> observer_choices() {
    return choices_of(kObservers);
}

std::vector<Choice> execution_choices() {
    return choices_of(kExecutions);
}

std::vector<Choice> format16_choices() {
    return choices_of(kFormats16);
}

std::vector<Choice> format8_choices() {
    return choices_of(kFormats8);
}

std::optional<FloatFormat> float_format(const QuantizerOptions& options, int bits) {
    if (bits == 16 && options.format16 != Format16::int16)
        return options.format16 == Format16::bf16 ? FloatFormat::bf16 : FloatFormat::fp16;
    if (bits == 8 && options.format8 != Format8::int8)
        return options.format8 == Format8::e4m3 ? FloatFormat::e4m3 : FloatFormat::e5m2;
    return std::nullopt;
}

ScaleZero choose_scale(float low, float high, int bits, Symmetry symmetry) {
    require(bits >= 2 && bits <= 16, "quantization to {} bits, expected 2..16", bits);
    require(std::isfinite(low) && std::isfinite(high), "quantization range [{}, {}] is not finite", low, high);
    const double lowest = std::min(0.0, static_cast<double>(low));
    const double highest = std::max(0.0, static_cast<double>(high));
    const CodeRange codes = code_range(bits, symmetry, 0);
    const double width = symmetry == Symmetry::symmetric ? std::max(-lowest, highest) : highest - lowest;
    if (width == 0)
        return {};
    // A subnormal scale would lose its precision, and a range below it is zero for every practical purpose.
    const float scale = std::max(static_cast<float>(width / codes.high), std::numeric_limits<float>::min());
    if (symmetry == Symmetry::symmetric)
        return {scale, 0};
    return {scale, std::clamp(static_cast<int>(std::lrint(-lowest / static_cast<double>(scale))), 0, codes.high)};
}

void Quantizer::reset() {
    observed_.clear();
}

void Quantizer::measure(std::span<const float> x, const QuantLayout& layout) {
    measured_.assign(group_count(options_.granularity, layout), ClipRange{});
    const bool finite = options_.granularity == Granularity::per_channel ? measure_columns(x) : measure_blocks(x);
    if (!finite)
        throw_not_finite(x);
}

bool Quantizer::measure_blocks(std::span<const float> x) {
    const std::size_t size = x.size() / measured_.size();
    bool finite = true;
    for (std::size_t g = 0; g < measured_.size(); ++g) {
        const kernels::Extremes found = kernels::extremes(x.data() + g * size, size);
        measured_[g] = {found.low, found.high};
        finite &= found.finite;
    }
    return finite;
}

bool Quantizer::measure_columns(std::span<const float> x) {
    const std::size_t pattern = pattern_of(measured_.size());
    columns_.assign(kGridArrays * pattern, 0.0F);
    float* low = columns_.data();
    float* high = low + pattern;
    bool finite = true;
    for (std::size_t i = 0; i < x.size(); i += pattern)
        finite &= kernels::widen(x.data() + i, std::min(pattern, x.size() - i), low, high);
    for (std::size_t i = 0; i < pattern; ++i) {
        ClipRange& range = measured_[i % measured_.size()];
        range = {std::min(range.low, low[i]), std::max(range.high, high[i])};
    }
    return finite;
}

void Quantizer::observe(std::span<const float> x, const QuantLayout& layout, bool update_range) {
    const bool remembers = options_.granularity != Granularity::per_sample;
    const std::size_t groups = group_count(options_.granularity, layout);
    require(!remembers || observed_.empty() || observed_.size() == groups, "{} ranges observed, {} needed",
            observed_.size(), groups);
    if (remembers && !update_range && !observed_.empty()) {
        if (!all_finite(x))
            throw_not_finite(x);
        clip_ = observed_;
        return;
    }
    measure(x, layout);
    clip_ = measured_;
    if (!remembers || !update_range)
        return;
    if (options_.observer == Observer::moving_average_minmax && !observed_.empty())
        for (std::size_t g = 0; g < groups; ++g)
            clip_[g] = blend(observed_[g], measured_[g]);
    observed_ = clip_;
}

/// Raises each scale to the largest one divided by a power of two. Samples that are all zero have no scale of their
/// own.
void Quantizer::align_scales() {
    const auto zero = [&](std::size_t g) { return measured_[g] == ClipRange{}; };
    float largest = 0;
    for (std::size_t g = 0; g < scales_.size(); ++g)
        largest = zero(g) ? largest : std::max(largest, scales_[g].scale);
    for (std::size_t g = 0; g < scales_.size() && largest > 0; ++g) {
        const int halvings = zero(g) ? 0 : std::min(std::ilogb(largest / scales_[g].scale), kScaleSpan);
        scales_[g].scale = std::ldexp(largest, -halvings);
        clip_[g] = clip_range(clip_[g], scales_[g], bits_, options_.symmetry);
    }
}

void Quantizer::choose_scales() {
    scales_.resize(clip_.size());
    for (std::size_t g = 0; g < clip_.size(); ++g) {
        scales_[g] = choose_scale(clip_[g].low, clip_[g].high, bits_, options_.symmetry);
        clip_[g] = clip_range(clip_[g], scales_[g], bits_, options_.symmetry);
    }
    if (options_.granularity == Granularity::per_sample && options_.symmetry == Symmetry::symmetric)
        align_scales();
    if (options_.granularity != Granularity::per_channel)
        return;
    const std::size_t pattern = pattern_of(clip_.size());
    columns_.resize(kGridArrays * pattern);
    for (std::size_t i = 0; i < pattern; ++i) {
        const std::size_t g = i % clip_.size();
        const kernels::Grid grid = grid_of(scales_[g], clip_[g], bits_, options_.symmetry);
        columns_[i] = grid.scale;
        columns_[i + pattern] = grid.code_low;
        columns_[i + 2 * pattern] = grid.code_high;
        columns_[i + 3 * pattern] = grid.clip_low;
        columns_[i + 4 * pattern] = grid.clip_high;
    }
}

/// One scale for all groups, whatever the granularity.
void Quantizer::choose_format_scale(FloatFormat format) {
    float largest = 0;
    for (const ClipRange& range : clip_)
        largest = std::max({largest, -range.low, range.high});
    const float scale = choose_float_scale(largest, format);
    const float bound = scale * limits_of(format).largest;
    scales_.assign(1, {.scale = scale});
    clip_.assign(1, {-bound, bound});
}

bool Quantizer::by_channel() const {
    return options_.granularity == Granularity::per_channel && !float_format(options_, bits_);
}

template <typename Visit>
void Quantizer::for_each_run(std::size_t count, const Visit& visit) const {
    const bool channels = by_channel();
    const std::size_t period = channels ? columns_.size() / kGridArrays : count / clip_.size();
    for (std::size_t begin = 0, end = 0; begin < count; begin = end) {
        const std::size_t index = begin / period;
        end = std::min({count, (index + 1) * period, (begin / kChunk + 1) * kChunk});
        if (channels)
            visit(begin, end - begin, arrays_of(columns_, begin - index * period));
        else
            visit(begin, end - begin, grid_of(scales_[index], clip_[index], bits_, options_.symmetry));
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
    observe(x, layout, update_range);
    choose_scales();
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
    observe(x, layout, true);
    choose_scales();
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
    require(signed_codes ? options_.symmetry == Symmetry::symmetric : options_.granularity != Granularity::per_channel,
            "the scheme {} has no {} codes", scheme_name(options_), signed_codes ? "signed" : "unsigned");
    check_layout(x.size(), layout);
    bits_ = bits;
    observe(x, layout, update_range);
    choose_scales();
    const auto offset_at = [&](std::size_t begin) {
        return signed_codes ? 0 : offset(begin / (x.size() / clip_.size()));
    };
    round(
        x, key,
        [&](std::size_t begin, std::size_t count, const auto& grid) {
            return kernels::encode_nearest(x.data() + begin, codes.data() + begin, count, grid, offset_at(begin));
        },
        [&](std::size_t begin, std::size_t count, const auto& grid, const std::uint16_t* random) {
            return kernels::encode_stochastic(x.data() + begin, random, codes.data() + begin, count, grid,
                                              offset_at(begin));
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
