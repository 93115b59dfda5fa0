#include "aggregator/detail/model_average.hpp"

#include "core/error.hpp"

namespace dither {

void ModelAverage::add(std::span<const float> model) {
    require(rounds_ == 0 || model.size() == mean_.size(), "a model of {} parameters in an average of {}", model.size(),
            mean_.size());
    mean_.resize(model.size(), 0.0F);
    const auto count = static_cast<float>(++rounds_);
    for (std::size_t i = 0; i < model.size(); ++i)
        mean_[i] += (model[i] - mean_[i]) / count;
}

void ModelAverage::restore(std::span<const float> mean, std::uint32_t rounds) {
    require(mean.empty() == (rounds == 0), "an average of {} parameters over {} models", mean.size(), rounds);
    mean_.assign(mean.begin(), mean.end());
    rounds_ = rounds;
}

}  // namespace dither
