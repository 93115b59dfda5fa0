// Steps along the mean update: federated averaging, and its normalized form.
#include "aggregator/detail/strategies.hpp"
#include "core/error.hpp"
#include "core/optim/local_progress.hpp"

#include <algorithm>
#include <cstdint>
#include <map>

namespace dither {

namespace {

class FedAvg : public Strategy {
public:
    FedAvg(const Job& job, const Schema& schema)
        : Strategy(job.federation.strategy, schema), step_(options().server_lr) {}

protected:
    void set_step(double step) { step_ = step; }

private:
    void move(std::size_t /*offset*/, std::span<const float> model, std::span<float> mean_update) override {
        for (std::size_t j = 0; j < model.size(); ++j)
            mean_update[j] = static_cast<float>(model[j] + step_ * mean_update[j]);
    }

    double step_;
};

class FedNova final : public FedAvg {
public:
    FedNova(const Job& job, const Schema& schema) : FedAvg(job, schema), train_(job.train) {}

private:
    void begin(std::span<const Contribution> cohort) override {
        std::map<std::uint32_t, std::uint64_t> weights;  // of so many steps: exact, in whatever order they came
        for (const Contribution& one : cohort)
            weights[std::min(one.steps, most_steps())] += one.weight;
        double progress = 0, total = 0;
        for (const auto& [steps, weight] : weights) {
            progress += static_cast<double>(weight) * local_progress(train_, steps);
            total += static_cast<double>(weight);
        }
        require(total > 0, "a mean of nobody's updates");
        set_step(options().server_lr * progress / total);
    }

    /// What a client says of its steps is as good as what it says of its samples: it has those of sample_cap at most.
    std::uint32_t most_steps() const {
        constexpr std::uint64_t kMost = 1 << 24;  // of any client: a round is not to be held up by counting
        const std::uint64_t batches = (options().sample_cap - 1) / train_.batch_size + 1;
        return static_cast<std::uint32_t>(batches < kMost ? std::min(kMost, train_.epochs * batches) : kMost);
    }

    TrainOptions train_;
};

}  // namespace

std::unique_ptr<Strategy> make_fedavg(const Job& job, const Schema& schema) {
    return std::make_unique<FedAvg>(job, schema);
}

std::unique_ptr<Strategy> make_fednova(const Job& job, const Schema& schema) {
    return std::make_unique<FedNova>(job, schema);
}

}  // namespace dither
