#include "examples/evaluate/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

namespace dither {
namespace {

using Json = nlohmann::ordered_json;  // keys as they are written down

constexpr double kPicojoule = 1e-12;

/// A value and a unit with a prefix, "827.7 kB"; `step` between the prefixes.
std::string human(double value, const char* unit) {
    constexpr std::array<const char*, 8> kPrefixes{"p", "n", "u", "m", "", "k", "M", "G"};
    std::size_t prefix = 4;
    while (value != 0 && std::abs(value) < 1 && prefix > 0) {
        value *= 1000;
        --prefix;
    }
    while (std::abs(value) >= 1000 && prefix + 1 < kPrefixes.size()) {
        value /= 1000;
        ++prefix;
    }
    return fmt::format("{:.4g} {}{}", value, kPrefixes[prefix], unit);
}

std::string percent(const std::optional<double>& share) {
    return share ? fmt::format("{:.2f} %", 100 * *share) : "";
}

std::string decimal(const std::optional<double>& value) {
    return value ? fmt::format("{:.4g}", *value) : "";
}

std::string times(double value, double of) {
    return of > 0 ? fmt::format("{:.4g} of fp32", value / of) : "";
}

std::string range_of(std::span<const LayerReport> layers, int LayerReport::*bits, char operand) {
    int low = 32;
    int high = 0;
    for (const LayerReport& layer : layers)
        if (layer.macs > 0) {
            low = std::min(low, layer.*bits);
            high = std::max(high, layer.*bits);
        }
    return low == high ? fmt::format("{}{}", operand, low) : fmt::format("{}{}..{}", operand, low, high);
}

std::string common(std::span<const LayerReport> layers, std::string LayerReport::*scheme) {
    std::string name;
    for (const LayerReport& layer : layers) {
        const std::string& own = layer.*scheme;
        if (own.empty() || own == name)
            continue;
        if (!name.empty())
            return " mixed";
        name = own;
    }
    return name.empty() ? "" : ' ' + name;
}

class Table {
public:
    explicit Table(const Report& report) : report_(report) {}

    std::string text() {
        head();
        variants();
        layers();
        corruptions();
        errors();
        flatness();
        conversion();
        return std::move(text_);
    }

private:
    template <typename... Args>
    void line(fmt::format_string<Args...> format, Args&&... args) {
        std::string line = fmt::format(format, std::forward<Args>(args)...);
        line.erase(line.find_last_not_of(' ') + 1);
        text_ += line + '\n';
    }

    void head() {
        const std::string state = report_.kind == "checkpoint"
                                      ? fmt::format("round {}{}", report_.round, report_.averaged ? ", averaged" : "")
                                      : "converted";
        line("\n{}: {} ({}), {} samples of {}", report_.name, report_.model, state, report_.samples, report_.data);
        if (report_.quantized)
            line("  {}{}", in_words(report_.layers),
                 report_.calibration > 0 ? fmt::format(", ranges of {} training samples", report_.calibration) : "");
    }

    /// A row of a value that every variant has; `note` compares.
    template <typename Value>
    void row(std::string_view name, const Value& value, const std::string& note = "") {
        const std::string full = report_.fp32 ? value(*report_.fp32) : std::string("-");
        const std::string few = report_.quantized ? value(*report_.quantized) : std::string("-");
        if (!full.empty() || !few.empty())
            line("  {:<22} {:>14} {:>14}   {}", name, full, few, note);
    }

    std::string against_fp32(double Variant::*value) const {
        return report_.fp32 && report_.quantized ? times((*report_.quantized).*value, (*report_.fp32).*value) : "";
    }

    void variants() {
        line("\n  {:<22} {:>14} {:>14}", "", "fp32", "quantized");
        row("accuracy", [](const Variant& v) { return percent(v.quality.accuracy); });
        row("loss", [](const Variant& v) { return fmt::format("{:.4f}", v.quality.loss); });
        row("RMSE", [](const Variant& v) { return v.quality.errors ? decimal(v.quality.errors->rmse) : ""; });
        row("MAE", [](const Variant& v) { return v.quality.errors ? decimal(v.quality.errors->mae) : ""; });
        row("R2", [](const Variant& v) { return v.quality.errors ? decimal(v.quality.errors->r2) : ""; });
        row(
            "parameters' bytes", [](const Variant& v) { return human(v.bytes, "B"); }, against_fp32(&Variant::bytes));
        row(
            "bits per parameter",
            [&](const Variant& v) {
                return fmt::format("{:.3f}", 8 * v.bytes / static_cast<double>(report_.parameters));
            },
            fmt::format("{} parameters", report_.parameters));
        row(
            "bit-operations", [](const Variant& v) { return fmt::format("{:.4g}", v.bit_ops); },
            fmt::format("of {:.4g} multiply-accumulates a sample", report_.macs));
        row(
            "energy, arithmetic", [](const Variant& v) { return human(v.arithmetic_pj * kPicojoule, "J"); },
            "estimate at 45 nm (Horowitz 2014), a sample");
        row(
            "energy, weights read", [](const Variant& v) { return human(v.weights_pj * kPicojoule, "J"); },
            "once, from the smallest memory that holds them");
        row(
            "latency", [](const Variant& v) { return v.speed ? human(v.speed->latency_seconds, "s") : "-"; },
            fmt::format("one sample on {}", report_.cpu));
        row(
            "samples a second",
            [](const Variant& v) { return v.speed ? fmt::format("{:.0f}", v.speed->per_second) : "-"; },
            fmt::format("in batches of {}, {}", report_.batch, report_.instructions));
        if (!report_.no_integer_form.empty())
            line("  no integer form: {}", report_.no_integer_form);
    }

    void layers() {
        line("\n  {:<12} {:>10} {:>8} {:>11}   {:<22} {:<22} {}", "layer", "parameters", "weights", "activations",
             "weights' scheme", "activations' scheme", "observer");
        for (const LayerReport& layer : report_.layers)
            line("  {:<12} {:>10} {:>8} {:>11}   {:<22} {:<22} {}", layer.name, layer.parameters, layer.weight_bits,
                 layer.activation_bits, layer.scheme, layer.activations, layer.observer);
    }

    void corruptions() {
        if (report_.corruptions.empty())
            return;
        line("\n  {:<22} {:>14} {:>14}", "corruption", "fp32", "quantized");
        const auto accuracy = [](const std::optional<Quality>& quality) {
            return quality ? percent(quality->accuracy) : std::string("-");
        };
        for (const CorruptionReport& row : report_.corruptions)
            line("  {:<22} {:>14} {:>14}", to_string(row.corruption), accuracy(row.fp32), accuracy(row.quantized));
    }

    void errors() {
        if (report_.errors.empty())
            return;
        line("\n  rounding errors at {} bits (distance: Kolmogorov's, to the fitted Gaussian)", report_.errors_bits);
        line("  {:<12} {:<12} {:>11} {:>11} {:>9} {:>9} {:>9} {:>10} {:>10}", "layer", "operand", "mean", "deviation",
             "skewness", "kurtosis", "distance", "a/w errors", "relative");
        for (const LayerErrors& layer : report_.errors) {
            error_row(layer.name, "weights", layer.weights, "", "");
            error_row("", "activations", layer.activations, fmt::format("{:.3g}", layer.absolute_ratio),
                      fmt::format("{:.3g}", layer.relative_ratio));
        }
    }

    void error_row(std::string_view layer, std::string_view operand, const ErrorDistribution& error,
                   const std::string& absolute, const std::string& relative) {
        line("  {:<12} {:<12} {:>11.3g} {:>11.3g} {:>9.3f} {:>9.3f} {:>9.4f} {:>10} {:>10}", layer, operand, error.mean,
             error.deviation, error.skewness, error.excess_kurtosis, error.kolmogorov, absolute, relative);
    }

    void flatness() {
        if (!report_.flatness)
            return;
        const FlatnessReport& flatness = *report_.flatness;
        line("\n  loss along {} random directions, steps in norms of a filter", flatness.directions);
        for (std::size_t i = 0; i < flatness.along.radii.size(); ++i)
            line("  {:<22} {:>14.4f}", flatness.along.radii[i], flatness.along.loss[i]);
        line("\n  norm of each layer's block of the Hessian, on {} samples", flatness.hessian_samples);
        for (const FlatnessReport::Layer& layer : flatness.layers)
            line("  {:<22} {:>14.4g}", layer.name, layer.hessian_norm);
    }

    void conversion() {
        if (!report_.conversion)
            return;
        const ConversionReport& converted = *report_.conversion;
        const double fp32 = 4 * static_cast<double>(report_.parameters);
        line("\n  {:<22} {:>14} {:>14}   {}", converted.file.empty() ? "as integer model" : converted.file, "",
             human(static_cast<double>(converted.bytes), "B"), times(static_cast<double>(converted.bytes), fp32));
        if (converted.samples > 0)
            line("  {} of {} samples give the same bits in integer and in simulated inference", converted.identical,
                 converted.samples);
    }

    const Report& report_;
    std::string text_;
};

Json number(const std::optional<double>& value) {
    return value ? Json(*value) : Json(nullptr);
}

Json json_of(const Quality& quality) {
    Json json{{"accuracy", number(quality.accuracy)}, {"loss", quality.loss}};
    if (quality.errors) {
        json["rmse"] = quality.errors->rmse;
        json["mae"] = quality.errors->mae;
        json["r2"] = number(quality.errors->r2);
    }
    return json;
}

Json json_of(const std::optional<Quality>& quality) {
    return quality ? json_of(*quality) : Json(nullptr);
}

Json json_of(const std::optional<Variant>& variant, std::size_t parameters) {
    if (!variant)
        return nullptr;
    Json json = json_of(variant->quality);
    json["bytes"] = variant->bytes;
    json["bits_per_parameter"] = 8 * variant->bytes / static_cast<double>(parameters);
    json["bit_ops"] = variant->bit_ops;
    json["energy_estimate_joules"] = {{"arithmetic", variant->arithmetic_pj * kPicojoule},
                                      {"weights_read", variant->weights_pj * kPicojoule}};
    json["latency_seconds"] = variant->speed ? Json(variant->speed->latency_seconds) : Json(nullptr);
    json["samples_per_second"] = variant->speed ? Json(variant->speed->per_second) : Json(nullptr);
    return json;
}

Json json_of(const LayerReport& layer) {
    return {{"name", layer.name},
            {"parameters", layer.parameters},
            {"weight_bits", layer.weight_bits},
            {"activation_bits", layer.activation_bits},
            {"weights_scheme", layer.scheme},
            {"activations_scheme", layer.activations},
            {"activations_observer", layer.observer},
            {"bytes", layer.bytes},
            {"macs", layer.macs},
            {"bit_ops", layer.bit_ops},
            {"energy_estimate_joules", layer.arithmetic_pj * kPicojoule}};
}

Json json_of(const CorruptionReport& row) {
    return {{"kind", name_of(row.corruption.kind)},
            {"severity", row.corruption.severity},
            {"fp32", json_of(row.fp32)},
            {"quantized", json_of(row.quantized)}};
}

Json json_of(const ErrorDistribution& error) {
    return {{"count", error.count},
            {"mean", error.mean},
            {"deviation", error.deviation},
            {"standardized", error.standardized},
            {"skewness", error.skewness},
            {"excess_kurtosis", error.excess_kurtosis},
            {"kolmogorov", error.kolmogorov},
            {"share", error.share},
            {"normal_share", error.normal_share}};
}

Json json_of(const LayerErrors& layer) {
    return {{"name", layer.name},
            {"weights", json_of(layer.weights)},
            {"activations", json_of(layer.activations)},
            {"weight_rms", layer.weight_rms},
            {"activation_rms", layer.activation_rms},
            {"weight_error_rms", layer.weight_error_rms},
            {"activation_error_rms", layer.activation_error_rms},
            {"absolute_ratio", layer.absolute_ratio},
            {"relative_ratio", layer.relative_ratio}};
}

Json json_of(const FlatnessReport& flatness) {
    Json layers = Json::array();
    for (const FlatnessReport::Layer& layer : flatness.layers)
        layers.push_back({{"name", layer.name}, {"hessian_norm", layer.hessian_norm}});
    std::vector<double> rise = flatness.along.loss;
    for (double& loss : rise)
        loss -= flatness.along.loss.front();
    return {{"directions", flatness.directions},
            {"radii", flatness.along.radii},
            {"loss", flatness.along.loss},
            {"loss_rise", rise},
            {"hessian_samples", flatness.hessian_samples},
            {"hessian_norm", flatness.hessian_norm()},
            {"layers", layers}};
}

/// The middle of each bin of a histogram of errors; those beyond either end a bin further out.
std::vector<double> bin_centers() {
    constexpr double kWidth = 2 * kErrorSpan / kErrorBins;
    std::vector<double> centers;
    for (std::size_t bin = 0; bin < kErrorBins + 2; ++bin)
        centers.push_back(-kErrorSpan + (static_cast<double>(bin) - 0.5) * kWidth);
    return centers;
}

Json json_of(const std::optional<ConversionReport>& conversion, std::size_t parameters) {
    if (!conversion)
        return nullptr;
    Json json{{"file", conversion->file},
              {"bytes", conversion->bytes},
              {"share_of_fp32", static_cast<double>(conversion->bytes) / (4 * static_cast<double>(parameters))}};
    if (conversion->samples > 0) {
        json["identical"] = conversion->identical;
        json["compared"] = conversion->samples;
    }
    return json;
}

template <typename Rows>
Json list_of(const Rows& rows) {
    Json list = Json::array();
    for (const auto& row : rows)
        list.push_back(json_of(row));
    return list;
}

}  // namespace

std::string in_words(std::span<const LayerReport> layers) {
    return fmt::format("{}{}, {}{}", range_of(layers, &LayerReport::weight_bits, 'W'),
                       common(layers, &LayerReport::scheme), range_of(layers, &LayerReport::activation_bits, 'A'),
                       common(layers, &LayerReport::activations));
}

double FlatnessReport::hessian_norm() const {
    double largest = 0;
    for (const Layer& layer : layers)
        largest = std::max(largest, layer.hessian_norm);
    return largest;
}

std::string to_table(const Report& report) {
    return Table(report).text();
}

std::string to_json(const Report& report) {
    Json json{{"model", report.model},
              {"kind", report.kind},
              {"name", report.name},
              {"round", report.round},
              {"averaged", report.averaged},
              {"data", report.data},
              {"samples", report.samples},
              {"calibration_samples", report.calibration},
              {"cpu", report.cpu},
              {"backend", report.instructions},
              {"batch", report.batch},
              {"parameters", report.parameters},
              {"macs", report.macs},
              {"fp32", json_of(report.fp32, report.parameters)},
              {"quantized", json_of(report.quantized, report.parameters)}};
    json["layers"] = list_of(report.layers);
    json["corruptions"] = list_of(report.corruptions);
    json["no_integer_form"] = report.no_integer_form;
    json["converted"] = json_of(report.conversion, report.parameters);
    if (!report.errors.empty())
        json["errors"] = {{"bits", report.errors_bits},
                          {"histogram_span_deviations", kErrorSpan},
                          {"centers", bin_centers()},
                          {"layers", list_of(report.errors)}};
    if (report.flatness)
        json["flatness"] = json_of(*report.flatness);
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';  // names may be any bytes
}

}  // namespace dither
