// Federated averaging with a server step (McMahan et al., AISTATS 2017, algorithm 1; Reddi et al., ICLR 2021, for the
// server's learning rate):
//     weight_k = n_k                    model <- model + server_lr * mean
#include "aggregator/detail/strategies.hpp"
#include "core/config.hpp"
#include "core/error.hpp"

namespace dither {

namespace {

class FedAvg final : public Strategy {
public:
    explicit FedAvg(double server_lr) : server_lr_(server_lr) {}

    std::uint64_t weight(std::uint64_t samples) const override { return samples; }

    void apply(std::span<const float> mean_update, std::span<float> model) override {
        require(mean_update.size() == model.size(), "an update of {} values for a model of {}", mean_update.size(),
                model.size());
        for (std::size_t j = 0; j < model.size(); ++j)
            model[j] = static_cast<float>(model[j] + server_lr_ * mean_update[j]);
    }

private:
    double server_lr_;
};

}  // namespace

std::unique_ptr<Strategy> make_fedavg(const StrategyOptions& options) {
    return std::make_unique<FedAvg>(options.server_lr);
}

}  // namespace dither
