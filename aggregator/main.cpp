// dither-aggregator: the server daemon. One thread runs the federation; the hub, the HTTP server and the signals have
// one each.
#include "aggregator/daemon/options.hpp"
#include "aggregator/daemon/signals.hpp"
#include "aggregator/daemon/status.hpp"
#include "aggregator/journal.hpp"
#include "aggregator/registry.hpp"
#include "aggregator/server.hpp"
#include "core/config.hpp"
#include "core/error.hpp"
#include "core/model/evaluate.hpp"
#include "core/version.hpp"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

namespace dither {
namespace {

constexpr int kFailed = 1;
constexpr int kBadInput = 2;

void start_log(const std::string& level) {
    auto logger = spdlog::stderr_color_mt("dither-aggregator");
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %^%l%$: %v");
    logger->set_level(spdlog::level::from_str(level.empty() ? "info" : level));
    spdlog::set_default_logger(std::move(logger));
}

void log_round(const RoundRecord& record, const Job& job, const Schema& schema) {
    const std::string accuracy =
        record.test_accuracy ? fmt::format(", accuracy {:.2f} %", 100 * *record.test_accuracy) : "";
    spdlog::info("round {}/{} {}: {} updates, {} dropped, {} rejected{}, {:.1f} s, {} B up, {} B down", record.round,
                 job.job.rounds, record.committed ? "committed" : "abandoned", record.participants, record.dropped,
                 record.rejected, accuracy, record.seconds, record.bytes_up, record.bytes_down);
    for (const std::string& reason : record.reason)
        spdlog::warn("round {}: {}", record.round, reason);
    for (const PlanChange& change : record.changes)
        spdlog::debug("round {}: {}", record.round, describe(change, schema));
}

/// What only simulations have (dither-simulate). Devices' speeds and links are not refused: the job file of a
/// simulation says what its nodes execute, too.
void refuse_simulated(const std::string& file, const FederationOptions& federation) {
    const auto refuse = [&](bool is_set, std::string_view setting, std::string_view reason) {
        if (is_set)
            throw InputError(fmt::format("{}: {}: {}", file, setting, reason));
    };
    refuse(federation.attack.kind != "none", fmt::format("federation.attack.kind = \"{}\"", federation.attack.kind),
           "attacks are for simulations (dither-simulate)");
    refuse(federation.async.concurrency > 0,
           fmt::format("federation.async.concurrency = {}", federation.async.concurrency),
           "rounds are asynchronous in simulated time only (dither-simulate)");
    refuse(federation.sampling != "uniform", fmt::format("federation.sampling = \"{}\"", federation.sampling),
           "nobody knows the samples of nodes before they train");
    refuse(!federation.trace.devices.empty() || !federation.trace.availability.empty(), "federation.trace",
           "traces are for simulations (dither-simulate)");
}

Job load(const DaemonOptions& options) {
    Job job = load_job(options.job, options.overrides);
    refuse_simulated(options.job, job.federation);
    job.output.dir = options.state.string();
    if (!options.data.empty())
        job.data.path = options.data;
    return job;
}

/// Reads the data for its test set, and leaves in the job how nodes have to read theirs.
Dataset load_test_set(Job& job) {
    DataSplits data = load_data(job.data, job.job.seed);
    for (const std::string& note : data.notes)
        spdlog::info("{}", note);
    apply(data.preparation, job.data);
    return std::move(data.test);
}

/// Everything that the job and its data decide, checked before anything is written or anybody is let in.
struct Federation {
    explicit Federation(const DaemonOptions& options)
        : job(load(options)), test(load_test_set(job)), backend(make_backend(job.compute)) {
        make_model(job.model, job.quantize, input(), *backend);
    }

    ModelInput input() const {
        return {.sample = test.sample_shape(), .outputs = test.outputs(), .max_batch = kEvaluationBatch};
    }

    Job job;
    Dataset test;
    std::unique_ptr<Backend> backend;
};

int run(const DaemonOptions& options) {
    const Federation federation(options);
    const Job& job = federation.job;
    TcpHubOptions hub_options = options.hub;
    hub_options.log = [](const std::string& line) { spdlog::info("{}", line); };
    TcpHub hub(hub_options);  // before the folder is touched: what cannot listen leaves nothing
    const bool resume = !options.fresh && RunFolder::holds_run(options.state);
    RunFolder folder(options.state, resume);
    Journal journal(folder.storage());
    Registry registry(folder.storage(), job.federation.clients);
    SignalWatch signals([&hub] {
        try {
            hub.reload();
        } catch (const std::exception& error) {
            spdlog::error("nothing is reloaded: {}", error.what());
        }
    });
    Status status(job, [&hub] { return hub.statistics(); });
    std::unique_ptr<HttpServer> http;
    if (options.http)
        http =
            std::make_unique<HttpServer>(*options.http, [&status](std::string_view path) { return status.page(path); });

    spdlog::info("dither-aggregator {}: {} '{}' on {}{}{}", version(), resume ? "continues" : "begins", job.job.name,
                 to_string(hub.endpoint()), options.hub.tls ? " (TLS)" : " (plaintext)",
                 http ? ", status at http://" + to_string(http->endpoint()) + "/status" : "");
    const ServerSetup setup{
        .job = job,
        .test = federation.test,
        .input = federation.input(),
        .backend = *federation.backend,
        .hub = hub,
        .folder = folder,
        .peers = options.nodes > 0 ? options.nodes : job.federation.cohort,
        .stop = &signals.stopped(),
        .journal = &journal,
        .registry = &registry,
        .log = [](const std::string& line) { spdlog::info("{}", line); },
        .progress =
            [&](const Progress& progress) {
                status.show(progress);
                if (progress.ended != nullptr)
                    log_round(*progress.ended, job, *progress.schema);
            },
        .place = {.ranks = 1,
                  .backend = fmt::format("{} ({})", federation.backend->name(), federation.backend->instruction_set()),
                  .cpu = cpu_name()},
    };
    const RunResult result = run_server(setup, resume);
    if (result.interrupted) {
        status.end("stopped by a signal");
        spdlog::info("stopped by a signal after round {}; the next start continues", result.totals.rounds);
        return 128 + signals.signal();
    }
    status.end("the run is complete");
    spdlog::info("complete after {} rounds, model {}", result.totals.rounds, to_hex(result.model));
    return 0;
}

int guarded(const DaemonOptions& options) {
    try {
        return run(options);
    } catch (const InputError& error) {
        spdlog::error("{}", error.what());
        return kBadInput;
    } catch (const std::exception& error) {
        spdlog::error("{}", error.what());
        return kFailed;
    }
}

}  // namespace
}  // namespace dither

int main(int argc, char** argv) {
    dither::DaemonOptions options;
    if (const auto exit_code = dither::parse_command_line(argc, argv, options))
        return *exit_code;
    dither::block_signals();  // before any thread is there
    dither::start_log(options.log_level);
    return dither::guarded(options);
}
