#include "aggregator/detail/evaluator.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <utility>

namespace dither {

bool is_evaluated(const JobOptions& options, std::uint32_t round) {
    return round % options.evaluate_every == 0 || round == options.rounds;
}

bool Evaluator::is_due(const RoundRecord& record) const {
    return is_evaluated(job_.job, record.round) && test_.size() > 0;
}

Score Evaluator::score(Model& model, const RoundRecord& record) {
    return evaluate(model, *loss_, test_, &record.plan,
                    {.seed = job_.job.seed, .purpose = Purpose::evaluation, .round = record.round});
}

std::string Evaluator::evaluate_if_due(Model& model, RoundRecord& record) {
    if (!is_due(record))
        return {};
    try {
        const Score result = score(model, record);
        record.test_loss = result.mean_loss();
        if (test_.classes() > 0)
            record.test_accuracy = result.accuracy();
        record.test_errors = regression_errors(result, test_);
        return {};
    } catch (const TrainingError& e) {
        return e.what();
    }
}

void Evaluator::evaluate_average_if_due(Model& model, std::span<const float> average, RoundRecord& record,
                                        std::span<float> scratch) {
    if (!is_due(record))
        return;
    const std::span<float> parameters = model.parameters();
    std::ranges::copy(parameters, scratch.begin());
    std::ranges::copy(average, parameters.begin());
    try {
        const Score result = score(model, record);
        record.swa_loss = result.mean_loss();
        if (test_.classes() > 0)
            record.swa_accuracy = result.accuracy();
    } catch (const TrainingError& e) {
        record.reason.push_back(fmt::format("the average of the models cannot be evaluated: {}", e.what()));
    }
    std::ranges::copy(scratch, parameters.begin());
}

}  // namespace dither
