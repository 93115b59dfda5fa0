#include "tests/simulation/federation.hpp"

#include "aggregator/journal.hpp"
#include "aggregator/registry.hpp"
#include "aggregator/run_folder.hpp"
#include "aggregator/server.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <chrono>
#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>

namespace dither::simulation {

namespace {

using namespace std::chrono_literals;

constexpr Clock::duration kPatience = 15min;  // until the run is done, once nothing goes wrong any more
constexpr Clock::duration kForEver = 10'000h;
constexpr std::uint64_t kCallsAtMost = 2'000'000;  // of a hub: more is an endless loop
constexpr std::size_t kConnectionsAtMost = 64;     // that an aggregator keeps open
constexpr std::size_t kViolationsAtMost = 5;       // that are reported
constexpr std::string_view kCheckpointName = "model.dither";

SimulatedNetworkOptions network_of(const Scenario& scenario, const Federation::Trace& trace) {
    return {.seed = scenario.seed,
            .most_delay = scenario.most_delay,
            .faults = scenario.link,
            .faults_end = scenario.faults_end,
            .trace = trace};
}

}  // namespace

/// Sees what is sent, and stops a server that loops.
class Federation::WatchedHub final : public Hub {
public:
    WatchedHub(SimulatedNetwork& network, std::function<void(const Message&)> sent)
        : network_(network), sent_(std::move(sent)) {}

    std::optional<HubEvent> next_event(Clock::time_point deadline) override {
        ++calls_;
        require(calls_ < kCallsAtMost, "the server has asked for {} events", calls_);
        return network_.next_event(deadline);
    }
    std::size_t send(PeerId peer, const Message& message) override {
        const std::size_t bytes = network_.send(peer, message);
        if (bytes > 0)
            sent_(message);
        return bytes;
    }
    void admit(PeerId peer, const FrameLimits& limits) override { network_.admit(peer, limits); }
    void drop(PeerId peer, const std::string& reason) override { network_.drop(peer, reason); }
    void close() override { network_.close(); }
    bool peers_return() const override { return network_.peers_return(); }

private:
    SimulatedNetwork& network_;
    std::function<void(const Message&)> sent_;
    std::uint64_t calls_ = 0;
};

Federation::Federation(const Workload& workload, const Scenario& scenario, std::filesystem::path state, Trace trace)
    : workload_(workload),
      scenario_(scenario),
      state_(std::move(state)),
      trace_(std::move(trace)),
      network_(network_of(scenario, trace_)),
      disk_(network_, scenario.seed,
            [this](const std::string& name, const std::string& bytes) { on_replaced(name, bytes); }),
      stream_({.seed = scenario.seed, .purpose = Purpose::test, .lane = 3}),
      backend_(make_backend(workload.job.compute)) {
    for (std::uint32_t client = 0; client < workload.job.federation.clients; ++client)
        outcome_.clients.push_back(scenario.assigned ? kAssignedClient : client);
}

Federation::~Federation() {
    std::error_code ignored;
    std::filesystem::remove_all(state_, ignored);
}

void Federation::prescribe(Attendance attendance, std::vector<std::uint32_t> clients) {
    attendance_ = std::move(attendance);
    outcome_.clients = std::move(clients);
}

Outcome Federation::run() {
    populate();
    plan_disasters();
    while (!finished_ && !overdue_ && outcome_.violations.empty())
        run_aggregator();
    check_end();
    name_the_rest();
    outcome_.length = network_.elapsed();
    return std::move(outcome_);
}

void Federation::populate() {
    const std::uint32_t seed = scenario_.seed;
    const bool prescribed = !attendance_.empty();
    for (std::uint32_t i = 0; i < outcome_.clients.size(); ++i) {
        const std::string name = fmt::format("node-{}", i);
        NodeSetup& node = nodes_.emplace_back();
        node.session = {.node = name,
                        .client = outcome_.clients[i],
                        .data_path = {},
                        .state = (state_ / name).string(),
                        .data = &workload_.data[i],
                        .device = workload_.devices[i]};
        node.key = {.seed = seed, .purpose = Purpose::test, .client = i, .lane = 4};
        node.company = scenario_.company;
        node.goes_wrong = [this] { return goes_wrong(); };
        node.welcomed = [this, i](std::uint32_t client) { outcome_.clients[i] = client; };
        if (prescribed)
            node.attends = [this](std::uint32_t round, std::uint32_t client) {
                return round <= attendance_.size() && attendance_[round - 1].contains(client);
            };
        network_.add(scenario_.proven ? name : "",
                     [&node, life = 0U]() mutable { return make_honest_node(node, ++life); });
    }
    if (scenario_.company.deserter)
        network_.at(scenario_.faults_end / 2, [this] { network_.crash(0, kForEver); });
    if (scenario_.company.twin && !workload_.keeps_residuals())  // two nodes never share such files
        network_.at(3s, [this] {
            const auto twin = network_.add(scenario_.proven ? "node-0" : "", [this, life = 1000U]() mutable {
                return make_honest_node(nodes_[0], ++life);
            });
            network_.at(scenario_.faults_end, [this, twin] { network_.crash(twin, kForEver); });
        });
    if (scenario_.company.stranger) {
        const StreamKey key{.seed = seed, .purpose = Purpose::test, .lane = 5};
        const auto stranger = network_.add(scenario_.proven ? "stranger" : "", [this, key] {
            return make_stranger(key, workload_.job.federation.clients);
        });
        network_.at(scenario_.faults_end, [this, stranger] { network_.crash(stranger, kForEver); });
    }
}

void Federation::plan_disasters() {
    for (const Disaster& disaster : scenario_.disasters)
        network_.at(disaster.at, [this, &disaster] { strike(disaster); });
    network_.at(scenario_.faults_end, [this] { disk_.set_full(false); });
    network_.at(scenario_.faults_end + kPatience, [this] {
        overdue_ = true;
        network_.crash_aggregator();
    });
}

void Federation::strike(const Disaster& disaster) {
    using Kind = Disaster::Kind;
    const std::size_t node = disaster.node % workload_.data.size();
    switch (disaster.kind) {
        case Kind::node_crash:
            return network_.crash(node, disaster.length);
        case Kind::cut:
            return network_.cut(node);
        case Kind::isolation:
            return network_.isolate(node, disaster.length);
        case Kind::partition:
            for (std::size_t i = node % 2; i < workload_.data.size(); i += 2)
                network_.isolate(i, disaster.length);
            return;
        case Kind::aggregator_crash:
            return network_.crash_aggregator();
        case Kind::aggregator_stop:
            note("the aggregator is told to stop");
            stop_ = true;
            return;
        case Kind::disk_full:
            note("the disk is full");
            disk_.set_full(true);
            return network_.at(network_.elapsed() + disaster.length, [this] { disk_.set_full(false); });
        case Kind::failed_sync:
            return disk_.fail_next_sync();
    }
}

/// One process of the aggregator, from its start to its end.
void Federation::run_aggregator() {
    ++outcome_.processes;
    stop_ = false;
    const auto chance = [&](double probability) { return static_cast<double>(stream_.uniform()) < probability; };
    if (goes_wrong() && chance(scenario_.crash_chance))
        network_.crash_aggregator_after(1 + stream_.below(scenario_.crash_within));
    bool lost_power = false;
    try {
        serve();
    } catch (const SimulatedCrash&) {
        lost_power = chance(scenario_.power_loss);
        note(lost_power ? "the aggregator is dead, without power" : "the aggregator is dead");
    } catch (const IoError& error) {  // its disk: what a failed sync has left is anybody's guess
        note(error.what());
        lost_power = true;
    } catch (const TrainingError& error) {
        note(error.what());
        if (must_be_whole())
            violated(fmt::format("it gave up: {}", error.what()));
    } catch (const std::exception& error) {
        violated(fmt::format("it ended by an unexpected error: {}", error.what()));
    }
    network_.close();  // a process that ends leaves no connection, however early it ends
    if (lost_power)
        disk_.lose_unsynced();
    if (!finished_)
        network_.restart_aggregator(100ms + 1ms * stream_.below(5000));
}

void Federation::serve() {
    const bool resume = disk_.exists(std::string(kCheckpointName));
    const std::unique_ptr<Storage> storage = disk_.open();
    RunFolder folder(disk_.open(), resume);
    Journal journal(*storage);
    Registry registry(*storage, workload_.job.federation.clients);
    WatchedHub hub(network_, [this](const Message& message) { on_sent(message); });
    const FederationOptions& federation = workload_.job.federation;
    const ServerSetup setup{.job = workload_.job,
                            .test = workload_.test,
                            .input = {workload_.test.sample_shape(), workload_.test.outputs(), 20},
                            .backend = *backend_,
                            .hub = hub,
                            .folder = folder,
                            .peers = scenario_.waits_for_all ? federation.clients : 1,
                            .stop = &stop_,
                            .journal = &journal,
                            .registry = &registry,
                            .progress = nullptr,
                            .now = [this] { return network_.now(); },
                            .place = {}};
    finished_ = !run_server(setup, resume).interrupted;
}

/// A node that never came speaks for a client that nobody else does.
void Federation::name_the_rest() {
    std::vector<std::uint32_t>& clients = outcome_.clients;
    for (std::uint32_t& client : clients)
        for (std::uint32_t free = 0; client == kAssignedClient; ++free)
            if (std::ranges::find(clients, free) == clients.end())
                client = free;
}

void Federation::note(const std::string& line) const {
    if (trace_)
        trace_(fmt::format("{:12.6f} {}", std::chrono::duration<double>(network_.elapsed()).count(), line));
}

// What is checked

void Federation::violated(const std::string& promise) {
    note("VIOLATION: " + promise);
    if (outcome_.violations.size() < kViolationsAtMost)
        outcome_.violations.push_back(promise);
}

void Federation::on_sent(const Message& message) {
    if (const auto* ack = std::get_if<UpdateAck>(&message)) {
        ++(ack->accepted ? outcome_.acknowledged : outcome_.refused);
        if (ack->accepted)
            acknowledged_[ack->round].insert(ack->client);
    } else if (const auto* plan = std::get_if<RoundPlan>(&message)) {
        const auto round = acknowledged_.find(plan->round);
        if (round != acknowledged_.end() && round->second.contains(plan->client))
            violated(
                fmt::format("round {}: client {} is asked again for what was acknowledged", plan->round, plan->client));
    } else if (const auto* committed = std::get_if<RoundCommitted>(&message)) {
        const bool durable = committed->round <= outcome_.rounds.size() &&
                             outcome_.rounds[committed->round - 1].model == committed->model;
        if (!durable)
            violated(fmt::format("round {} was told before it was durable, or as another one", committed->round));
    }
    if (network_.connections() > kConnectionsAtMost)
        violated(fmt::format("{} connections are open", network_.connections()));
}

void Federation::on_replaced(const std::string& name, const std::string& bytes) {
    if (name == kCheckpointName)
        on_round(read_checkpoint(bytes, name));
}

/// A checkpoint has become durable: of the next round, and of nothing else.
void Federation::on_round(const Checkpoint& checkpoint) {
    const auto known = static_cast<std::uint32_t>(outcome_.rounds.size());
    if (checkpoint.round == known)
        return;  // nothing has happened since; a folder may be opened anew
    if (checkpoint.round != known + 1)
        return violated(fmt::format("a checkpoint of round {} follows that of round {}", checkpoint.round, known));
    EndedRound round{.participants = {}, .model = sha256(std::span<const float>(checkpoint.model))};
    for (const std::uint32_t client : checkpoint.counted.clients())
        if (checkpoint.counted[client] == checkpoint.round)
            round.participants.insert(client);
    const std::set<std::uint32_t>& promised = acknowledged_[checkpoint.round];
    if (!round.participants.empty() && !std::ranges::includes(round.participants, promised))
        violated(fmt::format("round {}: an acknowledged update is lost", checkpoint.round));
    note(fmt::format("round {} is durable: {} participants, {}", checkpoint.round, round.participants.size(),
                     to_hex(round.model).substr(0, 12)));
    outcome_.rounds.push_back(std::move(round));
}

void Federation::check_end() {
    if (!finished_ && outcome_.violations.empty())
        return violated(fmt::format("no end {} min after nothing goes wrong any more", kPatience / 1min));
    if (!outcome_.violations.empty())
        return;
    if (outcome_.rounds.size() != workload_.job.job.rounds)
        violated(fmt::format("the run ended after {} of {} rounds", outcome_.rounds.size(), workload_.job.job.rounds));
    const auto is_whole = [&](const EndedRound& round) {
        return round.participants.size() == workload_.job.federation.cohort;
    };
    if (must_be_whole() && !std::ranges::all_of(outcome_.rounds, is_whole))
        violated("a round ended without its whole cohort, although it could wait");
    if (!disk_.exists("summary.json"))
        violated("there is no summary");
    check_log();
}

/// One line a round, which agrees with its checkpoint.
void Federation::check_log() {
    std::istringstream lines(disk_.content("rounds.jsonl"));
    std::uint32_t number = 0;
    for (std::string line; std::getline(lines, line);) {
        const auto object = nlohmann::json::parse(line, nullptr, false);
        if (!object.is_object() || number >= outcome_.rounds.size() || object["round"] != number + 1)
            return violated(fmt::format("line {} of the log is not that of its round: {}", number + 1, line));
        const EndedRound& round = outcome_.rounds[number++];
        std::uint64_t samples = 0;
        for (std::size_t node = 0; node < workload_.data.size(); ++node)
            if (round.participants.contains(outcome_.clients[node]))
                samples += workload_.data[node].size();
        const bool agrees = object["model_sha256"] == to_hex(round.model) &&
                            (!object["committed"] ||
                             (object["participants"] == round.participants.size() && object["samples"] == samples));
        if (!agrees)
            return violated(fmt::format("round {} of the log is not what was kept: {}", number, line));
    }
    if (number != outcome_.rounds.size())
        violated(fmt::format("the log has {} of {} rounds", number, outcome_.rounds.size()));
}

}  // namespace dither::simulation
