// Steps along the mean update: federated averaging, its normalized and its controlled form.
#include "aggregator/detail/strategies.hpp"
#include "core/error.hpp"
#include "core/optim/local_progress.hpp"
#include "transport/held_model.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

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

/// Cares how far the clients' steps could go.
class Measuring : public FedAvg {
public:
    Measuring(const Job& job, const Schema& schema) : FedAvg(job, schema), train_(job.train) {}

protected:
    const TrainOptions& train() const { return train_; }

    /// The weighted mean of their local progress.
    double mean_progress(std::span<const Contribution> cohort) const {
        std::map<std::uint32_t, std::uint64_t> weights;  // of so many steps: exact, in whatever order they came
        for (const Contribution& one : cohort)
            weights[std::min(one.steps, most_steps())] += one.weight;
        double progress = 0, total = 0;
        for (const auto& [steps, weight] : weights) {
            progress += static_cast<double>(weight) * local_progress(train_, steps);
            total += static_cast<double>(weight);
        }
        require(total > 0, "a mean of nobody's updates");
        return progress / total;
    }

private:
    /// What a client says of its steps is as good as what it says of its samples: it has those of sample_cap at most.
    std::uint32_t most_steps() const {
        constexpr std::uint64_t kMost = 1 << 24;  // of any client: a round is not to be held up by counting
        const std::uint64_t batches = (options().sample_cap - 1) / train_.batch_size + 1;
        return static_cast<std::uint32_t>(batches < kMost ? std::min(kMost, train_.epochs * batches) : kMost);
    }

    TrainOptions train_;
};

class FedNova final : public Measuring {
public:
    using Measuring::Measuring;

private:
    void begin(std::span<const Contribution> cohort) override { set_step(options().server_lr * mean_progress(cohort)); }
};

class Scaffold final : public Measuring {
public:
    Scaffold(const Job& job, const Schema& schema)
        : Measuring(job, schema), clients_(job.federation.clients), state_(schema.parameters() + kMoments) {}

    std::optional<ControlStep> follow(std::span<const float> change) override {
        move_control(schema(), step_, change, std::span(state_).first(schema().parameters()));
        return step_;
    }
    std::span<const float> control() const override { return std::span(state_).first(schema().parameters()); }
    std::span<const float> state() const override { return state_; }

    void restore(std::span<const float> state) override {
        require(state.size() == state_.size(), "a state of {} values for one of {}", state.size(), state_.size());
        std::ranges::copy(state, state_.begin());
    }

private:
    static constexpr std::size_t kMoments = 2;  // behind c: how many updates there were, and their mean weight

    void begin(std::span<const Contribution> cohort) override {
        const double progress = mean_progress(cohort);
        const double share = share_of(cohort, progress);
        const double way = options().server_lr * progress * train().optimizer.lr;
        step_ = {.keep = static_cast<float>(1 - share), .gain = static_cast<float>(-share / way)};
    }

    /// Of weight * steps, among all clients: what an update moves c by must not depend on whom it came with, or what it
    /// once added would not be what its client's next one takes back. What nobody knows, all clients' weight * steps,
    /// is taken to be that of the updates so far.
    double share_of(std::span<const Contribution> cohort, double progress) {
        float& updates = state_[schema().parameters()];
        float& typical = state_[schema().parameters() + 1];
        double weight = 0;
        for (const Contribution& one : cohort)
            weight += static_cast<double>(one.weight);
        const double count = static_cast<double>(cohort.size());
        const double moved = weight * progress;
        updates = static_cast<float>(updates + count);
        typical = static_cast<float>(typical + (moved - count * typical) / updates);
        return std::min(1.0, moved / (clients_ * double{typical}));
    }

    std::uint32_t clients_;
    ControlStep step_;
    std::vector<float> state_;
};

}  // namespace

std::unique_ptr<Strategy> make_fedavg(const Job& job, const Schema& schema) {
    return std::make_unique<FedAvg>(job, schema);
}

std::unique_ptr<Strategy> make_fednova(const Job& job, const Schema& schema) {
    return std::make_unique<FedNova>(job, schema);
}

std::unique_ptr<Strategy> make_scaffold(const Job& job, const Schema& schema) {
    return std::make_unique<Scaffold>(job, schema);
}

}  // namespace dither
