// Every strategy's constructor, for make_strategy.
#pragma once

#include "aggregator/strategy.hpp"

namespace dither {

std::unique_ptr<Strategy> make_fedavg(const StrategyOptions& options);

}  // namespace dither
