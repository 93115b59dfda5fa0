// Each kind of layer is one row of a table: its keys, bound to the members of LayerOptions, and how it is appended to a
// chain. Reading, writing, help and errors follow from the row.
#include "core/model/detail/described.hpp"
#include "core/error.hpp"
#include "core/model/detail/chain.hpp"

#include <array>

namespace dither {
namespace {

using detail::NodeError;
using detail::Option;
using detail::OptionList;

constexpr std::int64_t kMostValues = 1 << 20;
constexpr std::int64_t kLongestKernel = 255;
constexpr std::string_view kDefault = "default";

struct LayerKind {
    std::string_view name;
    std::string_view meaning;
    std::string_view required;  ///< a key that has no default
    void (*declare)(OptionList&, LayerOptions&);
    void (*append)(Chain&, const LayerOptions&);
};

void declare_nothing(OptionList&, LayerOptions&) {}

void declare_linear(OptionList& list, LayerOptions& o) {
    list.integer("outputs", o.outputs, 0, kMostValues, "features that it gives; 0: as many as the data asks for");
    list.flag("bias", o.bias, "adds a learnt offset to each feature");
}

void declare_conv(OptionList& list, LayerOptions& o) {
    o.kernel = 3;
    o.stride = o.padding = o.groups = 1;
    list.integer("channels", o.channels, 1, kMostValues, "output channels");
    list.integer("kernel", o.kernel, 1, kLongestKernel, "height and width of the kernel");
    list.integer("stride", o.stride, 1, kLongestKernel, "pixels from one window to the next");
    list.integer("padding", o.padding, 0, kLongestKernel, "zeros around the image; kernel / 2 unless it is given");
    list.integer("groups", o.groups, 1, kMostValues,
                 "runs of channels that see each other; as many as input channels: depthwise");
    list.flag("bias", o.bias, "adds a learnt offset to each channel");
}

void declare_pool(OptionList& list, LayerOptions& o) {
    o.kernel = o.stride = 2;
    list.integer("kernel", o.kernel, 1, kLongestKernel, "height and width of the window");
    list.integer("stride", o.stride, 1, kLongestKernel, "from one window to the next; the kernel unless it is given");
    list.integer("padding", o.padding, 0, kLongestKernel, "around the image, at most kernel / 2; it does not count");
}

void declare_group_norm(OptionList& list, LayerOptions& o) {
    list.integer("groups", o.groups, 1, kMostValues, "runs of channels with statistics of their own");
}

void declare_dropout(OptionList& list, LayerOptions& o) {
    list.number("rate", o.rate, {0, 1, false, true}, "share of the values that is left out in training");
}

PoolWindow window_of(const LayerOptions& o) {
    return {.kernel = o.kernel, .stride = o.stride, .padding = o.padding};
}

void append_residual(Chain& chain, const LayerOptions& o);

constexpr std::array kKinds{
    LayerKind{"linear", "a fully connected layer", "", declare_linear,
              [](Chain& c, const LayerOptions& o) { c.linear(o.outputs > 0 ? o.outputs : c.input().outputs, o.bias); }},
    LayerKind{
        "conv2d", "a convolution", "channels", declare_conv,
        [](Chain& c, const LayerOptions& o) {
            c.conv(o.channels,
                   {.kernel = o.kernel, .stride = o.stride, .padding = o.padding, .groups = o.groups, .bias = o.bias});
        }},
    LayerKind{"relu", "max(x, 0)", "", declare_nothing, [](Chain& c, const LayerOptions&) { c.relu(); }},
    LayerKind{"relu6", "x between 0 and 6", "", declare_nothing, [](Chain& c, const LayerOptions&) { c.relu6(); }},
    LayerKind{"tanh", "the hyperbolic tangent", "", declare_nothing, [](Chain& c, const LayerOptions&) { c.tanh(); }},
    LayerKind{"hard_tanh", "x between -1 and 1", "", declare_nothing,
              [](Chain& c, const LayerOptions&) { c.hard_tanh(); }},
    LayerKind{"max_pool", "the maximum of each window", "", declare_pool,
              [](Chain& c, const LayerOptions& o) { c.max_pool(window_of(o)); }},
    LayerKind{"avg_pool", "the mean of each window", "", declare_pool,
              [](Chain& c, const LayerOptions& o) { c.average_pool(window_of(o)); }},
    LayerKind{"global_pool", "the mean of each channel over the image", "", declare_nothing,
              [](Chain& c, const LayerOptions&) { c.global_pool(); }},
    LayerKind{"batch_norm", "normalizes each channel; see model.norm_statistics", "", declare_nothing,
              [](Chain& c, const LayerOptions&) { c.batch_norm(); }},
    LayerKind{"group_norm", "normalizes each sample by groups of channels", "groups", declare_group_norm,
              [](Chain& c, const LayerOptions& o) { c.group_norm(o.groups); }},
    LayerKind{"dropout", "leaves values out at random", "", declare_dropout,
              [](Chain& c, const LayerOptions& o) { c.dropout(o.rate); }},
    LayerKind{"residual", "body(x) + shortcut(x), both lists of layers; without a shortcut, body(x) + x", "body",
              declare_nothing, append_residual},
};

const LayerKind& kind_of(std::string_view name) {
    return *std::ranges::find(kKinds, name, &LayerKind::name);
}

bool is_kind(std::string_view name) {
    return std::ranges::find(kKinds, name, &LayerKind::name) != kKinds.end();
}

std::string expected_kinds() {
    return expected_text(choices_of(kKinds));
}

// Reading.

std::vector<LayerOptions> read_layers(const toml::node& node, const std::string& place);

[[noreturn]] void fail(const toml::node& node, const std::string& place, const std::string& expected) {
    throw NodeError{node.source(), fmt::format("{}: expected {}, found {}", place, expected, detail::describe(node))};
}

/// The keys of `layer` that are options, with those of lists of layers as well, for the error about an unknown one.
OptionList keys_of(const LayerKind& kind, LayerOptions& layer) {
    OptionList list;
    kind.declare(list, layer);
    return list;
}

[[noreturn]] void fail_unknown(const toml::key& key, const std::string& place, const LayerKind& kind) {
    LayerOptions scratch;
    OptionList list = keys_of(kind, scratch);
    std::vector<std::string> extra{"kind"};
    if (kind.name == "residual")
        extra.insert(extra.end(), {"body", "shortcut"});
    for (const std::string& name : extra)
        list.add({.key = name});
    throw NodeError{key.source(), fmt::format("unknown key {}.{}; the nearest known one of a {} layer is {}", place,
                                              std::string(key.str()), kind.name, list.nearest(key.str()))};
}

const LayerKind& read_kind(const toml::table& table, const std::string& place) {
    const toml::node* node = table.get("kind");
    if (node == nullptr)
        throw NodeError{table.source(), fmt::format("{}.kind: expected {}, found none", place, expected_kinds())};
    const auto* name = node->as_string();
    if (name == nullptr || !is_kind(name->get()))
        fail(*node, place + ".kind", expected_kinds());
    return kind_of(name->get());
}

/// What follows from other keys where it is not given.
void fill_defaults(LayerOptions& layer, OptionList& list) {
    const Option* stride = list.find("stride");
    const Option* padding = list.find("padding");
    if (layer.kind == "conv2d" && padding->where == kDefault)
        layer.padding = layer.kernel / 2;
    if (layer.kind.ends_with("_pool") && stride != nullptr && stride->where == kDefault)
        layer.stride = layer.kernel;
}

void read_key(LayerOptions& layer, OptionList& list, const toml::key& key, const toml::node& node,
              const std::string& place) {
    const std::string name(key.str());
    const std::string here = fmt::format("{}.{}", place, name);
    if (layer.kind == "residual" && (name == "body" || name == "shortcut")) {
        (name == "body" ? layer.body : layer.shortcut) = read_layers(node, here);
        return;
    }
    Option* option = list.find(name);
    if (option == nullptr)
        fail_unknown(key, place, kind_of(layer.kind));
    if (!option->assign(node))
        fail(node, here, option->expected);
    option->where = "given";
}

LayerOptions read_layer(const toml::table& table, const std::string& place) {
    const LayerKind& kind = read_kind(table, place);
    LayerOptions layer{.kind = std::string(kind.name)};
    OptionList list = keys_of(kind, layer);
    for (const auto& [key, node] : table)
        if (key.str() != "kind")
            read_key(layer, list, key, node, place);
    if (!kind.required.empty() && !table.contains(kind.required))
        throw NodeError{table.source(),
                        fmt::format("{}: a {} layer needs the key {}", place, kind.name, kind.required)};
    if (kind.name == "residual" && layer.body.empty())
        fail(*table.get("body"), place + ".body", "a list of at least one layer");
    fill_defaults(layer, list);
    return layer;
}

std::vector<LayerOptions> read_layers(const toml::node& node, const std::string& place) {
    const toml::array* array = node.as_array();
    if (array == nullptr)
        fail(node, place, "a list of tables, one for each layer");
    std::vector<LayerOptions> layers;
    for (const toml::node& element : *array) {
        const std::string here = fmt::format("{}[{}]", place, layers.size());
        const toml::table* table = element.as_table();
        if (table == nullptr)
            fail(element, here, "a table");
        layers.push_back(read_layer(*table, here));
    }
    return layers;
}

// Writing.

std::string list_of(std::span<const LayerOptions> layers);

/// A TOML inline table with every key.
std::string text_of(const LayerOptions& layer) {
    LayerOptions bound{.kind = layer.kind};
    const OptionList list = keys_of(kind_of(layer.kind), bound);  // sets the kind's defaults first
    bound = layer;
    std::string text = fmt::format("{{ kind = {}", toml_text(layer.kind));
    for (const Option& option : list.all())
        text += fmt::format(", {} = {}", option.key, option.text());
    if (layer.kind == "residual")
        text += fmt::format(", body = {}, shortcut = {}", list_of(layer.body), list_of(layer.shortcut));
    return text + " }";
}

std::string list_of(std::span<const LayerOptions> layers) {
    std::vector<std::string> texts;
    for (const LayerOptions& layer : layers)
        texts.push_back(text_of(layer));
    return fmt::format("[{}]", fmt::join(texts, ", "));
}

// Building.

void append_layers(Chain& chain, std::span<const LayerOptions> layers) {
    for (const LayerOptions& layer : layers)
        kind_of(layer.kind).append(chain, layer);
}

void append_residual(Chain& chain, const LayerOptions& o) {
    chain.residual([&](Chain& way) { append_layers(way, o.body); },
                   [&](Chain& way) { append_layers(way, o.shortcut); });
}

}  // namespace

Option detail::layers_option(const std::string& key, std::vector<LayerOptions>& layers) {
    return {.key = key,
            .expected = "a list of tables, [[" + key + "]], each with a kind and that kind's keys:",
            .meaning = "the network, layer by layer, for the model \"layers\"",
            .text = [&layers] { return list_of(layers); },
            .assign =
                [&layers, key](const toml::node& node) {
                    layers = read_layers(node, key);
                    return true;
                },
            .choices = {}};
}

std::string detail::describe_layers() {
    std::string text;
    for (const LayerKind& kind : kKinds) {
        text += fmt::format("        {}: {}\n", kind.name, kind.meaning);
        LayerOptions defaults{.kind = std::string(kind.name)};
        const OptionList list = keys_of(kind, defaults);
        for (const Option& option : list.all())
            text +=
                fmt::format("            {}{}: {} ({})\n", option.key,
                            option.key == kind.required ? "" : " = " + option.text(), option.meaning, option.expected);
    }
    return text;
}

std::unique_ptr<Model> make_described_model(Chain& chain, const ModelOptions& options) {
    for (std::size_t i = 0; i < options.layers.size(); ++i) {
        const LayerOptions& layer = options.layers[i];
        if (!is_kind(layer.kind))
            fail_choice(fmt::format("model.layers[{}].kind", i), choices_of(kKinds), layer.kind);
        try {
            kind_of(layer.kind).append(chain, layer);
        } catch (const PreconditionError& error) {
            throw InputError(
                fmt::format("model.layers[{}] ({}) takes {}: {}", i, layer.kind, chain.shape().str(), error.what()));
        }
    }
    const Shape outputs{1, chain.input().outputs};
    if (chain.shape() != outputs)
        throw InputError(fmt::format("model.layers: the last layer gives {}, but the data asks for {} values a sample",
                                     chain.shape().str(), chain.input().outputs));
    return chain.build();
}

}  // namespace dither
