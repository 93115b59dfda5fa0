// Server optimizers: the mean update is taken for a gradient, with momentum and adaptive steps.
#include "aggregator/detail/strategies.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <cmath>

namespace dither {

namespace {

/// A strategy that keeps `moments` floats a parameter. Their memory is taken when the first update is there.
class Remembering : public Strategy {
public:
    Remembering(const Job& job, const Schema& schema, std::size_t moments, float start)
        : Strategy(job.federation.strategy, schema), moments_(moments), start_(start) {}

    std::span<const float> state() const override { return state_; }

    void restore(std::span<const float> state) override {
        require(state.empty() || state.size() == moments_ * schema().parameters(),
                "a state of {} values for a strategy that keeps {}", state.size(), moments_ * schema().parameters());
        state_.assign(state.begin(), state.end());
    }

protected:
    /// The first moments are 0, the second ones `start`.
    std::span<float> moment(std::size_t which, std::size_t offset, std::size_t count) {
        const std::size_t parameters = schema().parameters();
        if (state_.empty()) {
            state_.resize(moments_ * parameters);
            std::fill(state_.begin() + static_cast<std::ptrdiff_t>(parameters), state_.end(), start_);
        }
        return std::span(state_).subspan(which * parameters + offset, count);
    }

private:
    std::size_t moments_;
    float start_;
    std::vector<float> state_;
};

class FedAvgM final : public Remembering {
public:
    FedAvgM(const Job& job, const Schema& schema) : Remembering(job, schema, 1, 0) {}

private:
    void move(std::size_t offset, std::span<const float> model, std::span<float> mean_update) override {
        const std::span<float> velocity = moment(0, offset, model.size());
        for (std::size_t j = 0; j < model.size(); ++j) {
            velocity[j] = static_cast<float>(options().momentum * velocity[j] + mean_update[j]);
            mean_update[j] = static_cast<float>(model[j] + options().server_lr * velocity[j]);
        }
    }
};

/// The next second moment, from the last one and the square of the mean update.
using SecondMoment = double (*)(double last, double square, double beta2);

double sum_of_squares(double last, double square, double /*beta2*/) {
    return last + square;
}
double moving_average(double last, double square, double beta2) {
    return beta2 * last + (1 - beta2) * square;
}
double yogi(double last, double square, double beta2) {
    const double direction = last > square ? 1 : last < square ? -1 : 0;
    return last - (1 - beta2) * square * direction;
}

template <SecondMoment next>
class Adaptive final : public Remembering {
public:
    Adaptive(const Job& job, const Schema& schema)
        : Remembering(job, schema, 2, static_cast<float>(job.federation.strategy.tau * job.federation.strategy.tau)) {}

private:
    void move(std::size_t offset, std::span<const float> model, std::span<float> mean_update) override {
        const StrategyOptions& o = options();
        const std::span<float> first = moment(0, offset, model.size());
        const std::span<float> second = moment(1, offset, model.size());
        for (std::size_t j = 0; j < model.size(); ++j) {
            const double delta = mean_update[j];
            first[j] = static_cast<float>(o.beta1 * first[j] + (1 - o.beta1) * delta);
            second[j] = static_cast<float>(next(second[j], delta * delta, o.beta2));
            mean_update[j] =
                static_cast<float>(model[j] + o.server_lr * first[j] / (std::sqrt(double{second[j]}) + o.tau));
        }
    }
};

}  // namespace

std::unique_ptr<Strategy> make_fedavgm(const Job& job, const Schema& schema) {
    return std::make_unique<FedAvgM>(job, schema);
}

std::unique_ptr<Strategy> make_fedadagrad(const Job& job, const Schema& schema) {
    return std::make_unique<Adaptive<sum_of_squares>>(job, schema);
}

std::unique_ptr<Strategy> make_fedadam(const Job& job, const Schema& schema) {
    return std::make_unique<Adaptive<moving_average>>(job, schema);
}

std::unique_ptr<Strategy> make_fedyogi(const Job& job, const Schema& schema) {
    return std::make_unique<Adaptive<yogi>>(job, schema);
}

}  // namespace dither
