// The aggregator's memory: a whole federation with the production server and nodes that do not train, but change every
// parameter a little. Prints the peak of the resident memory, in bytes and in models of fp32.
//
//     dither-bench-streaming [--million M] [--clients N] [--cohort N] [--rounds N] [--uplink KIND] [--bits B]
//
// Under mpirun rank 0 is the aggregator, the other ranks are nodes, and each says what it took; alone, one node shares
// the process.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <cmath>
#include <filesystem>
#include <memory>
#include <thread>

#include "aggregator/server.hpp"
#include "core/data/dataset.hpp"
#include "transport/held_model.hpp"
#include "transport/loopback.hpp"
#ifdef DITHER_WITH_MPI
#include "transport/mpi.hpp"
#endif

namespace dither {
namespace {

constexpr std::int64_t kInputs = 512;
constexpr int kClasses = 10;

struct Options {
    double million = 1;  ///< parameters
    std::uint32_t clients = 10;
    std::uint32_t cohort = 10;
    std::uint32_t rounds = 3;
    std::string uplink = "grid";
    std::string coder = "packed";
    int bits = 8;
};

Job job_of(const Options& options) {
    // Three equal hidden layers: inputs * h + 2 h^2 + 10 h parameters, beside biases.
    const double inputs = static_cast<double>(kInputs);
    const auto hidden =
        static_cast<std::int64_t>((std::sqrt(inputs * inputs + 8 * options.million * 1e6) - inputs) / 4);
    Job job;
    job.job.rounds = options.rounds;
    job.job.evaluate_every = options.rounds;
    job.federation.clients = options.clients;
    job.federation.cohort = options.cohort;
    job.model.name = "mlp";
    job.model.hidden = {hidden, hidden, hidden};
    job.precision.policy = "fp32";
    job.precision.guard_loss = 0;
    job.codec.uplink = {.kind = options.uplink, .bits = options.uplink == "grid" ? options.bits : 0};
    job.codec.uplink.coder = job.codec.downlink.coder = options.coder;
    job.compute.backend = "eigen";
    return job;
}

Dataset test_set() {
    constexpr std::size_t kSamples = 2;
    return {Shape{1, kInputs}, std::vector<float>(kSamples * kInputs, 0.5F), {0, 1}, kClasses, {}, kClasses};
}

/// A node's part, with one model's memory and what the codec needs.
class CheapTrainer {
public:
    explicit CheapTrainer(const Job& job)
        : seed_(job.job.seed),
          train_(job.train),
          schema_(schema_of(job)),
          uplink_(make_codec(job.codec.uplink, schema_)),
          held_(job, schema_, [&job](std::span<float> values) {
              const auto model = model_of(job);
              model->initialize(job.job.seed);
              std::ranges::copy(std::as_const(*model).parameters(), values.begin());
          }) {}

    Update train(const RoundPlan& task) {
        held_.receive(task);
        Update answer{.round = task.round, .client = task.client, .base = task.broadcast};
        answer.report = {.samples = 10, .steps = train_.epochs, .train_loss = 1};
        std::vector<float> update(schema_.parameters());
        for (std::size_t layer = 0; layer < schema_.layer_count(); ++layer)
            answer.report.layers.push_back(change(layer, task, schema_.slice(std::span(update), layer)));
        const StreamKey key{
            .seed = seed_, .purpose = Purpose::uplink_rounding, .client = task.client, .round = task.round};
        uplink_->encode(update, {.steps = task.uplink_steps, .key = key, .expectation = held_.expectation()},
                        answer.payload);
        return answer;
    }

private:
    /// All integers of 8 bits, where there is a grid.
    LayerStatistics change(std::size_t layer, const RoundPlan& task, std::span<float> update) const {
        const float step = uplink_->needs_steps() ? task.uplink_steps[layer] : 1e-3F;
        for (std::size_t j = 0; j < update.size(); ++j)
            update[j] = step * static_cast<float>(static_cast<int>((j + task.client) % 255) - 127);
        return {.update_range = 127 * step, .update_rms = 73.6F * step};
    }
    static std::unique_ptr<Model> model_of(const Job& job) {
        static const auto backend = make_backend({});
        return make_model(job.model, job.quantize, {Shape{1, kInputs}, kClasses, 1}, *backend);
    }
    static Schema schema_of(const Job& job) { return model_of(job)->schema(); }

    std::uint32_t seed_;
    TrainOptions train_;
    Schema schema_;
    std::unique_ptr<Codec> uplink_;
    HeldModel held_;
};

void serve(Channel& channel, const Job& job) {
    channel.send(Hello{.node = "cheap"});
    CheapTrainer trainer(job);
    while (const auto message = channel.receive()) {
        if (const auto* task = std::get_if<RoundPlan>(&*message))
            channel.send(trainer.train(*task));
        else if (std::holds_alternative<Stop>(*message))
            return;
    }
}

void say(const char* who, double parameters) {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const double peak = 1024.0 * static_cast<double>(usage.ru_maxrss);
    fmt::print("{}: {:.0f} parameters, peak {:.0f} bytes = {:.2f} models\n", who, parameters, peak,
               peak / (4 * parameters));
}

void aggregate(const Job& job, Hub& hub, const char* who) {
    const std::filesystem::path out = std::filesystem::temp_directory_path() / fmt::format("dither-bench-{}", getpid());
    const Dataset test = test_set();
    const auto backend = make_backend(job.compute);
    double parameters = 0;
    {
        RunFolder folder(out, false);
        run_server({.job = job,
                    .test = test,
                    .input = {Shape{1, kInputs}, kClasses, 1},
                    .backend = *backend,
                    .hub = hub,
                    .folder = folder,
                    .progress =
                        [&](const Progress& progress) {
                            if (progress.schema != nullptr)
                                parameters = static_cast<double>(progress.schema->parameters());
                        },
                    .place = {}},
                   false);
    }
    std::filesystem::remove_all(out);
    say(who, parameters);
}

void run_alone(const Job& job) {
    LoopbackHub hub;
    const std::jthread node([channel = hub.connect(), &job] { serve(*channel, job); });
    aggregate(job, hub, "aggregator and node");
}

}  // namespace
}  // namespace dither

int main(int argc, char** argv) {
    using namespace dither;
#ifdef DITHER_WITH_MPI
    const MpiSession session(argc, argv);
#endif
    Options options;
    CLI::App app("The aggregator's peak memory, in models.");
    app.add_option("--million", options.million, "million parameters");
    app.add_option("--clients", options.clients);
    app.add_option("--cohort", options.cohort);
    app.add_option("--rounds", options.rounds);
    app.add_option("--uplink", options.uplink, "the kind of the uplink's codec");
    app.add_option("--bits", options.bits, "of the grid");
    app.add_option("--coder", options.coder, "of the grid, both ways");
    CLI11_PARSE(app, argc, argv);
    const Job job = job_of(options);
#ifdef DITHER_WITH_MPI
    if (session.active() && session.rank() == 0) {
        aggregate(job, *make_mpi_hub(session), "aggregator");
        return 0;
    }
    if (session.active()) {
        serve(*make_mpi_channel(session), job);
        return 0;
    }
#endif
    run_alone(job);
    return 0;
}
