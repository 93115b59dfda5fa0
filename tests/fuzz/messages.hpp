// One message of every type, to begin with.
#pragma once

#include "transport/messages.hpp"

#include <vector>

namespace dither::fuzz {

inline std::vector<Message> sample_messages() {
    const std::vector<std::byte> payload(9, std::byte{0x5a});
    RoundPlan plan{.round = 3, .client = 2, .counted = 1, .base = 1, .plan = PrecisionPlan::uniform(2, 8)};
    plan.uplink_steps = {0.5F, 0.25F};
    plan.probe = Probe::curvature;
    plan.parts = {{.round = 2, .steps = {1, 2}, .payload = payload, .control = ControlStep{.keep = 0.5F, .gain = -1}},
                  {.round = 3}};
    RoundPlan whole{.round = 3, .client = 2, .plan = PrecisionPlan::uniform(2, 8), .control = payload};
    whole.parts = {{.round = 3, .payload = payload}};
    Update update{.round = 3, .client = 2, .payload = payload};
    update.report = {.samples = 600, .steps = 19, .train_loss = 0.5F, .held_out = {.samples = 60, .accuracy = 0.5F}};
    update.report.layers.resize(2);
    return {
        Hello{.node = "edge-7", .client = 2, .device = {.widths = {4, 8, 32}, .memory = 1 << 20, .speed = 100}},
        Welcome{"[job]\nseed = 1\n", 2},
        plan,
        whole,
        update,
        Failed{.round = 3, .client = 2, .diverged = true, .reason = "the loss is nan"},
        UpdateAck{.round = 3, .client = 2, .accepted = true},
        RoundCommitted{.round = 3, .client = 2},
        Stop{"done"},
        Heartbeat{},
    };
}

}  // namespace dither::fuzz
