// What the aggregator makes of the mean update.
//
// To add a strategy: one file in aggregator/strategies/, its constructor in detail/strategies.hpp, its row in the table
// of strategy.cpp and its name and meaning among the choices of core/detail/federation_options.cpp.
#pragma once

#include "core/config.hpp"
#include "core/model/schema.hpp"
#include "transport/messages.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace dither {

/// One update of the round, as far as a strategy may care.
struct Contribution {
    std::uint64_t weight = 0;  ///< in the mean
    std::uint32_t steps = 0;   ///< of the client's optimizer
};

/// Deterministic; not thread-safe. Borrows the schema.
class Strategy {
public:
    /// More than 1, so that an update that is clipped can count for a part of it.
    static constexpr std::uint64_t kUniformWeight = 64;

    Strategy(StrategyOptions options, const Schema& schema);
    virtual ~Strategy() = default;

    /// A client's weight in the mean, from the samples (>= 1) it says it has: min(samples, sample_cap), or
    /// kUniformWeight where `weights` is "uniform".
    std::uint64_t weight(std::uint64_t samples) const;
    /// The next model, in the place of the mean update of `cohort`. Tensors that are not trained (running statistics)
    /// become their mean, whatever the strategy.
    void apply(std::span<const float> model, std::span<float> mean_update, std::span<const Contribution> cohort);
    /// After apply(): `change` is what nodes will add to the model for it, which moves the control variate that they
    /// hold beside it. Returns how; nothing for a strategy without one.
    virtual std::optional<ControlStep> follow(std::span<const float> /*change*/) { return std::nullopt; }
    /// That control variate, as it belongs to the model at hand; empty for a strategy without one.
    virtual std::span<const float> control() const { return {}; }
    /// What a resumed run needs, until the next apply(), follow() or restore(); restore(state()) is the identity.
    virtual std::span<const float> state() const { return {}; }
    /// Throws PreconditionError on a state that this strategy cannot have.
    virtual void restore(std::span<const float> state);

protected:
    const StrategyOptions& options() const { return options_; }
    const Schema& schema() const { return schema_; }

private:
    /// Before the moves of a round.
    virtual void begin(std::span<const Contribution> /*cohort*/) {}
    /// The next values of the trained parameters from flat position `offset` on, in the place of their mean update.
    virtual void move(std::size_t offset, std::span<const float> model, std::span<float> mean_update) = 0;

    StrategyOptions options_;
    const Schema& schema_;
};

/// With Delta the mean update, eta = server_lr:
///
/// fedavg      model += eta Delta: McMahan et al., "Communication-efficient learning of deep networks from
/// decentralized
///             data", AISTATS 2017, algorithm 1, with the server's learning rate of Reddi et al.
/// fedavgm     v = momentum v + Delta; model += eta v: Hsu, Qi, Brown, "Measuring the effects of non-identical data
///             distribution for federated visual classification", 2019
/// fedadagrad, fedadam, fedyogi
///             m = beta1 m + (1 - beta1) Delta; v as below; model += eta m / (sqrt(v) + tau), v = tau^2 at first: Reddi
///             et al., "Adaptive federated optimization", ICLR 2021, algorithm 2
///                 fedadagrad  v += Delta^2
///                 fedadam     v = beta2 v + (1 - beta2) Delta^2
///                 fedyogi     v -= (1 - beta2) Delta^2 sign(v - Delta^2)
/// fednova     updates come divided by their local progress a (core/optim/local_progress.hpp); model += eta * (weighted
///             mean of a) * Delta: Wang et al., "Tackling the objective inconsistency problem in heterogeneous
///             federated optimization", NeurIPS 2020, equation 9
/// scaffold    model += eta Delta; clients add c - c_i to their gradients (node/control_variate.hpp), and c, which all
///             hold beside the model, becomes (1 - s) c - s / (eta K lr) * change, s = S / N of S of N clients:
///             Karimireddy et al., "SCAFFOLD: stochastic controlled averaging for federated learning", ICML 2020,
///             option II. There c += s * mean(c_i' - c_i), where c_i' = c_i - c - (update of i) / (K lr) is a client's
///             new c_i: so that mean follows from the mean update, and this from the change that all nodes receive, by
///             which c costs no bytes. K is the weighted mean of the clients' steps. Where clients differ in weight or
///             steps, s is the cohort's share of all clients' weight * steps, taken from the mean of all updates so
///             far, and c the mean of the c_i weighted so. Clients add only `correction` of c - c_i: with the paper's 1
///             what codecs round away stays in c for ever.
///
/// FedProx (Li et al., "Federated optimization in heterogeneous networks", MLSys 2020) is train.proximal with any of
/// these. Computed in double, kept in float, each operation rounded as IEEE says: the same on every machine. Throws
/// InputError on an unknown kind.
std::unique_ptr<Strategy> make_strategy(const Job& job, const Schema& schema);

}  // namespace dither
