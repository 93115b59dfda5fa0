#include "node/session.hpp"

#include <new>
#include <utility>

#include "core/error.hpp"
#include "node/detail/workshop.hpp"

namespace dither {
namespace {

/// The task of a plan, whatever way the model comes: a node that is asked again may be sent other parts of it.
RoundPlan without_model(const RoundPlan& plan) {
    return {.round = plan.round,
            .client = plan.client,
            .counted = plan.counted,
            .plan = plan.plan,
            .uplink_steps = plan.uplink_steps,
            .probe = plan.probe,
            .broadcast = plan.broadcast};
}

/// An update whose end was not heard yet.
struct Finished {
    RoundPlan task;  ///< without the model
    Update update;
};

/// Whatever a task does, it ends as one client's failure: a worker that died of it would take it to the next one.
template <typename Work>
Message outcome_of(const RoundPlan& plan, Work work) {
    Failed failed{.round = plan.round, .client = plan.client, .base = plan.base};
    try {
        return work();
    } catch (const TrainingError& error) {
        failed.diverged = true;
        failed.reason = error.what();
    } catch (const ModelMissing& error) {
        failed.needs_model = true;
        failed.reason = error.what();
    } catch (const std::exception& error) {
        failed.reason = error.what();
    }
    return failed;
}

/// An update that every reader would refuse, or that there is no memory to send, is a failure, too.
void answer(Channel& channel, const Message& message) {
    const auto fail = [&](const std::exception& error) {
        const auto* update = std::get_if<Update>(&message);
        if (update == nullptr)
            throw;
        channel.send(Failed{.round = update->round, .client = update->client, .reason = error.what()});
    };
    try {
        channel.send(message);
    } catch (const PreconditionError& error) {
        fail(error);
    } catch (const std::bad_alloc& error) {
        fail(error);
    }
}

std::string spoken_for(std::uint32_t client) {
    if (client == kAnyClient)
        return "any client";
    return client == kAssignedClient ? "one client" : fmt::format("client {}", client);
}

}  // namespace

struct Session::State {
    SessionSetup setup;
    bool welcomed = false;            ///< on this connection
    std::optional<RoundPlan> latest;  ///< that it has brought, without the parts
    std::string job;                  ///< of the workshop, and
    std::uint32_t client = kAnyClient;
    std::optional<detail::Workshop> workshop;
    std::optional<Finished> finished;
    std::optional<std::string> stopped;

    explicit State(SessionSetup made) : setup(std::move(made)) {}

    void enter(const Welcome& welcome) {
        const std::uint32_t asked = setup.client;
        const bool as_asked = asked == kAssignedClient ? welcome.client != kAnyClient : welcome.client == asked;
        if (!as_asked)
            throw FormatError(fmt::format("the aggregator welcomes this node as {}, but it speaks for {}",
                                          spoken_for(welcome.client), spoken_for(asked)));
        if (!workshop || job != welcome.job || client != welcome.client)
            set_up(welcome);
        welcomed = true;
    }

    void set_up(const Welcome& welcome) {
        finished.reset();
        workshop.reset();  // before the next one takes memory
        try {
            workshop.emplace(welcome.job, welcome.client, setup);
        } catch (const std::bad_alloc&) {
            throw InputError("the job and its data need more memory than this node may take");
        }
        job = welcome.job;
        client = welcome.client;
    }

    /// A plan that has come a second time, or behind a later round's: whatever carries frames so, training again would
    /// take the residual of a later round away. One that was finished is answered once more.
    bool is_stale(const RoundPlan& plan) const {
        if (!latest || client == kAnyClient)
            return false;
        const bool again =
            plan.round == latest->round && plan.client == latest->client && plan.base == latest->base && !finished;
        return plan.round < latest->round || again;
    }

    std::optional<Message> answer(const RoundPlan& plan) {
        if (is_stale(plan))
            return std::nullopt;
        latest = {.round = plan.round, .client = plan.client, .base = plan.base};
        return carry_out(plan);
    }

    Message carry_out(const RoundPlan& plan) {
        if (!welcomed)
            throw FormatError("the aggregator sent a round plan before its welcome");
        Message outcome = outcome_of(plan, [&] { return update_of(plan); });
        if (workshop->speed() > 0)
            setup.device.speed = workshop->speed();
        return outcome;
    }

    Update update_of(const RoundPlan& plan) {
        RoundPlan task = without_model(plan);
        if (finished && finished->task == task)
            return finished->update;
        finished.reset();
        Update update = workshop->carry_out(plan);
        // A worker of many clients is not asked again: whatever connects it does not come back.
        if (client != kAnyClient)
            finished = {std::move(task), update};
        return update;
    }

    void forget(const RoundCommitted& committed) {
        if (finished && finished->update.round == committed.round && finished->update.client == committed.client)
            finished.reset();
    }
};

Session::Session(SessionSetup setup) : state_(std::make_unique<State>(std::move(setup))) {
    const SessionSetup& made = state_->setup;
    require(made.client == kAnyClient || made.data != nullptr || !made.data_path.empty(),
            "client {} needs data of its own", made.client);
}

Session::Session(Session&&) noexcept = default;
Session::~Session() = default;

Hello Session::hello() {
    state_->welcomed = false;
    state_->latest.reset();
    state_->stopped.reset();
    const SessionSetup& setup = state_->setup;
    return {.node = setup.node, .client = setup.client, .device = setup.device};
}

std::optional<Message> Session::handle(const Message& message) {
    std::optional<Message> answer;
    if (const auto* welcome = std::get_if<Welcome>(&message))
        state_->enter(*welcome);
    else if (const auto* plan = std::get_if<RoundPlan>(&message))
        answer = state_->answer(*plan);
    else if (const auto* committed = std::get_if<RoundCommitted>(&message))
        state_->forget(*committed);
    else if (const auto* stop = std::get_if<Stop>(&message))
        state_->stopped = stop->reason;
    if (state_->setup.watch)
        state_->setup.watch(message, answer ? &*answer : nullptr);
    return answer;
}

bool Session::welcomed() const {
    return state_->welcomed;
}

const std::optional<std::string>& Session::stopped() const {
    return state_->stopped;
}

const Device& Session::device() const {
    return state_->setup.device;
}

void converse(Channel& channel, Session& session) {
    channel.send(session.hello());
    while (!session.stopped()) {
        const std::optional<Message> message = channel.receive();
        if (!message)
            return;
        if (const std::optional<Message> said = session.handle(*message))
            answer(channel, *said);
    }
}

Device run_session(Channel& channel, const SessionSetup& setup) {
    Session session(setup);
    converse(channel, session);
    return session.device();
}

}  // namespace dither
