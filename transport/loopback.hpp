// Hub and channels inside one process: frames really are encoded, checked and decoded, and only the wire is missing.
#pragma once

#include "transport/hub.hpp"

#include <memory>

namespace dither {

/// Thread-safe where it must be: the hub is used by one thread and each channel by its own. Channels may outlive the
/// hub.
class LoopbackHub final : public Hub {
public:
    LoopbackHub();
    ~LoopbackHub() override;

    /// A new peer; call from the hub's thread. Destroying the channel is the peer's loss.
    std::unique_ptr<Channel> connect();

    std::optional<HubEvent> next_event(Clock::time_point deadline) override;
    std::size_t send(PeerId peer, const Message& message) override;
    void admit(PeerId peer, const FrameLimits& limits) override;
    void drop(PeerId peer, const std::string& reason) override;
    void close() override;

private:
    struct State;
    class End;                      ///< a peer's
    std::shared_ptr<State> state_;  ///< shared with the channels: whichever end lives longer
};

}  // namespace dither
