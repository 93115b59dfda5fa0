#include "aggregator/strategy.hpp"

#include "aggregator/detail/strategies.hpp"
#include "core/config.hpp"
#include "core/error.hpp"

namespace dither {

void Strategy::restore(std::span<const float> state) {
    require(state.empty(), "a strategy without state was given {} values to restore", state.size());
}

std::unique_ptr<Strategy> make_strategy(const StrategyOptions& options, std::size_t /*parameters*/) {
    if (options.kind == "fedavg")
        return make_fedavg(options);
    throw InputError(fmt::format("federation.strategy.kind: expected \"fedavg\", got \"{}\"", options.kind));
}

}  // namespace dither
