#include "core/detail/quantize_options.hpp"

#include "core/error.hpp"

#include <fnmatch.h>

#include <algorithm>
#include <initializer_list>

namespace dither {
namespace detail {
namespace {

/// The tensors whose rounding the options describe.
enum class Operand { weights, activations, gradients };

/// Weights have no samples that could each have a scale.
std::vector<Choice> schemes_of(Operand operand) {
    std::vector<Choice> schemes = scheme_choices();
    if (operand == Operand::weights)
        std::erase_if(schemes, [](const Choice& scheme) { return scheme.name.starts_with("per_sample"); });
    return schemes;
}

/// What has no gradient of its own cannot be trained; clips that are learnt from above are for activations.
std::vector<Choice> observers_of(Operand operand) {
    std::vector<Choice> observers = observer_choices();
    std::erase_if(observers, [operand](const Choice& observer) {
        if (operand == Operand::gradients)
            return observer.name.starts_with("lsq") || observer.name == "pact";
        return operand == Operand::weights && (observer.name == "lsq_plus" || observer.name == "pact");
    });
    return observers;
}

void declare_quantizer(OptionList& list, const std::string& table, QuantizerOptions& options, Operand operand) {
    list.choice(
        table + ".scheme", [&options] { return scheme_name(options); },
        [&options](std::string_view name) { set_scheme(options, name); }, schemes_of(operand),
        "which values share a scale, and whether codes are symmetric about zero");
    const std::vector<Choice> all = observer_choices();
    list.choice(
        table + ".observer", [&options, all] { return all[static_cast<std::size_t>(options.observer)].name; },
        [&options, all](std::string_view name) {
            options.observer = static_cast<Observer>(std::ranges::find(all, name, &Choice::name) - all.begin());
        },
        observers_of(operand), "how the clip range is found");
    declare_enum(list, table + ".rounding", options.rounding, rounding_choices(), "how values are rounded to codes");
    list.plan_bits(table + ".bits", options.bits, "wherever the plan has less than 32; \"plan\": as many as the plan");
    list.integer(table + ".group_size", options.group_size, 2, 1 << 16, "per_group: values that share a scale");
    list.flag(table + ".power_of_two", options.power_of_two, "scales are powers of two (MX)");
    list.number(table + ".percentile", options.percentile, {50, 100, true},
                "percentile: share of the values, in percent, that the range holds on either side");
}

/// One option for the three quantizers.
template <typename Format>
void declare_format(OptionList& list, std::string key, QuantizeOptions& quantize, Format QuantizerOptions::*member,
                    const std::vector<Choice>& choices, std::string meaning) {
    list.choice(
        std::move(key),
        [&quantize, member, choices] { return choices[static_cast<std::size_t>(quantize.weights.*member)].name; },
        [&quantize, member, choices](std::string_view name) {
            const auto format = static_cast<Format>(std::ranges::find(choices, name, &Choice::name) - choices.begin());
            for (QuantizerOptions* options : {&quantize.weights, &quantize.activations, &quantize.gradients})
                options->*member = format;
        },
        choices, std::move(meaning));
}

[[noreturn]] void fail(const toml::node& node, const std::string& place, std::string_view expected) {
    throw NodeError{node.source(), fmt::format("{}: expected {}, found {}", place, expected, describe(node))};
}

/// Reads the keys of `table` into `settings`, those of tables within it with a dotted name.
void read_settings(const toml::table& table, const std::string& prefix, const std::string& place, OptionList& keys,
                   LayerOverride& override) {
    for (const auto& [key, node] : table) {
        const std::string name = prefix + std::string(key.str());
        const std::string here = fmt::format("{}.{}", place, name);
        if (name == "match")
            continue;
        if (Option* option = keys.find(name)) {
            if (!option->assign(node))
                fail(node, here, option->expected);
            override.settings.emplace_back(name, option->text());
        } else if (keys.is_table(name) && node.is_table()) {
            read_settings(*node.as_table(), name + '.', place, keys, override);
        } else if (keys.is_table(name)) {
            fail(node, here, "a table");
        } else {
            throw NodeError{key.source(),
                            fmt::format("unknown key {}; the nearest known one is {}", here, keys.nearest(name))};
        }
    }
}

LayerOverride read_override(const toml::table& table, const std::string& place) {
    const toml::node* match = table.get("match");
    if (match == nullptr)
        throw NodeError{
            table.source(),
            fmt::format("{}.match: expected a layer's name or a pattern such as \"conv*\", found none", place)};
    if (!match->is_string() || match->as_string()->get().empty())
        fail(*match, place + ".match", "a layer's name or a pattern such as \"conv*\"");
    LayerOverride override{.match = match->as_string()->get(), .settings = {}};
    QuantizeOptions scratch;
    OptionList keys;
    declare_quantize(keys, "", scratch);
    read_settings(table, "", place, keys, override);
    return override;
}

std::string text_of(std::span<const LayerOverride> overrides) {
    std::vector<std::string> tables;
    for (const LayerOverride& override : overrides) {
        std::string text = fmt::format("{{ match = {}", toml_text(override.match));
        for (const auto& [key, value] : override.settings)
            text += fmt::format(", {} = {}", key, value);
        tables.push_back(text + " }");
    }
    return fmt::format("[{}]", fmt::join(tables, ", "));
}

}  // namespace

void declare_quantize(OptionList& list, const std::string& prefix, QuantizeOptions& quantize) {
    declare_quantizer(list, prefix + "weights", quantize.weights, Operand::weights);
    declare_quantizer(list, prefix + "activations", quantize.activations, Operand::activations);
    declare_quantizer(list, prefix + "gradients", quantize.gradients, Operand::gradients);
    list.plan_bits(prefix + "optimizer_bits", quantize.optimizer_bits,
                   "of the optimizer's state, wherever the plan has less than 32; \"plan\": as many as the plan");
    declare_enum(list, prefix + "execution", quantize.execution, execution_choices(),
                 "what multiplies codes of up to 8 bits");
    declare_format(list, prefix + "format16", quantize, &QuantizerOptions::format16, format16_choices(),
                   "what 16 bits stand for");
    declare_format(list, prefix + "format8", quantize, &QuantizerOptions::format8, format8_choices(),
                   "what 8 bits stand for; other widths are integers'");
}

Option overrides_option(const std::string& key, std::vector<LayerOverride>& overrides) {
    return {.key = key,
            .expected = "a list of tables, [[" + key +
                        "]], each with `match`, a layer's name or a shell's pattern (conv*, fc[12]), and keys of "
                        "[quantize] that hold for those layers",
            .meaning = "other options for some layers; later ones win",
            .text = [&overrides] { return text_of(overrides); },
            .assign =
                [&overrides, key](const toml::node& node) {
                    const toml::array* array = node.as_array();
                    if (array == nullptr)
                        return false;
                    overrides.clear();
                    for (const toml::node& element : *array) {
                        const std::string place = fmt::format("{}[{}]", key, overrides.size());
                        if (!element.is_table())
                            fail(element, place, "a table");
                        overrides.push_back(read_override(*element.as_table(), place));
                    }
                    return true;
                },
            .choices = {}};
}

}  // namespace detail

bool matches(const LayerOverride& override, std::string_view name) {
    return fnmatch(override.match.c_str(), std::string(name).c_str(), 0) == 0;
}

QuantizeOptions options_for(const QuantizeOptions& quantize, std::string_view name) {
    QuantizeOptions options = quantize;
    options.layers.clear();
    detail::OptionList keys;
    detail::declare_quantize(keys, "", options);
    for (const LayerOverride& override : quantize.layers) {
        if (!matches(override, name))
            continue;
        for (const auto& [key, value] : override.settings) {
            detail::Option* option = keys.find(key);
            require(option != nullptr && option->assign(*toml::parse("v = " + value).get("v")),
                    "quantize.layers: {} = {} is no option of a layer", key, value);
        }
    }
    return options;
}

}  // namespace dither
