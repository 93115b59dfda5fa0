// What a node can execute, and the plan that fits it. A node that cannot run a plan gets the nearest one that it can;
// its update travels on the round's grid like all others, so that the sum stays exact whatever each node ran.
#pragma once

#include "core/model/schema.hpp"
#include "core/precision/plan.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace dither {

struct DeviceOptions;
struct QuantizeOptions;

struct Device {
    std::vector<int> widths;   ///< that it executes, ascending, each 2..16 or 32; empty: all
    std::uint64_t memory = 0;  ///< bytes that a training step may take; 0: not said
    float speed = 0;           ///< samples a second that it trained last; 0: not said

    bool operator==(const Device&) const = default;
};

/// No device has more widths: 2..16 and 32.
inline constexpr std::uint8_t kMostWidths = 16;

/// What both can execute: the widths that they share, the smaller memory, the lower speed. Where they share no width,
/// b's: it is what a node says of itself that must not be broken.
Device common(const Device& a, const Device& b);

/// Whether a device of these widths (empty: all) executes those that the job fixes whatever the plan: no plan could be
/// fitted otherwise.
bool executes_fixed_bits(std::span<const int> widths, const QuantizeOptions& quantize);

/// Which of the federation's devices `client` is: drawn by the shares, each client by itself; everything where the rest
/// of the shares falls to it. A pure function of its arguments.
Device device_of(std::span<const DeviceOptions> devices, std::uint32_t seed, std::uint32_t client);

/// Bytes of a training step of `batch` samples: 16 for each trained parameter (value, gradient and two moments of the
/// optimizer), 4 for others, and the inputs that layers keep for the backward pass: a byte a value where that pass has
/// codes of up to 8 bits, else 4. An estimate.
std::uint64_t step_memory(const Schema& schema, const PrecisionPlan& plan, std::uint64_t batch);

/// The plan that a node runs in place of `plan`: each width of a local phase raised to the next that the device
/// executes, or lowered to its widest; then, while step_memory exceeds its memory, the layer that keeps most gets the
/// widest backward codes of up to 8 bits that the device has. The links' bits stay. Where that is not enough, the
/// result is the plan that takes the least.
PrecisionPlan fit(const PrecisionPlan& plan, const Device& device, const Schema& schema, std::uint64_t batch);

}  // namespace dither
