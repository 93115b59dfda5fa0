#include "aggregator/detail/round_account.hpp"

#include "core/data/dataset.hpp"
#include "core/precision/probe.hpp"

#include <algorithm>
#include <cmath>

namespace dither {

namespace {

double total_gradient_norm(std::span<const LayerStatistics> layers) {
    double squares = 0;
    for (const LayerStatistics& layer : layers)
        if (layer.grad_norm >= 0)
            squares += static_cast<double>(layer.grad_norm) * layer.grad_norm;
    return std::sqrt(squares);
}

void count_work(const Job& job, const Model& model, const WeightedReport& report, RoundRecord& record) {
    const Schema& schema = model.schema();
    const std::uint64_t samples = report.report.samples * job.train.epochs;
    record.samples += samples;
    record.bit_ops += count_bit_ops(schema, report.plan, samples, report.report.steps);
    for (std::size_t layer = 0; layer < record.work.size(); ++layer) {
        const LayerBitOps work = layer_bit_ops(schema, report.plan, layer, samples, report.report.steps);
        record.work[layer].forward += work.forward;
        record.work[layer].backward += work.backward;
        record.work[layer].optimizer += work.optimizer;
    }
    const ProbeWork probe = probe_work(model, report.probe, curvature_method(job.precision.curvature_method));
    const std::size_t batch =
        probe_samples(schema, report.probe, samples, job.train.batch_size, job.precision.probe_samples);
    record.bit_ops.probe += probe_bit_ops(schema, probe, std::min<std::uint64_t>(report.report.samples, batch));
    record.train_seconds += static_cast<double>(report.report.seconds);
    record.probe_seconds += static_cast<double>(report.report.probe_seconds);
}

std::uint32_t different_plans(std::span<const WeightedReport> reports) {
    std::vector<const PrecisionPlan*> found;
    for (const WeightedReport& report : reports)
        if (std::ranges::none_of(found, [&](const PrecisionPlan* plan) { return *plan == report.plan; }))
            found.push_back(&report.plan);
    return static_cast<std::uint32_t>(found.size());
}

}  // namespace

void account(const Job& job, const Model& model, std::vector<WeightedReport>& reports, RoundRecord& record) {
    const Combination combination = combination_of(job.precision.combine);
    record.layers = combine(reports, model.schema().layer_count(), combination);
    record.participants = static_cast<std::uint32_t>(reports.size());
    record.plans = different_plans(reports);
    if (reports.empty())
        return;
    record.train_loss = combine_train_loss(reports, combination);
    record.grad_norm = total_gradient_norm(record.layers);
    record.update_nmse = combine_update_nmse(reports, combination);
    record.clients = client_scores(reports, !is_regression(job.data));
    record.work.resize(model.schema().layer_count());
    for (const WeightedReport& report : reports)
        count_work(job, model, report, record);
}

std::vector<Contribution> contributions(std::span<const WeightedReport> reports) {
    std::vector<Contribution> cohort;
    cohort.reserve(reports.size());
    for (const WeightedReport& report : reports)
        cohort.push_back({.weight = report.weight, .steps = report.report.steps});
    return cohort;
}

}  // namespace dither
