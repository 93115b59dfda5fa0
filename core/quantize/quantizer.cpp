#include "core/quantize/quantizer.hpp"

#include "core/error.hpp"
#include "core/precision/plan.hpp"
#include "core/quantize/detail/kernels.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace dither {
namespace {

/// Values whose random words are drawn at once: a whole number of stream blocks, small enough for the first cache.
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

void Quantizer::choose_scales() {
    scales_.resize(clip_.size());
    for (std::size_t g = 0; g < clip_.size(); ++g) {
        scales_[g] = choose_scale(clip_[g].low, clip_[g].high, bits_, options_.symmetry);
        clip_[g] = clip_range(clip_[g], scales_[g], bits_, options_.symmetry);
    }
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

template <typename Visit>
void Quantizer::for_each_run(std::size_t count, const Visit& visit) const {
    const bool by_channel = options_.granularity == Granularity::per_channel;
    const std::size_t period = by_channel ? columns_.size() / kGridArrays : count / clip_.size();
    for (std::size_t begin = 0, end = 0; begin < count; begin = end) {
        const std::size_t index = begin / period;
        end = std::min({count, (index + 1) * period, (begin / kChunk + 1) * kChunk});
        if (by_channel)
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
    observe(x, layout, update_range);
    choose_scales();
    if (options_.rounding == Rounding::nearest) {
        for_each_run(x.size(), [&](std::size_t begin, std::size_t count, const auto& grid) {
            clipped_ += kernels::nearest(x.data() + begin, out.data() + begin, count, grid);
        });
        return;
    }
    Stream stream(key);
    words_.resize(kChunk);
    for_each_run(x.size(), [&](std::size_t begin, std::size_t count, const auto& grid) {
        if (begin % kChunk == 0)
            stream.fill_words(std::span(words_).first(std::min(kChunk, x.size() - begin)));
        clipped_ +=
            kernels::stochastic(x.data() + begin, words_.data() + begin % kChunk, out.data() + begin, count, grid);
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

QuantError quant_error(std::span<const float> exact, std::span<const float> quantized) {
    require(exact.size() == quantized.size(), "the error between {} and {} values", exact.size(), quantized.size());
    QuantError result;
    kernels::squared_error(exact.data(), quantized.data(), exact.size(), result.error, result.signal);
    return result;
}

}  // namespace dither
