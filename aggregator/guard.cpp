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
    if (!best_)
        best_ = first_ = train_loss;
    const double limit = options_.guard_loss * *best_ + kSlack;
    if (train_loss > std::max(limit, first_)) {
        const std::string reason = fmt::format("the training loss of {:.4g} is above {:.4g} = {:.3g} * {:.4g} + {}",
                                               train_loss, limit, options_.guard_loss, *best_, kSlack);
        best_ = kForgetting * std::max(*best_, kSlack / options_.guard_loss);
        return reason;
    }
    best_ = std::min(*best_, train_loss);
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
    return best_ ? std::vector{*best_, first_} : std::vector<double>{};
}

void Guard::restore(std::span<const double> state) {
    require(state.empty() || state.size() == 2, "a guard's state of {} numbers, expected none or 2", state.size());
    *this = Guard(options_);
    if (state.empty())
        return;
    best_ = state[0];
    first_ = state[1];
}

}  // namespace dither
