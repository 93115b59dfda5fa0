// A channel whose node pays for every byte that it says.
#pragma once

#include "node/daemon/uplink_budget.hpp"
#include "transport/hub.hpp"

#include <memory>

namespace dither {

/// Pays for each frame before it is sent, and settles the rest (UplinkBudget) when a message has been heard and when
/// the connection begins and ends. A task whose update is unlikely to fit into the day's budget never reaches the
/// session, and an update that does not fit is not sent: the aggregator hears Failed, with the reason, instead.
class MeteredChannel final : public Channel {
public:
    /// Borrows the budget.
    MeteredChannel(std::unique_ptr<Channel> channel, UplinkBudget& budget);
    ~MeteredChannel() override;
    MeteredChannel(const MeteredChannel&) = delete;
    MeteredChannel& operator=(const MeteredChannel&) = delete;

    std::optional<Message> receive() override;
    void send(const Message& message) override;

private:
    /// Says that it cannot afford the task of this round and client.
    void decline(std::uint32_t round, std::uint32_t client, std::uint64_t bytes);
    void pay_and_send(const Message& message);

    std::unique_ptr<Channel> channel_;
    UplinkBudget& budget_;
};

}  // namespace dither
