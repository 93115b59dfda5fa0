#include "node/client_vector.hpp"

#include <utility>

#include "core/error.hpp"

namespace dither {

ClientVector::ClientVector(ResidualStore store, std::size_t parameters)
    : store_(std::move(store)), counted_(parameters), next_(parameters) {}

void ClientVector::begin(const RoundPlan& plan) {
    task_.reset();
    if (plan.counted >= plan.round)
        throw FormatError(fmt::format("round {}: the aggregator has counted round {}", plan.round, plan.counted));
    const Task task{plan.client, plan.round, plan.counted, store_.kept(plan.client)};
    store_.load(plan.client, plan.counted, counted_);
    task_ = task;
}

std::span<float> ClientVector::next() {
    require(task_.has_value(), "what an update leaves, of a round that was not begun");
    return next_;
}

void ClientVector::keep() {
    require(task_.has_value(), "what an update leaves, of a round that was not begun");
    const Task task = *std::exchange(task_, std::nullopt);
    if (!store_.save(task.client, {task.counted, counted_}, {task.round, next_}, task.found))
        throw FormatError(
            fmt::format("round {} is over: client {} has made an update of a later one", task.round, task.client));
}

}  // namespace dither
