#include "aggregator/detail/change_encoder.hpp"

#include "aggregator/detail/byte_budget.hpp"
#include "transport/held_model.hpp"

#include <utility>

namespace dither {

ChangeEncoder::ChangeEncoder(const Job& job, const Schema& schema, const Makers& makers)
    : seed_(job.job.seed),
      codec_(makers.codec(job.codec.downlink, schema)),
      feedback_(feeds_back(job.codec.downlink, *codec_)) {}

ModelPart ChangeEncoder::encode(std::uint32_t round, std::span<const float> model, std::span<float> next,
                                std::span<const float> residual, double most_bytes, Controller& controller) {
    for (std::size_t j = 0; j < next.size(); ++j)
        next[j] -= model[j];
    for (std::size_t j = 0; j < residual.size(); ++j)
        next[j] += residual[j];
    ModelPart part{.round = round};
    std::vector<float> finer;  // the grid of the try before
    fit_coarseness(
        most_bytes, static_cast<double>(next.size()),
        [&](double coarser) {
            finer = part.steps;
            encode(next, coarser, controller, part);
            return static_cast<double>(part.payload.size());
        },
        [&] { return part.steps != finer; });
    if (feedback_)
        lost_.assign(next.begin(), next.end());
    codec_->decode(part.payload, downlink_terms(seed_, part), next);
    for (std::size_t j = 0; j < lost_.size(); ++j)
        lost_[j] -= next[j];
    return part;
}

void ChangeEncoder::encode(std::span<const float> change, double coarseness, Controller& controller,
                           ModelPart& part) const {
    controller.choose_delta(change, coarseness);
    if (codec_->needs_steps())
        part.steps.assign(controller.delta_steps().begin(), controller.delta_steps().end());
    std::vector<std::byte> payload;
    codec_->encode(change, downlink_terms(seed_, part), payload);
    part.payload = std::move(payload);
}

void ChangeEncoder::keep_residual(std::vector<float>& residual) {
    if (feedback_)
        residual.swap(lost_);
}

}  // namespace dither
