// Trains clients locally: one network and one set of buffers, used for one client after the other.
#pragma once

#include "core/compute/backend.hpp"
#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/model/loss.hpp"
#include "core/model/model.hpp"
#include "core/noise/profiler.hpp"
#include "core/optim/loss_scale.hpp"
#include "core/optim/optimizer.hpp"
#include "core/optim/weight_rounder.hpp"
#include "core/precision/curvature.hpp"
#include "core/precision/sensitivity.hpp"
#include "core/precision/statistics.hpp"
#include "transport/makers.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace dither {

/// What a client is asked to do.
struct TrainingTask {
    std::uint32_t client = 0;
    std::uint32_t round = 0;
    const PrecisionPlan* plan = nullptr;
    Probe probe = Probe::none;
    bool flips_labels = false;                  ///< trains on classes - 1 - label: an attacker of a simulation
    std::span<const std::uint32_t> held_out{};  ///< samples that Probe::held_out evaluates, and nothing else sees
    /// SCAFFOLD: c and c_i, of which c - c_i is added to each step's gradient, after clipping; empty: nothing is.
    std::span<const float> control{};
    std::span<const float> own_control{};
};

/// Not thread-safe: one for each worker. Borrows the data set and the backend. A client's result is a pure function of
/// job, task, model and samples: nothing stays from the client before. The training loss is the smoothed one, if
/// train.label_smoothing says so. The report's times are taken from the steady clock, and nothing depends on them.
class Trainer {
public:
    Trainer(const Job& job, const Dataset& data, const Backend& backend, const Makers& makers = {});

    const Schema& schema() const { return model_->schema(); }
    /// The model that every run of the job begins with.
    void write_initial_model(std::span<float> model);
    /// The most memory that activations and what layers keep of them have taken at once.
    std::size_t activation_bytes() const { return model_->arena().peak(); }

    /// Trains from `received` on the samples at `indices` (at least one) for the job's epochs and writes trained -
    /// received into `update`, with the strategy "fednova" divided by the local progress. Throws TrainingError when a
    /// loss or a parameter is not finite, naming client, round, step and value, and InputError where the client has
    /// fewer samples than noise.calibration asks for.
    TrainingReport train(const TrainingTask& task, std::span<const std::uint32_t> indices,
                         std::span<const float> received, std::span<float> update);

private:
    void begin(std::span<const std::uint32_t> indices, std::span<const float> received);
    /// Fills the batch.
    void gather(const TrainingTask& task, std::span<const std::uint32_t> indices, Augmentation augmentation,
                const StreamKey& key);
    /// Trains, and reports all but what the probe asks for.
    TrainingReport train_locally(const TrainingTask& task, std::span<const std::uint32_t> indices,
                                 std::span<const float> received, std::span<float> update);
    /// FedNova: divides the trained parameters' changes by the progress of the steps that loss scaling did not skip.
    void normalize(std::span<float> update, std::uint32_t steps) const;
    void measure(const TrainingTask& task, TrainingReport& report);
    /// The model that is in the network now, under the task's plan as the aggregator's evaluation, in batches of
    /// train.batch_size at most. Nothing where no number comes out of it, or none is asked for.
    std::optional<Score> score_held_out(const TrainingTask& task);
    void measure_sensitivity(const StreamKey& key, TrainingReport& report);
    /// One optimizer step on the batch that starts at `first`; returns its mean loss.
    double step(const TrainingTask& task, const StreamKey& key, std::size_t first, std::uint32_t number);
    /// At the start of an epoch, whose shuffle has the key `epoch`: profiles the network for noise that needs it.
    void profile(const TrainingTask& task, const StreamKey& epoch, std::span<const std::uint32_t> indices);
    /// What step `number` of the round injects; nothing while noise has no strength.
    NoisePass noise(const TrainingTask& task, std::uint32_t number) const;
    float strength(const TrainingTask& task, std::uint32_t number) const;
    std::size_t batches() const;  ///< of an epoch
    /// Fills the model's gradients, times the loss scale; false where they overflowed on the way.
    bool backward(Tensor gradient, const Pass& pass);
    /// One step along the model's gradients, clipped if the job says so; none where they `overflowed` and dynamic loss
    /// scaling tries a smaller scale.
    void move_parameters(const TrainingTask& task, const StreamKey& key, bool overflowed);
    /// FedProx: adds the gradient of train.proximal / 2 * |w - received|^2.
    void pull_back();
    /// The schedule's factor for step `number` of the round.
    double learning_rate(const TrainingTask& task, std::uint32_t number) const;
    void observe_gradients();
    void gather_statistics(TrainingReport& report, std::span<const float> update);

    const Job& job_;
    const Dataset& data_;
    std::unique_ptr<Noise> noise_;
    std::unique_ptr<Loss> loss_;
    std::unique_ptr<Loss> plain_loss_;  ///< of evaluations: not smoothed
    std::unique_ptr<Model> model_;
    std::unique_ptr<Optimizer> optimizer_;
    LossScaler scaler_;
    std::optional<WeightRounder> rounder_;  ///< without master weights
    NoiseProfiler profiler_;
    CurvatureProbe curvature_;
    SensitivityProbe sensitivity_;
    Batch batch_;
    std::vector<std::uint32_t> order_;
    std::span<const float> received_;        ///< the model that the running training starts from
    std::vector<float> smoothed_;            ///< moving average of the gradient, beta = 0.9, for signal_norm
    std::vector<double> squared_gradients_;  ///< of each layer, summed over the steps
};

}  // namespace dither
