#include "core/optim/loss_scale.hpp"

#include "core/config.hpp"
#include "core/optim/detail/kernels.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <array>
#include <limits>

namespace dither {
namespace {

enum class Kind { none, constant, dynamic };

constexpr std::array kKinds{
    ChoiceRow<Kind>{"none", "nothing", Kind::none},
    ChoiceRow<Kind>{"static", "loss_scale.value", Kind::constant},
    ChoiceRow<Kind>{"dynamic", "as much as gradients bear: halved where one is not finite, doubled after a while",
                    Kind::dynamic},
};

Kind kind_of(const LossScaleOptions& options) {
    return choose(kKinds, "train.loss_scale.kind", options.kind);
}

}  // namespace

LossScaler::LossScaler(const LossScaleOptions& options)
    : start_(kind_of(options) == Kind::none ? 1.0F : static_cast<float>(options.value)),
      dynamic_(kind_of(options) == Kind::dynamic),
      scale_(start_) {}

void LossScaler::reset() {
    scale_ = start_;
    good_ = 0;
    in_row_ = 0;
    skipped_ = 0;
}

void LossScaler::multiply(std::span<float> gradient) const {
    if (scale_ != 1)
        kernels::multiply(gradient.data(), gradient.size(), scale_);
}

bool LossScaler::divide(std::span<float> gradients, bool overflow) {
    if (dynamic_ && (overflow || !all_finite(gradients))) {
        skip();
        return false;
    }
    if (scale_ != 1)
        kernels::divide(gradients.data(), gradients.size(), scale_);
    in_row_ = 0;
    if (dynamic_ && ++good_ == kPatience) {
        good_ = 0;
        scale_ = std::min(2 * scale_, std::numeric_limits<float>::max());
    }
    return true;
}

void LossScaler::skip() {
    good_ = 0;
    ++skipped_;
    ++in_row_;
    scale_ = std::max(scale_ / 2, std::numeric_limits<float>::min());
}

std::vector<Choice> loss_scale_choices() {
    return choices_of(kKinds);
}

}  // namespace dither
