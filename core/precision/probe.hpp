// What the measurements of curvature and sensitivity cost.
#pragma once

#include "core/precision/curvature.hpp"
#include "core/precision/policy.hpp"

#include <cstddef>
#include <cstdint>

namespace dither {

/// Passes over the whole network.
struct ProbeWork {
    double forwards = 0;   ///< forward passes that no backward pass follows
    double gradients = 0;  ///< forward and backward passes

    ProbeWork& operator+=(const ProbeWork& other);
    bool operator==(const ProbeWork&) const = default;
};

/// What measuring `probe` once takes at most: CurvatureProbe::measure with `method` and SensitivityProbe::measure.
/// (Power iteration ends early where a product is zero.)
ProbeWork probe_work(const Model& model, Probe probe, CurvatureMethod method);
/// With differences for every product.
ProbeWork probe_work(const Schema& schema, Probe probe);

/// A node measures on so many of its samples at most: more of them steady the estimates, and cost as much more.
inline constexpr std::size_t kLeastProbeSamples = 8;
/// What a measurement may cost, as a share of the training of the client that makes it. Where 3 clients of a cohort of
/// 10 measure every 10 rounds (the defaults), 3% of this is added to all training.
inline constexpr double kProbeShare = 0.5;

/// How many samples a client measures `probe` on that has trained on `trained` samples (epochs counted) in batches of
/// `batch_size`: so many that the work, with differences for every product and a backward pass counting as two forward
/// ones, stays within kProbeShare, but at least kLeastProbeSamples; at most `most`, which is precision.probe_samples,
/// and never more than a batch. Curvature and sensitivity are means over samples: more of them steady the estimate.
std::size_t probe_samples(const Schema& schema, Probe probe, std::uint64_t trained, std::size_t batch_size,
                          std::size_t most);

}  // namespace dither
