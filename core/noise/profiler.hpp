// Measures the profiles of a network on a client's own data, for noise that imitates rounding error ("DNQ", arXiv
// 2511.01462: statistics of each epoch from a small calibration set, smoothed by a moving average).
#pragma once

#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/data/partition.hpp"
#include "core/model/model.hpp"
#include "core/noise/noise.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace dither {

/// Whether the job's noise is made of profiles: a kind of noise that is profiled, or drop-in.
bool needs_profiles(const NoiseOptions& options);
/// Throws InputError that names noise.calibration, the client and both numbers where profiles are needed and `samples`,
/// the client's, are fewer than they are measured on.
void check_calibration(const NoiseOptions& options, std::uint32_t client, std::size_t samples);
/// The same for every client of a partition, who holds back `holdout` of its samples.
void check_calibration(const NoiseOptions& options, const Partition& partition, double holdout);

/// Owned by one worker; what it knows of one client is forgotten at begin(): a client's moving average spans the epochs
/// of one round, for nothing else of a client outlives a round either. Not thread-safe.
class NoiseProfiler {
public:
    /// The schemes of `quantize`, overrides by layer included, at options.bits: nearest integer codes over exact ranges
    /// (minmax), unless the observer is percentile or mse.
    NoiseProfiler(const NoiseOptions& options, const QuantizeOptions& quantize, const Model& model);

    bool needed() const { return needed_; }
    /// A new client, or a new round.
    void begin();
    /// At the start of an epoch, `key.step`: measures on `noise.calibration` of the samples at `indices` (the first so
    /// many of an order drawn with `key`, Purpose::shuffle, lane kCalibrationLane), by two forward passes in fp32 and
    /// without noise, and blends the errors' means and variances and the steps into the moving average, which the first
    /// measurement sets. `model` has the schema that this was made for. Throws what check_calibration throws for
    /// key.client, and TrainingError on an operand that is not finite.
    void measure(Model& model, const Dataset& data, std::span<const std::uint32_t> indices, const StreamKey& key);
    /// One for each layer of the schema; empty ones for layers without products. All are empty before measure().
    std::span<const LayerProfile> profiles() const { return profiles_; }

    static constexpr std::uint32_t kCalibrationLane = 1;  ///< lane 0 shuffles the samples of an epoch

private:
    void blend(LayerProfile& past, const LayerProfile& now) const;

    NoiseOptions options_;
    bool needed_ = false;
    std::vector<QuantizeOptions> quantize_;  ///< of each layer
    std::vector<LayerProfile> profiles_;
    std::vector<std::uint32_t> order_;
    Batch batch_;
};

}  // namespace dither
