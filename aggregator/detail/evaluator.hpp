// Evaluates models on the test set, where that is due. Private to the aggregator.
#pragma once

#include "aggregator/record.hpp"
#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/model/evaluate.hpp"
#include "core/model/model.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace dither {

/// Whether models are evaluated at the end of round `round`.
bool is_evaluated(const JobOptions& options, std::uint32_t round);

/// Borrows the job and the test set.
class Evaluator {
public:
    Evaluator(const Job& job, const Dataset& test) : job_(job), test_(test), loss_(make_loss(job.train.loss)) {}

    /// Under the record's plan. Why the model cannot be evaluated; empty if it was, or if that was not due.
    std::string evaluate_if_due(Model& model, RoundRecord& record);
    /// Likewise `average`, in the memory of `model`, which is as it was afterwards; `scratch` is as large.
    void evaluate_average_if_due(Model& model, std::span<const float> average, RoundRecord& record,
                                 std::span<float> scratch);

private:
    bool is_due(const RoundRecord& record) const;
    Score score(Model& model, const RoundRecord& record);

    const Job& job_;
    const Dataset& test_;
    std::unique_ptr<Loss> loss_;
};

}  // namespace dither
