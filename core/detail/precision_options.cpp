#include "core/detail/precision_options.hpp"

#include "core/precision/curvature.hpp"
#include "core/precision/device.hpp"
#include "core/precision/plan.hpp"
#include "core/precision/policy.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <charconv>
#include <limits>
#include <optional>

namespace dither::detail {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr Interval kPositive{0, kInfinity, true};
constexpr Interval kShare{0, 1, true};  // (0, 1]

void declare_measurements(OptionList& list, PrecisionOptions& precision) {
    list.integer("precision.curvature_every", precision.curvature_every, 1,
                 "rounds between the measurements that cost extra work: curvature, sensitivity");
    list.integer("precision.curvature_clients", precision.curvature_clients, 1,
                 "clients of a cohort that make them; with three or more, one that lies cannot decide "
                 "unless precision.combine is mean");
    list.integer(
        "precision.probe_samples", precision.probe_samples, 1,
        "samples of its own that a client measures on, at most: never more than a batch, and fewer, down to 8, where "
        "measuring would take more than half of the time that its training took");
    list.choice("precision.curvature_method", precision.curvature_method, curvature_method_choices(),
                "how products with the Hessian are computed");
    list.choice(
        "precision.combine", precision.combine,
        {{"mean", "weighted means; the clients are trusted"},
         {"clipped", "means of values within a factor of 4 of the clients' median, no weight above 4 of theirs"},
         {"median", "medians, one vote a client"}},
        "how the clients' statistics become the federation's");
    list.number("precision.smoothing", precision.smoothing, kShare, "weight of the newest round in moving averages");
}

void declare_guard(OptionList& list, PrecisionOptions& precision) {
    list.number(
        "precision.guard_loss", precision.guard_loss, {0, kInfinity},
        "a round whose training loss is so many times the best one (plus 1), and above the first round's, goes back "
        "to the last good model, with more bits; 0: never");
    list.number("precision.guard_saturation", precision.guard_saturation, kShare,
                "a layer of which such a share of the quantized values is clipped gets more bits");
}

// [[federation.devices]].

constexpr std::uint64_t kMostMemory = std::numeric_limits<std::int64_t>::max();
constexpr Interval kAmount{};             // [0, infinity)
constexpr double kShareTolerance = 1e-9;  // 0.7 + 0.2 + 0.1 is 1

struct MemoryUnit {
    std::string_view name;
    std::uint64_t bytes;
};
constexpr std::array kMemoryUnits{MemoryUnit{"GiB", std::uint64_t{1} << 30}, MemoryUnit{"MiB", std::uint64_t{1} << 20},
                                  MemoryUnit{"KiB", std::uint64_t{1} << 10}};

[[noreturn]] void fail(const toml::node& node, const std::string& place, std::string_view expected) {
    throw NodeError{node.source(), fmt::format("{}: expected {}, found {}", place, expected, describe(node))};
}

std::optional<std::uint64_t> parse_memory(const toml::node& node) {
    if (const auto* bytes = node.as_integer())
        return bytes->get() < 0 ? std::nullopt : std::optional(static_cast<std::uint64_t>(bytes->get()));
    const auto* text = node.as_string();
    if (text == nullptr)
        return std::nullopt;
    const std::string_view written = text->get();
    std::uint64_t count = 0;
    const auto [end, error] = std::from_chars(written.data(), written.data() + written.size(), count);
    const std::string_view name = written.substr(static_cast<std::size_t>(end - written.data()));
    const auto unit = std::ranges::find(kMemoryUnits, name, &MemoryUnit::name);
    if (error != std::errc{} || unit == kMemoryUnits.end() || count > kMostMemory / unit->bytes)
        return std::nullopt;
    return count * unit->bytes;
}

std::optional<std::vector<int>> parse_device_widths(const toml::node& node) {
    const toml::array* array = node.as_array();
    if (array == nullptr)
        return std::nullopt;
    std::vector<int> widths;
    for (const toml::node& element : *array) {
        const auto width = element.is_integer() ? element.value<std::int64_t>() : std::nullopt;
        const bool is_width = width && ((*width >= 2 && *width <= 16) || *width == kFullBits);
        if (!is_width || (!widths.empty() && *width <= widths.back()))
            return std::nullopt;
        widths.push_back(static_cast<int>(*width));
    }
    return widths;
}

/// The keys of one device.
OptionList device_keys(DeviceOptions& device) {
    OptionList list;
    list.number("share", device.share, kShare, "of the clients, drawn by the seed");
    list.add({.key = "widths",
              .expected = "an ascending list of bit widths, each 2 .. 16 or 32",
              .meaning = "that it executes; []: all",
              .text = [&device] { return fmt::format("[{}]", fmt::join(device.widths, ", ")); },
              .assign =
                  [&device](const toml::node& node) {
                      const auto widths = parse_device_widths(node);
                      device.widths = widths.value_or(device.widths);
                      return widths.has_value();
                  },
              .choices = {}});
    list.add({.key = "memory",
              .expected = "an integer >= 0 or a text such as \"64MiB\" (KiB, MiB, GiB)",
              .meaning = "bytes that a training step may take; 0: no limit",
              .text = [&device] { return fmt::format("{}", device.memory); },
              .assign =
                  [&device](const toml::node& node) {
                      const auto memory = parse_memory(node);
                      device.memory = memory.value_or(device.memory);
                      return memory.has_value();
                  },
              .choices = {}});
    list.number("speed", device.speed, kAmount, "samples a second that it trains, in simulated time; 0: no time");
    list.number("spread", device.spread, kAmount, "deviation of the logarithm of its clients' speeds around that");
    list.number("uplink", device.uplink, kAmount, "Mb/s, in simulated time; 0: no time");
    list.number("downlink", device.downlink, kAmount, "likewise");
    list.number("dropout", device.dropout, {0, 1, false, true}, "the share of its rounds in which it never answers");
    return list;
}

DeviceOptions read_device(const toml::table& table, const std::string& place) {
    DeviceOptions device;
    OptionList keys = device_keys(device);
    for (const auto& [key, node] : table) {
        const std::string here = fmt::format("{}.{}", place, key.str());
        Option* option = keys.find(key.str());
        if (option == nullptr)
            throw NodeError{key.source(),
                            fmt::format("unknown key {}; the nearest known one is {}", here, keys.nearest(key.str()))};
        if (!option->assign(node))
            fail(node, here, option->expected);
    }
    if (!table.contains("share"))
        throw NodeError{table.source(), fmt::format("{}: a device needs the key share", place)};
    return device;
}

std::vector<DeviceOptions> read_devices(const toml::array& array, const std::string& key) {
    std::vector<DeviceOptions> devices;
    double sum = 0;
    for (const toml::node& element : array) {
        const std::string place = fmt::format("{}[{}]", key, devices.size());
        if (!element.is_table())
            fail(element, place, "a table");
        devices.push_back(read_device(*element.as_table(), place));
        sum += devices.back().share;
        if (sum > 1 + kShareTolerance)
            throw NodeError{element.as_table()->get("share")->source(),
                            fmt::format("{}.share: the shares up to here sum to {}, expected at most 1", place, sum)};
    }
    return devices;
}

std::string text_of(std::span<const DeviceOptions> devices) {
    std::vector<std::string> tables;
    for (DeviceOptions device : devices) {
        const OptionList keys = device_keys(device);
        std::vector<std::string> settings;
        for (const Option& option : keys.all())
            settings.push_back(fmt::format("{} = {}", option.key, option.text()));
        tables.push_back(fmt::format("{{ {} }}", fmt::join(settings, ", ")));
    }
    return fmt::format("[{}]", fmt::join(tables, ", "));
}

}  // namespace

Option devices_option(const std::string& key, std::vector<DeviceOptions>& devices) {
    return {.key = key,
            .expected = "a list of tables, [[" + key + "]], each with these keys:",
            .meaning =
                "what shares of the clients can execute; a client that cannot run the plan gets the nearest one "
                "that it can",
            .text = [&devices] { return text_of(devices); },
            .assign =
                [&devices, key](const toml::node& node) {
                    const toml::array* array = node.as_array();
                    if (array == nullptr)
                        return false;
                    devices = read_devices(*array, key);
                    return true;
                },
            .choices = {}};
}

std::string describe_devices() {
    DeviceOptions defaults;
    const OptionList keys = device_keys(defaults);
    std::string text;
    for (const Option& option : keys.all())
        text += fmt::format("        {}{}: {} ({})\n", option.key, option.key == "share" ? "" : " = " + option.text(),
                            option.meaning, option.expected);
    return text;
}

void declare_precision(OptionList& list, PrecisionOptions& precision) {
    list.choice("precision.policy", precision.policy, policy_choices(), "who decides the bits of each layer and phase");
    list.integer("precision.bits", precision.bits, 2, 32,
                 "uniform: forward, backward and optimizer, one of precision.levels; range: the local phases, and the "
                 "uplink's first; curvature, numgeom, learned, hawq: where they start; hawq: also the mean width, "
                 "unless precision.bit_budget gives one");
    list.integer("precision.backward_bits", precision.backward_bits, 0, 32,
                 "uniform: backward, one of precision.levels; 0: as precision.bits");
    list.levels("precision.levels", precision.levels, "the widths that a plan may use; 32 is fp32");
    list.integer("precision.margin_bits", precision.margin_bits, 0, 16, "curvature, numgeom_literal: bits of safety");
    list.number("precision.target_error", precision.target_error, kPositive,
                "numgeom, learned: the cheapest plan whose predicted error of a step, relative to the smoothed "
                "gradient, stays below this");
    list.number(
        "precision.backward_tolerance", precision.backward_tolerance, kPositive,
        "numgeom: largest relative error that rounding may make in an output gradient; it averages out over the "
        "batch");
    list.number("precision.bit_budget", precision.bit_budget, {0, 32},
                "largest mean width of forward and backward work, whatever the policy says; 0: none");
    list.integer("precision.byte_budget", precision.byte_budget, 0,
                 "largest number of bytes of a round, both directions and all clients together; 0: none");
    list.number(
        "precision.uplink_noise", precision.uplink_noise, {0, kInfinity},
        "grids with bits = \"auto\": the quantization noise of the mean update, as a share of the variance that "
        "the clients' own disagreement gives it; 0: they follow codec.*.rate instead");
    list.integer(
        "precision.warmup_rounds", precision.warmup_rounds, 0,
        "numgeom_literal: rounds at fp32 first; with 0 the rule decides from the second round, too, since the first "
        "one measures");
    declare_measurements(list, precision);
    declare_guard(list, precision);
}

}  // namespace dither::detail
