#include "aggregator/round.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <utility>

namespace dither {

namespace {

constexpr std::size_t index_of(Round::ClientState state) {
    return static_cast<std::size_t>(state);
}

}  // namespace

Round::Round(std::uint32_t number, std::vector<std::uint32_t> asked, const RoundRules& rules)
    : number_(number), asked_(std::move(asked)), states_(asked_.size(), ClientState::pending), rules_(rules) {
    std::sort(asked_.begin(), asked_.end());
    require(std::adjacent_find(asked_.begin(), asked_.end()) == asked_.end(), "round {} asks a client twice", number_);
    require(rules_.divergence >= 1, "round {} is abandoned after no divergence, expected at least one", number_);
    require(rules_.quorum >= 1 && rules_.quorum <= rules_.cohort && rules_.cohort <= asked_.size(),
            "round {} needs 1 <= quorum <= cohort <= asked, got {}, {}, {}", number_, rules_.quorum, rules_.cohort,
            asked_.size());
    counts_[index_of(ClientState::pending)] = static_cast<std::uint32_t>(asked_.size());
}

std::vector<RoundAction> Round::handle(const RoundEvent& event) {
    Actions actions;
    std::visit([&](const auto& e) { on(e, actions); }, event);
    return actions;
}

void Round::on(const round_event::UpdateArrived& event, Actions& actions) {
    if (!leave_pending(event.client, ClientState::accepted)) {
        actions.push_back(round_action::Refuse{event.client, why_refused(event.client)});
        return;
    }
    actions.push_back(round_action::Accept{event.client});
    settle({}, actions);
}

void Round::on(const round_event::ClientLost& event, Actions& actions) {
    if (leave_pending(event.client, ClientState::lost))
        settle(fmt::format("client {} is lost: {}", event.client, event.reason), actions);
}

void Round::on(const round_event::UpdateRefused& event, Actions& actions) {
    if (!leave_pending(event.client, ClientState::refused)) {
        actions.push_back(round_action::Refuse{event.client, why_refused(event.client)});
        return;
    }
    actions.push_back(round_action::Refuse{event.client, event.reason});
    settle(fmt::format("client {} was refused: {}", event.client, event.reason), actions);
}

void Round::on(const round_event::ClientDiverged& event, Actions& actions) {
    if (!leave_pending(event.client, ClientState::lost))
        return;
    const std::string cause = fmt::format("client {} diverged: {}", event.client, event.reason);
    if (++diverged_ < rules_.divergence)
        return settle(cause, actions);
    const std::string others = diverged_ > 1 ? fmt::format("{} clients diverged; ", diverged_) : "";
    end(round_action::Abandon{.reason = others + cause, .diverged = true}, actions);
}

void Round::on(const round_event::DeadlineReached&, Actions& actions) {
    if (ended_)
        return;
    const std::uint32_t accepted = count(ClientState::accepted);
    if (accepted >= rules_.quorum)
        end(round_action::Close{}, actions);
    else
        end(round_action::Abandon{.reason = fmt::format("the deadline came with {} updates of the {} needed", accepted,
                                                        rules_.quorum)},
            actions);
}

bool Round::asked(std::uint32_t client) const {
    return find(client) != asked_.size();
}

Round::ClientState Round::state_of(std::uint32_t client) const {
    const std::size_t place = find(client);
    require(place != asked_.size(), "round {} did not ask client {}", number_, client);
    return states_[place];
}

std::uint32_t Round::count(ClientState state) const {
    return counts_[index_of(state)];
}

std::size_t Round::find(std::uint32_t client) const {
    const auto at = std::lower_bound(asked_.begin(), asked_.end(), client);
    return at != asked_.end() && *at == client ? static_cast<std::size_t>(at - asked_.begin()) : asked_.size();
}

bool Round::leave_pending(std::uint32_t client, ClientState state) {
    const std::size_t place = find(client);
    if (place == asked_.size() || states_[place] != ClientState::pending)
        return false;
    states_[place] = state;
    --counts_[index_of(ClientState::pending)];
    ++counts_[index_of(state)];
    return true;
}

std::string Round::why_refused(std::uint32_t client) const {
    if (!asked(client))
        return fmt::format("round {} did not ask client {}", number_, client);
    return ended_ ? fmt::format("round {} is over", number_)
                  : fmt::format("client {} has already ended in round {}", client, number_);
}

void Round::settle(const std::string& cause, Actions& actions) {
    const std::uint32_t accepted = count(ClientState::accepted);
    const std::uint32_t pending = count(ClientState::pending);
    // Once a client has diverged, a lost round waits to see whether it is lost by divergence: more than time depends on
    // it.
    const bool may_diverge = diverged_ > 0 && diverged_ + pending >= rules_.divergence;
    if (accepted == rules_.cohort || (pending == 0 && accepted >= rules_.quorum))
        end(round_action::Close{}, actions);
    else if (accepted + pending < rules_.quorum && !may_diverge)
        end(round_action::Abandon{.reason = fmt::format("at most {} updates of the {} needed can still come; {}",
                                                        accepted + pending, rules_.quorum, cause)},
            actions);
}

void Round::end(RoundAction action, Actions& actions) {
    ended_ = true;
    std::replace(states_.begin(), states_.end(), ClientState::pending, ClientState::late);
    counts_[index_of(ClientState::late)] += std::exchange(counts_[index_of(ClientState::pending)], 0);
    actions.push_back(std::move(action));
}

}  // namespace dither
