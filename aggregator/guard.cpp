#include "aggregator/guard.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>

namespace dither {

namespace {

constexpr double kSlack = 1;       // a loss near 0 may double without harm
constexpr double kForgetting = 2;  // how much worse the best becomes with each round that is refused

}  // namespace

std::string Guard::judge(double train_loss) {
    if (!is_on())
        return {};
    if (!std::isfinite(train_loss))
        return "the training loss is not finite";
    const double limit = best_ ? options_.guard_loss * *best_ + kSlack : train_loss;
    if (train_loss > limit) {
        const std::string reason = fmt::format("the training loss of {:.4g} is above {:.4g} = {:.3g} * {:.4g} + {}",
                                               train_loss, limit, options_.guard_loss, *best_, kSlack);
        best_ = *best_ * kForgetting;
        return reason;
    }
    best_ = std::min(best_.value_or(train_loss), train_loss);
    return {};
}

std::vector<std::size_t> Guard::saturated(std::span<const LayerStatistics> layers) const {
    std::vector<std::size_t> found;
    for (std::size_t layer = 0; layer < layers.size(); ++layer)
        if (layers[layer].saturation > options_.guard_saturation)
            found.push_back(layer);
    return found;
}

std::vector<double> Guard::state() const {
    return best_ ? std::vector{*best_} : std::vector<double>{};
}

void Guard::restore(std::span<const double> state) {
    require(state.size() <= 1, "a guard's state of {} numbers, expected at most 1", state.size());
    best_.reset();
    if (!state.empty())
        best_ = state.front();
}

}  // namespace dither
