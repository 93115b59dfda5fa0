// A whole federation on one machine or a cluster. Under mpirun rank 0 aggregates and the other ranks host many clients
// each; alone, worker threads do.
#include "examples/simulate/simulate.hpp"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <iostream>
#include <thread>

#include "aggregator/schedule.hpp"
#include "aggregator/server.hpp"
#include "aggregator/strategy.hpp"
#include "core/config.hpp"
#include "core/data/holdout.hpp"
#include "core/data/partition.hpp"
#include "core/error.hpp"
#include "core/model/evaluate.hpp"
#include "core/noise/profiler.hpp"
#include "core/version.hpp"
#include "examples/simulate/pictures.hpp"
#include "examples/simulate/progress.hpp"
#include "node/session.hpp"
#include "transport/codec.hpp"
#include "transport/loopback.hpp"
#ifdef DITHER_WITH_MPI
#include "transport/mpi.hpp"
#endif

namespace dither {
namespace {

constexpr int kFailed = 1;
constexpr int kBadInput = 2;

std::atomic<bool> stop_requested{false};
std::atomic<int> stop_signal{0};

/// The first signal asks for an orderly end; the second one does not wait for it. The last round's checkpoint is on
/// disk either way.
void on_signal(int signal) {
    stop_signal = signal;
    if (stop_requested.exchange(true))
        std::_Exit(128 + signal);
}

struct Options {
    std::string job;
    std::vector<std::string> overrides;
    std::string out;
    bool resume = false;
    bool quiet = false;
    unsigned workers = std::max(1U, std::thread::hardware_concurrency());
};

/// Who trains: the other ranks, or threads of this process.
class Crew {
public:
    virtual ~Crew() = default;
    virtual Hub& hub() = 0;
    virtual std::uint32_t size() const = 0;
    /// Brings every worker in; they may use `data` until finish().
    virtual void start(const Dataset& data) = 0;
    /// Sends every worker home and waits for those of this process; idempotent.
    virtual void finish() = 0;
};

/// The time in which a crew works on a data set.
class Shift {
public:
    Shift(Crew& crew, const Dataset& data) : crew_(crew) { crew_.start(data); }
    ~Shift() { crew_.finish(); }
    Shift(const Shift&) = delete;
    Shift& operator=(const Shift&) = delete;

private:
    Crew& crew_;
};

class Threads final : public Crew {
public:
    Threads(unsigned count, const Makers& makers) : count_(count), makers_(makers) {}

    Hub& hub() override { return hub_; }
    std::uint32_t size() const override { return count_; }
    void start(const Dataset& data) override {
        for (unsigned i = 0; i < count_; ++i)
            threads_.emplace_back([this, channel = hub_.connect(), name = fmt::format("thread-{}", i), &data] {
                try {
                    run_session(*channel, {.node = name, .data = &data, .makers = makers_});
                } catch (const std::exception& error) {
                    std::cerr << "dither-simulate: " << name << ": " << error.what() << '\n';
                }
            });
    }
    void finish() override {
        hub_.close();
        threads_.clear();
    }

private:
    unsigned count_;
    const Makers& makers_;
    LoopbackHub hub_;
    std::vector<std::jthread> threads_;
};

#ifdef DITHER_WITH_MPI
class Ranks final : public Crew {
public:
    explicit Ranks(const MpiSession& session) : count_(session.size() - 1), hub_(make_mpi_hub(session)) {}
    ~Ranks() override { finish(); }

    Hub& hub() override { return *hub_; }
    std::uint32_t size() const override { return static_cast<std::uint32_t>(count_); }
    void start(const Dataset&) override {}
    void finish() override { hub_->close(); }

private:
    int count_;
    std::unique_ptr<Hub> hub_;
};
#endif

/// Everything that can be wrong with a job and its data is found here, before anything is written.
void check_before_start(const Job& job, const ModelInput& input, const Backend& backend, const Partition& partition,
                        const ClientSampler::SamplesOf& samples_of, const ServerMakers& makers) {
    const auto model = makers.shared.model(job.model, job.quantize, input, backend);
    makers.policy(job.precision, model->schema());
    makers.shared.codec(job.codec.uplink, model->schema());
    makers.shared.codec(job.codec.downlink, model->schema());
    makers.strategy(job, model->schema());
    make_schedule(job, samples_of);
    check_calibration(job.noise, partition, job.federation.holdout);
}

int lead(const Options& options, Crew& crew, int ranks, const ServerMakers& makers) {
    Job job = load_job(options.job, options.overrides);
    if (!options.out.empty())
        job.output.dir = options.out;
    const DataSplits data = makers.shared.data(job);
    const auto backend = make_backend(job.compute);
    const ModelInput input{
        .sample = data.test.sample_shape(), .outputs = data.test.outputs(), .max_batch = kEvaluationBatch};
    const Partition partition =
        make_partition(job.federation.partition, job.federation.clients, data.train, job.job.seed);
    const auto samples_of = [&](std::uint32_t client) -> std::uint64_t {
        return trained_count(partition.size_of(client), job.federation.holdout);
    };
    check_before_start(job, input, *backend, partition, samples_of, makers);
    for (const std::string& note : data.notes)
        if (!options.quiet)
            std::cerr << "dither-simulate: " << note << '\n';
    RunFolder folder(job.output.dir, options.resume);
    const Shift shift(crew, data.train);

    const RunPlace place{.ranks = ranks,
                         .backend = fmt::format("{} ({})", backend->name(), backend->instruction_set()),
                         .cpu = cpu_name()};
    RunResult result;
    {
        ProgressDisplay display(job.job.rounds, isatty(STDERR_FILENO) == 1);
        const ServerSetup setup{
            .job = job,
            .test = data.test,
            .input = input,
            .backend = *backend,
            .hub = crew.hub(),
            .folder = folder,
            .peers = crew.size(),
            .stop = &stop_requested,
            .progress = options.quiet ? ProgressCallback() : [&](const Progress& p) { display.show(p); },
            .samples_of = samples_of,
            .place = place,
            .makers = makers,
        };
        result = run_server(setup, options.resume);
    }
    if (result.interrupted) {
        fmt::print(stderr, "dither-simulate: stopped after round {}; continue with --resume --out {}\n",
                   result.totals.rounds, job.output.dir);
        return 128 + stop_signal;
    }
    if (job.output.pictures)
        if (const std::string why_not = draw_pictures(folder.path()); !why_not.empty() && !options.quiet)
            std::cerr << "dither-simulate: " << why_not << '\n';
    std::cout << result_table(job, result, place) << "  files            " << job.output.dir << '\n';
    return 0;
}

/// Prints what went wrong and says how the program ends.
int report(const std::exception& error, int exit_code) {
    std::cerr << "dither-simulate: " << error.what() << '\n';
    return exit_code;
}

template <typename Work>
int guarded(Work&& work) {
    try {
        return work();
    } catch (const InputError& error) {
        return report(error, kBadInput);
    } catch (const std::exception& error) {
        return report(error, kFailed);
    }
}

std::string version_text() {
    const auto backend = make_backend(ComputeOptions{});
    return fmt::format("dither-simulate {} ({}, {})", version(), backend->name(), backend->instruction_set());
}

/// Empty when the program should go on; otherwise its exit code. Only `speaks` prints.
std::optional<int> parse(int argc, char** argv, Options& options, bool speaks) {
    CLI::App app(
        "Trains one model across many simulated clients in few bits.\n"
        "Alone it uses worker threads; under mpirun rank 0 aggregates and the other ranks host the clients.");
    app.footer(
        "Examples:\n"
        "  dither-simulate examples/jobs/fashion_cnn2.toml\n"
        "  mpirun -n 5 dither-simulate examples/jobs/fashion_cnn2.toml --set precision.policy=uniform\n"
        "  dither-simulate examples/jobs/fashion_cnn2.toml --resume\n"
        "\nExit codes: 0 done, 1 failed while running, 2 bad usage or input, 130/143 stopped by a signal after a "
        "checkpoint.");
    bool help_job = false;
    app.add_option("JOB", options.job, "The job file (TOML)")->required();
    app.add_option("--set", options.overrides, "Override one key of the job: section.key=value")
        ->type_name("K=V")
        ->allow_extra_args(false);  // what follows may be the job file
    app.add_option("--out", options.out, "Output folder (overrides output.dir)")->type_name("DIR");
    app.add_flag("--resume", options.resume, "Continue the run in the output folder from its last checkpoint");
    app.add_flag("--quiet", options.quiet, "No progress");
    app.add_option("--workers", options.workers, "Worker threads without mpirun (default: the cores)")
        ->check(CLI::Range(1U, 1024U));
    app.add_flag("--help-job", help_job, "List every key of the job file with its default and range");
    app.set_version_flag("--version", version_text);
    try {
        for (int i = 1; i < argc; ++i)
            if (std::string_view(argv[i]) == "--help-job") {
                if (speaks)
                    std::cout << describe_options();
                return 0;
            }
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        const bool asked = error.get_exit_code() == 0;  // --help or --version
        if (speaks)
            app.exit(error, std::cout, std::cerr);
        return asked ? 0 : kBadInput;
    }
    return std::nullopt;
}

#ifdef DITHER_WITH_MPI
/// A rank that hosts clients: it hears of everything, signals included, from rank 0. One that fails says so and leaves;
/// rank 0 gives its clients to the others and decides how the run ends.
int work(const MpiSession& session, const Makers& makers) {
    std::signal(SIGINT, SIG_IGN);
    std::signal(SIGTERM, SIG_IGN);
    guarded([&] {
        const auto channel = make_mpi_channel(session);
        run_session(*channel, {.node = fmt::format("rank-{}", session.rank()), .makers = makers});
        return 0;
    });
    return 0;
}
#endif

}  // namespace

int simulate(int argc, char** argv, const ServerMakers& makers) {
#ifdef DITHER_WITH_MPI
    MpiSession session(argc, argv);
    const int rank = session.rank();
    const int ranks = session.size();
#else
    const int rank = 0;
    const int ranks = 1;
#endif
    Options options;
    if (const auto exit_code = parse(argc, argv, options, rank == 0))
        return *exit_code;
    std::signal(SIGINT, on_signal);
    std::signal(SIGTERM, on_signal);
#ifdef DITHER_WITH_MPI
    if (rank != 0)
        return work(session, makers.shared);
    if (ranks > 1)
        return guarded([&] {
            Ranks crew(session);
            return lead(options, crew, ranks, makers);
        });
#endif
    return guarded([&] {
        Threads crew(options.workers, makers.shared);
        return lead(options, crew, ranks, makers);
    });
}

}  // namespace dither
