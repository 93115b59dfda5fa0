// Real updates to measure codecs on: trains a federation in fp32 with exact updates for some rounds and writes what its
// clients would send in the next one.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "aggregator/sampling.hpp"
#include "core/config.hpp"
#include "core/data/partition.hpp"
#include "core/error.hpp"
#include "node/trainer.hpp"

#include <fmt/ranges.h>

namespace dither {
namespace {

struct Options {
    std::string job;
    std::vector<std::string> overrides;
    std::filesystem::path out;
    std::uint32_t rounds = 20;
};

Options parse(int argc, char** argv) {
    CLI::App app(
        "Trains a job in fp32 with exact updates for some rounds, then writes to OUT, as fp32: `before.f32`, what the "
        "last "
        "round changed, and `update-C.f32` of each client of the next round. Prints the layers as dither-bench-codecs "
        "takes them (--layers).");
    Options options;
    app.add_option("JOB", options.job, "The job file (TOML)")->required();
    app.add_option("OUT", options.out, "Folder for the updates")->required();
    app.add_option("--rounds", options.rounds, "Before the updates are written")
        ->capture_default_str()
        ->check(CLI::Range(1, 100000));
    app.add_option("--set", options.overrides, "Override one key of the job: section.key=value")
        ->allow_extra_args(false);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        std::exit(app.exit(error));
    }
    return options;
}

/// "3x3x1x16"
std::string text_of(const Shape& shape) {
    std::vector<std::int64_t> extents;
    for (int axis = 0; axis < shape.rank(); ++axis)
        extents.push_back(shape[axis]);
    return fmt::format("{}", fmt::join(extents, "x"));
}

/// "3x3x1x16+16,1568x128+128"
std::string text_of(const Schema& schema) {
    std::vector<std::string> layers;
    for (const LayerSpec& layer : schema.layers()) {
        std::vector<std::string> tensors;
        for (const TensorSpec& tensor : layer.tensors)
            tensors.push_back(text_of(tensor.shape));
        layers.push_back(fmt::format("{}", fmt::join(tensors, "+")));
    }
    return fmt::format("{}", fmt::join(layers, ","));
}

class Federation {
public:
    explicit Federation(const Options& options)
        : options_(options),
          job_(load_job(options.job, options.overrides)),
          data_(load_data_to_deal(job_)),
          partition_(make_partition(job_.federation.partition, job_.federation.clients, data_.train, job_.job.seed)),
          backend_(make_backend(job_.compute)),
          trainer_(job_, data_.train, *backend_),
          plan_(PrecisionPlan::uniform(trainer_.schema().layer_count(), kFullBits)),
          model_(trainer_.schema().parameters()),
          update_(model_.size()) {
        trainer_.write_initial_model(model_);
    }

    void run() {
        std::filesystem::create_directories(options_.out);
        for (std::uint32_t round = 1; round <= options_.rounds; ++round)
            advance(round);
        write("before.f32", mean_);
        for (const std::uint32_t client : clients_of_round(job_, options_.rounds + 1)) {
            train(client, options_.rounds + 1);
            write(fmt::format("update-{}.f32", client), update_);
        }
        std::cout << text_of(trainer_.schema()) << '\n';
    }

private:
    /// The client's samples.
    double train(std::uint32_t client, std::uint32_t round) {
        trainer_.train({.client = client, .round = round, .plan = &plan_, .probe = Probe::none}, partition_.of(client),
                       model_, update_);
        return static_cast<double>(partition_.of(client).size());
    }

    void advance(std::uint32_t round) {
        std::vector<double> sum(model_.size());
        double samples = 0;
        for (const std::uint32_t client : clients_of_round(job_, round)) {
            const double weight = train(client, round);
            samples += weight;
            for (std::size_t i = 0; i < sum.size(); ++i)
                sum[i] += weight * static_cast<double>(update_[i]);
        }
        mean_.resize(sum.size());
        for (std::size_t i = 0; i < sum.size(); ++i) {
            mean_[i] = static_cast<float>(sum[i] / samples);
            model_[i] += mean_[i];
        }
    }

    void write(const std::string& name, std::span<const float> values) const {
        std::ofstream file(options_.out / name, std::ios::binary);
        file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size_bytes()));
        if (!file.flush())
            throw IoError((options_.out / name).string() + ": cannot write");
    }

    const Options& options_;
    Job job_;
    DataSplits data_;
    Partition partition_;
    std::unique_ptr<Backend> backend_;
    Trainer trainer_;
    PrecisionPlan plan_;
    std::vector<float> model_;
    std::vector<float> update_;
    std::vector<float> mean_;
};

}  // namespace
}  // namespace dither

int main(int argc, char** argv) {
    const dither::Options options = dither::parse(argc, argv);
    try {
        dither::Federation(options).run();
    } catch (const std::exception& error) {
        std::cerr << "dither-bench-updates: " << error.what() << '\n';
        return 1;
    }
}
