// How the controller answers to what nodes report: a whole federation in one process, real training and the production
// server, in which some of what clients say of themselves is rewritten on its way out.
//
//     dither-bench-reaction JOB.toml --out DIR [--set K=V]... [--scale LAYER=FACTOR --from ROUND] [--liars SHARE --lie
//     FACTOR]
//
// --scale: from a round on, every client reports the gradient of one layer (its norm, raw and smoothed) FACTOR times as
// large; sensitivities, which speak of the whole gradient, stay. --liars: that share of the clients multiplies every
// statistic by FACTOR or divides by it, by turns, and makes up those that it was not asked for. Updates themselves stay
// as they are. The run leaves what dither-simulate leaves.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "aggregator/server.hpp"
#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/error.hpp"
#include "node/session.hpp"
#include "transport/loopback.hpp"

namespace dither {
namespace {

constexpr std::int64_t kEvaluationBatch = 250;

struct Tampering {
    std::size_t layer = 0;
    float scale = 1;  ///< of that layer's gradient
    std::uint32_t from = 1;
    double liars = 0;  ///< share of the clients
    float lie = 1;
};

class TamperingChannel final : public Channel {
public:
    TamperingChannel(std::unique_ptr<Channel> inner, const Tampering& tampering)
        : inner_(std::move(inner)), tampering_(tampering) {}

    std::optional<Message> receive() override { return inner_->receive(); }

    void send(const Message& message) override {
        const auto* update = std::get_if<Update>(&message);
        if (update == nullptr)
            return inner_->send(message);
        Update tampered = *update;
        rewrite(tampered);
        inner_->send(tampered);
    }

private:
    void rewrite(Update& update) const {
        if (update.round >= tampering_.from && tampering_.scale != 1)
            for (float* norm : {&update.report.layers.at(tampering_.layer).grad_norm,
                                &update.report.layers.at(tampering_.layer).signal_norm})
                *norm *= *norm < 0 ? 1 : tampering_.scale;
        const std::uint32_t before = liars_below(update.client);
        if (liars_below(update.client + 1) == before)
            return;
        const float factor = before % 2 == 0 ? tampering_.lie : 1 / tampering_.lie;
        for (LayerStatistics& layer : update.report.layers)
            for_each_statistic(
                layer, [&](const char*, float& value, Combine) { value = value < 0 ? factor : value * factor; });
    }

    /// Of the clients below this one: liars are spread evenly.
    std::uint32_t liars_below(std::uint32_t client) const {
        return static_cast<std::uint32_t>(client * tampering_.liars);
    }

    std::unique_ptr<Channel> inner_;
    Tampering tampering_;
};

struct Options {
    std::string job;
    std::string out;
    std::vector<std::string> overrides;
    std::string scale;
    Tampering tampering;
    unsigned workers = 2;
};

void parse(int argc, char** argv, Options& options) {
    CLI::App app("Runs a federation in which some statistics are rewritten on their way to the aggregator.");
    app.add_option("JOB", options.job, "The job file (TOML)")->required();
    app.add_option("--out", options.out, "Output folder")->required();
    app.add_option("--set", options.overrides, "Override one key of the job: section.key=value")
        ->allow_extra_args(false);
    app.add_option("--scale", options.scale, "LAYER=FACTOR: report that layer's gradient so many times as large");
    app.add_option("--from", options.tampering.from, "The first round of --scale");
    app.add_option("--liars", options.tampering.liars, "Share of the clients that lie")->check(CLI::Range(0.0, 1.0));
    app.add_option("--lie", options.tampering.lie, "What they multiply or divide their statistics by");
    app.add_option("--workers", options.workers, "Worker threads")->check(CLI::Range(1U, 64U));
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        std::exit(app.exit(error));
    }
}

void read_scale(Options& options, const Schema& schema) {
    if (options.scale.empty())
        return;
    const std::size_t equals = options.scale.find('=');
    const std::string name = options.scale.substr(0, equals);
    const auto layers = schema.layers();
    const auto layer = std::ranges::find(layers, name, &LayerSpec::name);
    if (layer == layers.end() || equals == std::string::npos)
        throw InputError(fmt::format("--scale {}: expected LAYER=FACTOR with a layer of the model", options.scale));
    options.tampering.layer = static_cast<std::size_t>(layer - layers.begin());
    try {
        options.tampering.scale = std::stof(options.scale.substr(equals + 1));
    } catch (const std::logic_error&) {
        throw InputError(fmt::format("--scale {}: expected a number after the =", options.scale));
    }
}

void run(Options options) {
    Job job = load_job(options.job, options.overrides);
    job.output.dir = options.out;
    const DataSplits data = load_data(job.data, job.job.seed);
    const auto backend = make_backend(job.compute);
    const ModelInput input{
        .sample = data.test.sample_shape(), .outputs = data.test.outputs(), .max_batch = kEvaluationBatch};
    read_scale(options, make_model(job.model, job.quantize, input, *backend)->schema());
    RunFolder folder(job.output.dir, false);
    LoopbackHub hub;
    std::vector<std::jthread> workers;
    for (unsigned i = 0; i < options.workers; ++i)
        workers.emplace_back([channel = hub.connect(), &data, &options]() mutable {
            TamperingChannel tampering(std::move(channel), options.tampering);
            run_session(tampering, {.node = "worker", .data = &data.train});
        });
    const RunResult result = run_server({.job = job,
                                         .test = data.test,
                                         .input = input,
                                         .backend = *backend,
                                         .hub = hub,
                                         .folder = folder,
                                         .peers = options.workers},
                                        false);
    hub.close();
    std::cout << fmt::format("accuracy {:.4f}, {:.2f} bits on average\n", result.totals.final_accuracy.value_or(0),
                             32 * result.totals.bit_ops.training / result.totals.bit_ops.training_fp32);
}

}  // namespace
}  // namespace dither

int main(int argc, char** argv) {
    dither::Options options;
    dither::parse(argc, argv, options);
    try {
        dither::run(std::move(options));
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "dither-bench-reaction: " << error.what() << '\n';
        return 1;
    }
}
