#include "node/daemon/metered_channel.hpp"

#include <fmt/format.h>

#include <exception>
#include <utility>

#include "transport/frame.hpp"

namespace dither {

MeteredChannel::MeteredChannel(std::unique_ptr<Channel> channel, UplinkBudget& budget)
    : channel_(std::move(channel)), budget_(budget) {
    budget_.settle();
}

MeteredChannel::~MeteredChannel() {
    channel_.reset();  // says its last
    try {
        budget_.settle_for_good();
    } catch (const std::exception&) {  // the next connection settles it
    }
}

std::optional<Message> MeteredChannel::receive() {
    while (std::optional<Message> message = channel_->receive()) {
        budget_.settle();
        const auto* plan = std::get_if<RoundPlan>(&*message);
        if (plan == nullptr || budget_.may_fit())
            return message;
        decline(plan->round, plan->client, budget_.last_update());
    }
    return std::nullopt;
}

void MeteredChannel::send(const Message& message) {
    const auto* update = std::get_if<Update>(&message);
    if (update == nullptr)
        return pay_and_send(message);
    const std::size_t bytes = encode_frame(message).size();
    if (budget_.take_update(bytes))
        channel_->send(message);
    else
        decline(update->round, update->client, bytes);
}

void MeteredChannel::decline(std::uint32_t round, std::uint32_t client, std::uint64_t bytes) {
    pay_and_send(
        Failed{.round = round,
               .client = client,
               .reason = fmt::format("of today's uplink budget of {} bytes {} are left, and an update takes {}",
                                     budget_.bytes_a_day(), budget_.left(), bytes)});
}

void MeteredChannel::pay_and_send(const Message& message) {
    budget_.take(encode_frame(message).size());
    channel_->send(message);
}

}  // namespace dither
