// The names of the choices and what widths stand for.
#include "core/quantize/quantizer.hpp"

#include <algorithm>
#include <array>

namespace dither {
namespace {

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
    ChoiceRow<Scheme>{"per_group_symmetric",
                      "a scale for each group_size values that a product sums over",
                      {Granularity::per_group, Symmetry::symmetric}},
    ChoiceRow<Scheme>{"per_group_affine",
                      "a scale and zero point for each group_size values that a product sums over",
                      {Granularity::per_group, Symmetry::affine}},
};

constexpr std::array kRoundings{
    ChoiceRow<Rounding>{"nearest", "ties to even", Rounding::nearest},
    ChoiceRow<Rounding>{"stochastic", "up or down by chance, right in the mean", Rounding::stochastic},
};

constexpr std::array kObservers{
    ChoiceRow<Observer>{"minmax", "the extremes of the tensor at hand", Observer::minmax},
    ChoiceRow<Observer>{"moving_average_minmax", "their moving average, 0.9 old and 0.1 new",
                        Observer::moving_average_minmax},
    ChoiceRow<Observer>{"percentile", "the range of the middle values, quantize.*.percentile on either side",
                        Observer::percentile},
    ChoiceRow<Observer>{"mse", "the part of the extremes' range whose codes have the least squared error",
                        Observer::mse},
    ChoiceRow<Observer>{"lsq", "a step size trained with the weights", Observer::lsq},
    ChoiceRow<Observer>{"lsq_plus", "a step size and an offset trained with the weights", Observer::lsq_plus},
    ChoiceRow<Observer>{"pact", "an upper clip trained with the weights, for values that are not negative",
                        Observer::pact},
};

constexpr std::array kExecutions{
    ChoiceRow<Execution>{"integer", "the processor's integer and bfloat16 units", Execution::integer},
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

bool is_integer_width(const QuantizerOptions& options, int bits) {
    return bits < 32 && !float_format(options, bits);
}

std::optional<FloatFormat> float_format(const QuantizerOptions& options, int bits) {
    if (bits == 16 && options.format16 != Format16::int16)
        return options.format16 == Format16::bf16 ? FloatFormat::bf16 : FloatFormat::fp16;
    if (bits == 8 && options.format8 != Format8::int8)
        return options.format8 == Format8::e4m3 ? FloatFormat::e4m3 : FloatFormat::e5m2;
    return std::nullopt;
}

bool is_learned(Observer observer) {
    return observer == Observer::lsq || observer == Observer::lsq_plus || observer == Observer::pact;
}

}  // namespace dither
