// Which of the federation's devices a client is.
#pragma once

#include <cstdint>
#include <span>

namespace dither {

struct DeviceOptions;

/// The row of [[federation.devices]] that `client` falls to, drawn by the shares, each client by itself; nullptr where
/// the rest of the shares does. A pure function of its arguments; points into `devices`.
const DeviceOptions* device_kind(std::span<const DeviceOptions> devices, std::uint32_t seed, std::uint32_t client);

}  // namespace dither
