#include "core/model/loss.hpp"

#include "core/model/detail/losses.hpp"

#include <array>

namespace dither {
namespace {

using Maker = std::unique_ptr<Loss> (*)(double);

constexpr std::array kLosses{
    ChoiceRow<Maker>{"cross_entropy", "for labels", make_cross_entropy},
    ChoiceRow<Maker>{"mse", "the mean squared error, for regression", make_mse},
};

}  // namespace

Score& Score::operator+=(const Score& other) {
    loss += other.loss;
    correct += other.correct;
    samples += other.samples;
    squared_error += other.squared_error;
    absolute_error += other.absolute_error;
    return *this;
}

std::vector<Choice> loss_choices() {
    return choices_of(kLosses);
}

std::unique_ptr<Loss> make_loss(std::string_view name, double label_smoothing) {
    return choose(kLosses, "train.loss", name)(label_smoothing);
}

}  // namespace dither
