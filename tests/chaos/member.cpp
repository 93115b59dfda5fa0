#include "tests/chaos/member.hpp"

#include "core/error.hpp"

#include <fmt/format.h>

namespace dither::hostile {

Member::Member(const Setting& setting) : line_(setting) {
    line_.shake_hands();
    line_.say(Hello{.node = setting.as, .client = setting.client});
    const Message first = hear();
    const auto* welcome = std::get_if<Welcome>(&first);
    if (welcome == nullptr)
        throw FormatError(fmt::format("expected a Welcome, heard {}", name_of(first)));
    job_ = welcome->job;
    if (setting.data.empty())
        return;
    session_.emplace(SessionSetup{.node = setting.as, .client = setting.client, .data_path = setting.data});
    session_->handle(first);
}

std::optional<Update> Member::work() {
    while (session_->stopped() != kRunComplete) {
        Message heard = hear();
        std::optional<Message> answer = session_->handle(heard);
        if (auto* plan = std::get_if<RoundPlan>(&heard))
            plan_ = std::move(*plan);
        if (!answer)
            continue;
        if (auto* update = std::get_if<Update>(&*answer))
            return std::move(*update);
        line_.say(*answer);
    }
    return std::nullopt;
}

UpdateAck Member::hear_verdict() {
    for (;;) {
        const Message heard = hear();
        const auto* verdict = std::get_if<UpdateAck>(&heard);
        if (verdict == nullptr)
            continue;
        fmt::print("told {}\n", verdict->accepted ? "that it is accepted" : verdict->reason);
        return *verdict;
    }
}

Message Member::hear() {
    auto message = line_.hear();
    if (!message)
        throw IoError("the aggregator has ended the connection");
    return std::move(*message);
}

}  // namespace dither::hostile
