// Everything that a job decides on a node: its data, network, codecs and the model that it holds.
#pragma once

#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/data/holdout.hpp"
#include "core/data/partition.hpp"
#include "core/liars.hpp"
#include "node/control_variate.hpp"
#include "node/error_feedback.hpp"
#include "node/session.hpp"
#include "node/trainer.hpp"
#include "transport/codec.hpp"
#include "transport/held_model.hpp"

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dither::detail {

/// Not thread-safe, not movable. Throws InputError when the job or its data cannot be used here.
class Workshop {
public:
    /// `client`: that it speaks for, or kAnyClient. The setup's data set is borrowed.
    Workshop(const std::string& job, std::uint32_t client, const SessionSetup& setup);
    Workshop(const Workshop&) = delete;
    Workshop& operator=(const Workshop&) = delete;

    /// Samples a second of the last training; 0: none yet, or too short to tell.
    float speed() const { return speed_; }

    /// Throws TrainingError when training diverges, and others when the task cannot be done: one client's failure.
    Update carry_out(const RoundPlan& plan);

private:
    Dataset load(const SessionSetup& setup) const;
    /// A node that speaks for one client owns all of its data; only a simulation deals one data set to many.
    std::optional<Partition> deal() const;
    /// For vectors of clients. `need`: why there must be one.
    std::filesystem::path state_folder(const SessionSetup& setup, const std::string& need) const;
    LocalSamples samples_of(std::uint32_t client) const;
    /// Of update_, by the uplink codec. Reports what that loses, if the job asks.
    std::vector<std::byte> encode(const RoundPlan& plan, TrainingReport& report);
    /// What of update_ is not in its payload, where nothing is fed back.
    std::span<const float> loss(std::span<const std::byte> payload, const Terms& terms);
    void note_speed(const TrainingReport& report);
    void check(const RoundPlan& plan) const;
    /// The aggregator was told what this node executes.
    void check_widths(const RoundPlan& plan) const;

    std::uint32_t client_;     ///< that it speaks for
    std::vector<int> widths_;  ///< that it executes; empty: all
    Job job_;
    std::optional<Dataset> loaded_;
    const Dataset& data_;
    std::optional<Partition> partition_;
    std::optional<Attackers> label_flippers_;
    std::unique_ptr<Backend> backend_;
    Trainer trainer_;
    std::unique_ptr<Codec> uplink_;
    std::optional<ErrorFeedback> feedback_;
    std::optional<ControlVariate> control_;
    HeldModel model_;
    std::vector<float> update_;
    std::vector<float> lost_;  ///< of it; empty where that is not measured, or the feedback's
    float speed_ = 0;
};

}  // namespace dither::detail
