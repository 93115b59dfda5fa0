// What an update must be before it reaches the sum, and what of its report can be believed. Private to the aggregator.
#pragma once

#include "core/config.hpp"
#include "core/model/schema.hpp"
#include "core/precision/statistics.hpp"
#include "transport/codec.hpp"
#include "transport/messages.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dither {

/// Borrows the schema and the uplink's codec. Not thread-safe.
class UpdateCheck {
public:
    UpdateCheck(const Job& job, const Schema& schema, const Codec& codec)
        : train_(job.train),
          holdout_(job.federation.holdout),
          measures_uplink_(job.codec.measure_uplink),
          schema_(schema),
          codec_(codec),
          largest_(schema.layer_count()) {}

    /// Why the update is none that `task` could have brought forth; empty if it can be. `terms`: of its payload.
    std::string refusal(const Update& update, const RoundPlan& task, const Terms& terms);
    /// The largest |code| of each layer of the update that passed last.
    std::span<const std::uint64_t> largest() const { return largest_; }
    /// The Euclidean norm of what that decodes to.
    double norm() const { return norm_; }
    /// Its report without measurements that neither `asked` nor the job is for, and what its own payload proves wrong.
    TrainingReport believable(TrainingReport report, Probe asked, GridSteps steps) const;

private:
    std::string refusal_of(const TrainingReport& report) const;

    /// On as many samples as the job holds back of all that it says to have, and of losses that there are.
    bool is_believable(const HeldOutScore& score, std::uint64_t trained) const;

    TrainOptions train_;
    double holdout_;
    bool measures_uplink_;
    const Schema& schema_;
    const Codec& codec_;
    std::vector<std::uint64_t> largest_;
    double norm_ = 0;
};

}  // namespace dither
