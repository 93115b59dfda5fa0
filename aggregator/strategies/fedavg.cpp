// Federated averaging with a server step (McMahan et al., AISTATS 2017, algorithm 1; Reddi et al., ICLR 2021, for the
// server's learning rate):
//     weight_k = min(n_k, sample_cap)   model <- model + server_lr * mean
#include "aggregator/detail/strategies.hpp"
#include "core/config.hpp"
#include "core/error.hpp"

#include <algorithm>

namespace dither {

namespace {

class FedAvg final : public Strategy {
public:
    explicit FedAvg(const StrategyOptions& options) : options_(options) {}

    std::uint64_t weight(std::uint64_t samples) const override { return std::min(samples, options_.sample_cap); }

    void apply(std::span<const float> model, std::span<float> mean_update) override {
        require(mean_update.size() == model.size(), "an update of {} values for a model of {}", mean_update.size(),
                model.size());
        for (std::size_t j = 0; j < model.size(); ++j)
            mean_update[j] = static_cast<float>(model[j] + options_.server_lr * mean_update[j]);
    }

private:
    StrategyOptions options_;
};

}  // namespace

std::unique_ptr<Strategy> make_fedavg(const StrategyOptions& options) {
    return std::make_unique<FedAvg>(options);
}

}  // namespace dither
