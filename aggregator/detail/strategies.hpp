// Every strategy's constructor, for make_strategy.
#pragma once

#include "aggregator/strategy.hpp"

namespace dither {

std::unique_ptr<Strategy> make_fedavg(const Job& job, const Schema& schema);
std::unique_ptr<Strategy> make_fedavgm(const Job& job, const Schema& schema);
std::unique_ptr<Strategy> make_fedadagrad(const Job& job, const Schema& schema);
std::unique_ptr<Strategy> make_fedadam(const Job& job, const Schema& schema);
std::unique_ptr<Strategy> make_fedyogi(const Job& job, const Schema& schema);
std::unique_ptr<Strategy> make_fednova(const Job& job, const Schema& schema);
std::unique_ptr<Strategy> make_scaffold(const Job& job, const Schema& schema);

}  // namespace dither
