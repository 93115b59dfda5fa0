#include "core/precision/probe.hpp"

#include <algorithm>

namespace dither {
namespace {

/// A product by differences of the gradient takes two gradients; an exact one the output at two points and, from one of
/// them, a backward pass.
constexpr ProbeWork kDifference{.gradients = 2};
constexpr ProbeWork kExact{.forwards = 1, .gradients = 1};

/// `exact_layers` of the products are exact.
ProbeWork curvature_work(std::size_t layers, std::size_t exact_layers, Probe probe) {
    const double products = asks(probe, Probe::curvature_norm) ? CurvatureProbe::kPowerIterations : 1;
    const double exact = products * static_cast<double>(exact_layers);
    const double differences = products * static_cast<double>(layers - exact_layers);
    return {.forwards = 1 + exact * kExact.forwards,  // one records the branches
            .gradients = exact * kExact.gradients + differences * kDifference.gradients};
}

ProbeWork sensitivity_work(const Schema& schema) {
    const auto measured = std::ranges::count_if(schema.layers(), [](const LayerSpec& l) { return l.macs > 0; });
    return {.gradients = 1 + 2 * static_cast<double>(measured)};
}

ProbeWork work_of(const Schema& schema, std::size_t exact_layers, Probe probe) {
    ProbeWork work;
    if (asks(probe, Probe::curvature) || asks(probe, Probe::curvature_norm))
        work += curvature_work(schema.layer_count(), exact_layers, probe);
    if (asks(probe, Probe::sensitivity))
        work += sensitivity_work(schema);
    return work;
}

}  // namespace

ProbeWork& ProbeWork::operator+=(const ProbeWork& other) {
    forwards += other.forwards;
    gradients += other.gradients;
    return *this;
}

ProbeWork probe_work(const Model& model, Probe probe, CurvatureMethod method) {
    std::size_t exact_layers = 0;
    for (std::size_t i = 0; i < model.schema().layer_count() && method == CurvatureMethod::exact; ++i)
        exact_layers += model.affine_in(i) ? 1 : 0;
    return work_of(model.schema(), exact_layers, probe);
}

ProbeWork probe_work(const Schema& schema, Probe probe) {
    return work_of(schema, 0, probe);
}

std::size_t probe_samples(const Schema& schema, Probe probe, std::uint64_t trained, std::size_t batch_size,
                          std::size_t most) {
    const ProbeWork work = probe_work(schema, probe);
    const double each = std::max(work.forwards + 3 * work.gradients, 1.0);
    const double affordable = kProbeShare * 3 * static_cast<double>(trained) / each;
    const std::size_t limit = std::min(most, batch_size);
    const double samples = std::max(affordable, static_cast<double>(kLeastProbeSamples));
    return samples < static_cast<double>(limit) ? static_cast<std::size_t>(samples) : limit;
}

}  // namespace dither
