#include "core/precision/device.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/precision/device_kind.hpp"
#include "core/rng.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>

namespace dither {
namespace {

constexpr int kCodeBits = 8;  // a byte
constexpr std::array kLocalPhases{Phase::forward, Phase::backward, Phase::optimizer};
constexpr std::uint64_t kTrainedBytes = 16;
constexpr std::uint64_t kUntrainedBytes = 4;

/// 0 stands for what is not said.
template <typename T>
T smaller(T a, T b) {
    return a == 0 || b == 0 ? std::max(a, b) : std::min(a, b);
}

std::uint64_t kept_bytes(const LayerSpec& layer, const LayerBits& bits, std::uint64_t batch) {
    return static_cast<std::uint64_t>(layer.inputs) * batch * (bits.backward <= kCodeBits ? 1 : 4);
}

void check_layers(const PrecisionPlan& plan, const Schema& schema) {
    require(plan.layers.size() == schema.layer_count(), "a plan for {} layers, the model has {}", plan.layers.size(),
            schema.layer_count());
}

/// `widths` ascend; at least one.
int nearest_width(int bits, std::span<const int> widths) {
    const auto next = std::lower_bound(widths.begin(), widths.end(), bits);
    return next == widths.end() ? widths.back() : *next;
}

/// Of up to 8 bits; none if the device has no such codes.
std::optional<int> widest_codes(const Device& device) {
    if (device.widths.empty())
        return kCodeBits;
    const auto end = std::upper_bound(device.widths.begin(), device.widths.end(), kCodeBits);
    return end == device.widths.begin() ? std::nullopt : std::optional(*std::prev(end));
}

/// The layer whose kept inputs would shrink most; none if all are codes already.
std::optional<std::size_t> largest_kept_whole(const Schema& schema, const PrecisionPlan& plan) {
    std::optional<std::size_t> largest;
    for (std::size_t i = 0; i < plan.layers.size(); ++i) {
        const double inputs = schema.layers()[i].inputs;
        const bool whole = inputs > 0 && plan.layers[i].backward > kCodeBits;
        if (whole && (!largest || inputs > schema.layers()[*largest].inputs))
            largest = i;
    }
    return largest;
}

bool has_fixed_bits(std::span<const int> widths, const QuantizeOptions& options) {
    const std::array fixed{options.weights.bits, options.activations.bits, options.gradients.bits,
                           options.optimizer_bits};
    return std::ranges::all_of(fixed, [&](int bits) {
        return bits == 0 || widths.empty() || std::ranges::find(widths, bits) != widths.end();
    });
}

}  // namespace

Device common(const Device& a, const Device& b) {
    Device both{.widths = {}, .memory = smaller(a.memory, b.memory), .speed = smaller(a.speed, b.speed)};
    if (a.widths.empty() || b.widths.empty())
        both.widths = a.widths.empty() ? b.widths : a.widths;
    else
        std::ranges::set_intersection(a.widths, b.widths, std::back_inserter(both.widths));
    if (both.widths.empty())
        both.widths = b.widths;
    return both;
}

bool executes_fixed_bits(std::span<const int> widths, const QuantizeOptions& quantize) {
    return has_fixed_bits(widths, quantize) && std::ranges::all_of(quantize.layers, [&](const LayerOverride& layer) {
               QuantizeOptions alone;
               alone.layers = {{.match = "*", .settings = layer.settings}};
               return has_fixed_bits(widths, options_for(alone, ""));
           });
}

const DeviceOptions* device_kind(std::span<const DeviceOptions> devices, std::uint32_t seed, std::uint32_t client) {
    if (devices.empty())
        return nullptr;
    const double drawn = Stream({.seed = seed, .purpose = Purpose::device, .client = client}).uniform();
    double end = 0;
    for (const DeviceOptions& device : devices)
        if (drawn < (end += device.share))
            return &device;
    return nullptr;
}

Device device_of(std::span<const DeviceOptions> devices, std::uint32_t seed, std::uint32_t client) {
    const DeviceOptions* kind = device_kind(devices, seed, client);
    return kind == nullptr ? Device{} : Device{.widths = kind->widths, .memory = kind->memory};
}

std::uint64_t step_memory(const Schema& schema, const PrecisionPlan& plan, std::uint64_t batch) {
    check_layers(plan, schema);
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < plan.layers.size(); ++i) {
        const LayerSpec& layer = schema.layers()[i];
        const std::size_t trained = layer.trained_count();
        bytes += kTrainedBytes * trained + kUntrainedBytes * (layer.count - trained);
        bytes += kept_bytes(layer, plan.layers[i], batch);
    }
    return bytes;
}

PrecisionPlan fit(const PrecisionPlan& plan, const Device& device, const Schema& schema, std::uint64_t batch) {
    check_layers(plan, schema);
    PrecisionPlan fitted = plan;
    if (!device.widths.empty())
        for (LayerBits& bits : fitted.layers)
            for (const Phase phase : kLocalPhases)
                bits[phase] = nearest_width(bits[phase], device.widths);
    const std::optional<int> codes = widest_codes(device);
    while (device.memory > 0 && codes && step_memory(schema, fitted, batch) > device.memory) {
        const std::optional<std::size_t> layer = largest_kept_whole(schema, fitted);
        if (!layer)
            break;
        fitted.layers[*layer].backward = *codes;
    }
    return fitted;
}

}  // namespace dither
