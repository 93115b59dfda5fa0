// One round as a pure state machine: events in, actions out; no clock, no socket, no thread. The server loop carries
// the actions out; a test can drive it through any disaster.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace dither {

namespace round_event {
/// A client's update has passed every check but the round's own.
struct UpdateArrived {
    std::uint32_t client = 0;
};
/// A client could not train, or its peer is gone and nobody else hosts it.
struct ClientLost {
    std::uint32_t client = 0;
    std::string reason;
};
/// A client's update was refused by a check outside the round (bytes, shapes, overflow).
struct UpdateRefused {
    std::uint32_t client = 0;
    std::string reason;
};
/// A client's loss was not finite: the client is lost, and where too many are lost so, the round cannot be trusted.
struct ClientDiverged {
    std::uint32_t client = 0;
    std::string reason;
};
struct DeadlineReached {};
}  // namespace round_event
using RoundEvent = std::variant<round_event::UpdateArrived, round_event::ClientLost, round_event::UpdateRefused,
                                round_event::ClientDiverged, round_event::DeadlineReached>;

namespace round_action {
/// Add this client's update to the accumulator and acknowledge it.
struct Accept {
    std::uint32_t client = 0;
};
/// Tell this client that its update is refused.
struct Refuse {
    std::uint32_t client = 0;
    std::string reason;
};
/// The round has what it needs: average, commit, go on. No event changes it any more.
struct Close {};
/// Too few updates can still come: the round ends without changing the model.
struct Abandon {
    std::string reason;
    bool diverged = false;  ///< so many clients did that it is not theirs, but the model's or the plan's
};
}  // namespace round_action
using RoundAction =
    std::variant<round_action::Accept, round_action::Refuse, round_action::Close, round_action::Abandon>;

/// cohort: how many updates close the round. quorum: how many suffice at the deadline or when no more can come.
/// divergence: how many diverged clients abandon it as diverged.
struct RoundRules {
    std::uint32_t cohort = 1;
    std::uint32_t quorum = 1;
    std::uint32_t divergence = 1;
};

/// A value; copyable. Every client of `asked` starts as pending and ends as accepted, refused, lost or late.
class Round {
public:
    enum class ClientState : std::uint8_t { pending, accepted, refused, lost, late };

    /// `asked`: the sampled clients (more than the cohort when over-selecting), without repetition.
    Round(std::uint32_t number, std::vector<std::uint32_t> asked, const RoundRules& rules);

    /// What to do about `event`, in order. An event about a client that was not asked, or that has already ended, gives
    /// at most a Refuse. After Close or Abandon every update is refused as late.
    std::vector<RoundAction> handle(const RoundEvent& event);

    std::uint32_t number() const { return number_; }
    bool closed() const { return ended_; }
    bool asked(std::uint32_t client) const;
    ClientState state_of(std::uint32_t client) const;
    std::uint32_t count(ClientState state) const;

private:
    using Actions = std::vector<RoundAction>;

    void on(const round_event::UpdateArrived& event, Actions& actions);
    void on(const round_event::ClientLost& event, Actions& actions);
    void on(const round_event::UpdateRefused& event, Actions& actions);
    void on(const round_event::ClientDiverged& event, Actions& actions);
    void on(const round_event::DeadlineReached& event, Actions& actions);

    /// The client's place in asked_, or its size.
    std::size_t find(std::uint32_t client) const;
    /// Moves a pending client to `state`; false if it is not pending.
    bool leave_pending(std::uint32_t client, ClientState state);
    /// Why an update of this client cannot be taken, if it is not pending.
    std::string why_refused(std::uint32_t client) const;
    /// Ends the round if it has what it needs or can no longer get it; `cause` is what the last event was about.
    void settle(const std::string& cause, Actions& actions);
    void end(RoundAction action, Actions& actions);

    std::uint32_t number_ = 0;
    std::vector<std::uint32_t> asked_;  ///< ascending
    std::vector<ClientState> states_;
    std::array<std::uint32_t, 5> counts_{};  ///< clients in each state
    std::uint32_t diverged_ = 0;             ///< of those that are lost
    RoundRules rules_;
    bool ended_ = false;
};

}  // namespace dither
