#include "aggregator/strategy.hpp"

#include "aggregator/detail/strategies.hpp"
#include "core/choice.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace dither {

namespace {

using Maker = std::unique_ptr<Strategy> (*)(const Job&, const Schema&);

constexpr std::array kStrategies{
    ChoiceRow<Maker>{"fedavg", "", make_fedavg},         ChoiceRow<Maker>{"fedavgm", "", make_fedavgm},
    ChoiceRow<Maker>{"fedadagrad", "", make_fedadagrad}, ChoiceRow<Maker>{"fedadam", "", make_fedadam},
    ChoiceRow<Maker>{"fedyogi", "", make_fedyogi},       ChoiceRow<Maker>{"fednova", "", make_fednova},
    ChoiceRow<Maker>{"scaffold", "", make_scaffold},
};

}  // namespace

Strategy::Strategy(StrategyOptions options, const Schema& schema) : options_(std::move(options)), schema_(schema) {}

std::uint64_t Strategy::weight(std::uint64_t samples) const {
    return options_.weights == "uniform" ? kUniformWeight : std::min(samples, options_.sample_cap);
}

void Strategy::apply(std::span<const float> model, std::span<float> mean_update, std::span<const Contribution> cohort) {
    require(mean_update.size() == schema_.parameters() && model.size() == schema_.parameters(),
            "an update of {} values for a model of {}, expected {}", mean_update.size(), model.size(),
            schema_.parameters());
    begin(cohort);
    for (const LayerSpec& layer : schema_.layers()) {
        const std::size_t trained = layer.trained_count();
        move(layer.offset, model.subspan(layer.offset, trained), mean_update.subspan(layer.offset, trained));
        for (std::size_t j = layer.offset + trained; j < layer.offset + layer.count; ++j)
            mean_update[j] += model[j];
    }
}

void Strategy::restore(std::span<const float> state) {
    require(state.empty(), "a strategy without state was given {} values to restore", state.size());
}

std::unique_ptr<Strategy> make_strategy(const Job& job, const Schema& schema) {
    return choose(kStrategies, "federation.strategy.kind", job.federation.strategy.kind)(job, schema);
}

}  // namespace dither
