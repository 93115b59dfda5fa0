// A whole federation inside one process, with scripted nodes: the production server over loopback, and peers that
// answer, lie, fail or hang up as a test wants.
#pragma once

#include "aggregator/server.hpp"
#include "core/rng.hpp"
#include "tests/unit/aggregator/fixtures.hpp"
#include "transport/codec.hpp"
#include "transport/held_model.hpp"
#include "transport/loopback.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include <nlohmann/json.hpp>

namespace dither::test {

/// What a scripted node says to its n-th task; nothing: it hangs up.
using Answers = std::optional<std::vector<Message>>;
using Behaviour = std::function<Answers(std::size_t nth, const RoundPlan& task)>;

inline Job small_job() {
    Job job;
    job.job.rounds = 5;
    job.data.path = "made-up";
    job.federation.clients = 12;
    job.federation.cohort = 4;
    job.model.name = "mlp";
    job.model.hidden = {6};
    job.precision.curvature_every = 2;
    return job;
}

inline Dataset made_up_test_set() {
    constexpr std::size_t kSamples = 30;
    std::vector<float> values(kSamples * 4);
    Stream(StreamKey{.purpose = Purpose::test}).fill_normal(values);
    std::vector<std::int32_t> labels;
    for (std::size_t i = 0; i < kSamples; ++i)
        labels.push_back(static_cast<std::int32_t>(i % 3));
    return {Shape{1, 4}, std::move(values), std::move(labels), 3, {}, 3};
}

/// A node without a network: every client pulls the model a little towards a point of its own.
class FakeTrainer {
public:
    explicit FakeTrainer(const Job& job)
        : seed_(job.job.seed),
          backend_(make_backend({})),
          model_(make_model(job.model, job.quantize, {Shape{1, 4}, 3, 10}, *backend_)),
          schema_(model_->schema()),
          uplink_(make_codec(job.codec.uplink, schema_)),
          held_(job, schema_,
                [this](std::span<float> values) {
                    model_->initialize(seed_);
                    std::ranges::copy(std::as_const(*model_).parameters(), values.begin());
                }),
          train_(job.train) {}

    static std::uint64_t samples(std::uint32_t client) { return 10 + client; }

    /// Several peers may share a trainer.
    Update train(const RoundPlan& task) {
        const std::lock_guard lock(mutex_);
        held_.receive(task);
        const std::span<const float> received = held_.values();
        std::vector<float> update(received.size());
        Stream(StreamKey{.purpose = Purpose::test, .client = task.client}).fill_normal(update);
        for (std::size_t j = 0; j < update.size(); ++j)
            update[j] = 0.2F * (update[j] - received[j]);
        for (std::size_t j = 0; j < held_.control().size(); ++j)
            update[j] -= 0.01F * held_.control()[j];
        Update answer{.round = task.round, .client = task.client, .base = task.broadcast};
        const StreamKey key{
            .seed = seed_, .purpose = Purpose::uplink_rounding, .client = task.client, .round = task.round};
        uplink_->encode(update, {.steps = task.uplink_steps, .key = key, .expectation = held_.expectation()},
                        answer.payload);
        answer.report = report(task, update);
        return answer;
    }

private:
    TrainingReport report(const RoundPlan& task, std::span<const float> update) const {
        TrainingReport report{.samples = samples(task.client), .train_loss = 1.0F / static_cast<float>(1 + task.round)};
        const auto batches = (report.samples + train_.batch_size - 1) / train_.batch_size;
        report.steps = train_.epochs * static_cast<std::uint32_t>(batches);
        for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer) {
            double squares = 0;
            double largest = 0;
            for (const float value : schema_.slice(update, layer)) {
                squares += static_cast<double>(value) * value;
                largest = std::max(largest, std::abs(static_cast<double>(value)));
            }
            const double rms = std::sqrt(squares / static_cast<double>(schema_.layers()[layer].count));
            LayerStatistics statistics;
            statistics.grad_norm = static_cast<float>(std::sqrt(squares));
            statistics.signal_norm = statistics.grad_norm / 3;
            statistics.theta_norm = 2;
            statistics.curvature = asks(task.probe, Probe::curvature) ? 0.05F : kNotMeasured;
            if (asks(task.probe, Probe::sensitivity))
                statistics.forward_sensitivity = statistics.backward_sensitivity = 0.02F;
            statistics.update_range = static_cast<float>(largest);
            statistics.update_rms = static_cast<float>(rms);
            report.layers.push_back(statistics);
        }
        return report;
    }

    std::uint32_t seed_;
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
    const Schema& schema_;
    std::unique_ptr<Codec> uplink_;
    HeldModel held_;
    TrainOptions train_;
    std::mutex mutex_;
};

inline void serve(Channel& channel, std::uint32_t client, const Behaviour& behaviour) {
    channel.send(Hello{"fake", client});
    std::size_t nth = 0;
    while (const auto message = channel.receive()) {
        const auto* task = std::get_if<RoundPlan>(&*message);
        if (task == nullptr)
            continue;
        const Answers answers = behaviour(nth++, *task);
        if (!answers)
            return;
        for (const Message& answer : *answers)
            channel.send(answer);
    }
}

/// One scripted peer.
struct FakePeer {
    Behaviour behaviour;
    std::uint32_t client = kAnyClient;
};

inline Behaviour honest(const Job& job) {
    return [trainer = std::make_shared<FakeTrainer>(job)](std::size_t, const RoundPlan& task) -> Answers {
        return std::vector<Message>{trainer->train(task)};
    };
}

/// Honest but for what `meddle` makes of each update.
inline Behaviour dishonest(const Job& job, std::function<void(Update&)> meddle) {
    return [trainer = std::make_shared<FakeTrainer>(job), meddle = std::move(meddle)](
               std::size_t, const RoundPlan& task) -> Answers {
        Update update = trainer->train(task);
        meddle(update);
        return std::vector<Message>{update};
    };
}

/// Honest, but fails for one client in one round.
inline Behaviour failing(const Job& job, std::uint32_t round, std::uint32_t client, bool diverged) {
    return [=, trainer = std::make_shared<FakeTrainer>(job)](std::size_t, const RoundPlan& task) -> Answers {
        if (task.round == round && task.client == client)
            return std::vector<Message>{Failed{round, client, diverged, false, "the loss is NaN at step 3"}};
        return std::vector<Message>{trainer->train(task)};
    };
}

struct RunOptions {
    bool resume = false;
    std::uint32_t stop_after = 0;  ///< rounds; 0: never
    bool stop_at_once = false;
    std::function<Clock::time_point()> now = Clock::now;
    std::function<std::uint64_t(std::uint32_t client)> samples_of = nullptr;  ///< of a simulation: FakeTrainer::samples
};

/// A whole federation over loopback, each peer in its thread.
inline RunResult run(const Job& job, const std::filesystem::path& path, std::vector<FakePeer> peers,
                     const RunOptions& options = {}) {
    const Dataset test = made_up_test_set();
    const auto backend = make_backend({});
    RunFolder folder(path, options.resume);
    std::atomic<bool> stop = options.stop_at_once;
    LoopbackHub hub;
    std::vector<std::jthread> threads;
    for (const FakePeer& peer : peers)
        threads.emplace_back([channel = hub.connect(), peer] { serve(*channel, peer.client, peer.behaviour); });
    const ServerSetup setup{.job = job,
                            .test = test,
                            .input = {Shape{1, 4}, 3, 10},
                            .backend = *backend,
                            .hub = hub,
                            .folder = folder,
                            .peers = static_cast<std::uint32_t>(peers.size()),
                            .stop = &stop,
                            .progress =
                                [&](const Progress& progress) {
                                    if (progress.ended != nullptr && progress.round == options.stop_after)
                                        stop = true;
                                },
                            .samples_of = options.samples_of,
                            .now = options.now,
                            .place = {}};
    return run_server(setup, options.resume);
}

inline RunResult run_honestly(const Job& job, const std::filesystem::path& path, const RunOptions& options = {}) {
    return run(job, path, {{honest(job)}}, options);
}

/// rounds.jsonl without what is real time.
inline std::vector<nlohmann::json> rounds_of(const std::filesystem::path& folder) {
    std::ifstream in(folder / "rounds.jsonl");
    std::vector<nlohmann::json> rounds;
    for (std::string line; std::getline(in, line);) {
        rounds.push_back(nlohmann::json::parse(line));
        rounds.back().erase("seconds");
    }
    return rounds;
}

inline std::uint32_t total_of(const std::vector<nlohmann::json>& rounds, const std::string& key) {
    std::uint32_t total = 0;
    for (const nlohmann::json& round : rounds)
        total += round[key].get<std::uint32_t>();
    return total;
}

}  // namespace dither::test
