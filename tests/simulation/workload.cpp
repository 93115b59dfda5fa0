#include "tests/simulation/workload.hpp"

#include "core/optim/local_progress.hpp"
#include "core/rng.hpp"

#include <array>
#include <chrono>
#include <string_view>

#include <fmt/format.h>

namespace dither::simulation {

namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kInputs = 4;
constexpr int kClasses = 3;

Dataset made_up_samples(std::size_t count, const StreamKey& key) {
    Stream stream(key);
    std::vector<float> values(count * kInputs);
    stream.fill_normal(values);
    std::vector<std::int32_t> labels;
    for (std::size_t i = 0; i < count; ++i) {
        labels.push_back(static_cast<std::int32_t>(stream.below(kClasses)));
        values[i * kInputs + static_cast<std::size_t>(labels.back())] += 2;
    }
    return {Shape{1, kInputs}, std::move(values), std::move(labels), kClasses, {}, kClasses};
}

void choose_codecs(Job& job, Stream& stream) {
    constexpr std::array<std::string_view, 8> kUplinks{"grid", "raw",  "grid", "topk",
                                                       "sign", "eden", "qsgd", "trellis"};
    job.codec.uplink.kind = kUplinks[stream.below(kUplinks.size())];
    if (job.codec.uplink.kind == "topk")
        job.codec.uplink.share = 0.3;
    job.codec.downlink_of = stream.below(4) == 0 ? "model" : "delta";
    job.codec.downlink.kind = std::array{"grid", "grid", "raw"}[stream.below(3)];
    if (job.codec.downlink_of == "delta" && stream.below(4) == 0)
        job.codec.downlink.kind = "sign";
}

/// Nodes then hold a control variate beside the model, and keep one of their own.
void control(Job& job) {
    job.federation.strategy.kind = "scaffold";
    job.train.optimizer.momentum = 0;
}

void be_lenient(FederationOptions& federation, Stream& stream) {
    federation.deadline = std::chrono::seconds(20 + stream.below(60));
    federation.rejoin = std::chrono::seconds(5 + stream.below(60));
    federation.quorum = 0.5;
    if (stream.below(2) == 0) {
        federation.over_select = 1.5;
        federation.cohort = federation.clients * 2 / 3;
    }
}

Job make_job(std::uint32_t number, bool lenient) {
    Stream stream({.seed = number, .purpose = Purpose::test, .lane = 10});
    Job job;
    job.job.seed = 1 + number;
    job.job.rounds = 3 + stream.below(4);
    job.data.path = "made-up";
    job.federation.clients = 4 + stream.below(5);
    job.federation.cohort = job.federation.clients - stream.below(3);
    job.federation.quorum = 1.0;
    job.federation.rejoin = 24h;
    if (lenient)
        be_lenient(job.federation, stream);
    job.model.name = stream.below(3) == 0 ? "mlp" : "linear";
    job.model.hidden = {5};
    job.train.batch_size = 8;
    job.precision.policy = std::array{"uniform", "numgeom", "fp32"}[stream.below(3)];
    job.precision.curvature_every = 2;
    job.train.swa_start = stream.below(4) == 0 ? 2 : 0;
    choose_codecs(job, stream);
    if (job.codec.downlink_of == "delta" && stream.below(4) == 0)
        control(job);
    job.compute.backend = "eigen";
    return job;
}

}  // namespace

std::string Workload::describe() const {
    return fmt::format("{}, {} clients, cohort {}, {} rounds, {}, {}, up {}, down {} ({})", job.model.name,
                       job.federation.clients, job.federation.cohort, job.job.rounds, job.federation.strategy.kind,
                       job.precision.policy, job.codec.uplink.kind, job.codec.downlink.kind, job.codec.downlink_of);
}

bool Workload::keeps_residuals() const {
    return job.codec.uplink.kind == "topk" || job.codec.uplink.kind == "sign" ||
           corrects_steps(job.federation.strategy);
}

Workload make_workload(std::uint32_t number, bool lenient) {
    const StreamKey key{.seed = number, .purpose = Purpose::test};
    Workload workload{.number = number,
                      .job = make_job(number, lenient),
                      .data = {},
                      .devices = {},
                      .test = made_up_samples(20, key.with(key.purpose, 11))};
    for (std::uint32_t node = 0; node < workload.job.federation.clients; ++node)
        workload.devices.push_back(node % 3 == number % 4 ? Device{.widths = {4, 8, 32}} : Device{});
    for (std::uint32_t node = 0; node < workload.job.federation.clients; ++node)
        workload.data.push_back(made_up_samples(6 + 3 * node, key.with(key.purpose, 12 + node)));
    return workload;
}

}  // namespace dither::simulation
