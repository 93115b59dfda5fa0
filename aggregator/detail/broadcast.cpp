#include "aggregator/detail/broadcast.hpp"

#include "aggregator/detail/byte_budget.hpp"
#include "aggregator/sampling.hpp"
#include "core/rng.hpp"
#include "transport/frame.hpp"

#include <fmt/format.h>
#include <algorithm>

namespace dither {

namespace {

std::size_t bytes_of_update_without_payload(std::size_t layers) {
    Update update;
    update.report.layers.resize(layers);
    return encode_frame(update).size();
}

std::string grids_of(const Fitted& fitted) {
    return fitted.coarsest ? "the coarsest grids" : fmt::format("grids {:.3g} times as coarse", fitted.coarseness);
}

}  // namespace

std::uint32_t clients_to_ask(const FederationOptions& options) {
    const double wanted = scaled_up(options.cohort, options.over_select);
    return static_cast<std::uint32_t>(std::min<double>(wanted, options.clients));
}

Broadcast::Broadcast(const Job& job, const Schema& schema)
    : job_(job),
      schema_(schema),
      asked_(clients_to_ask(job.federation)),
      codec_(make_codec(job.codec.downlink, schema)),
      update_overhead_(bytes_of_update_without_payload(schema.layer_count())),
      decoded_(schema.parameters()) {}

GridChoice Broadcast::prepare(std::uint32_t round, std::span<const float> model, Controller& controller) {
    const PrecisionPlan before = controller.plan();
    const auto encode_at = [&](double coarseness) {
        controller.choose_grids(model, coarseness);
        encode(round, model, controller);
    };
    GridChoice choice;
    if (job_.precision.byte_budget == 0) {
        encode_at(1);
    } else {
        const auto budget = static_cast<double>(job_.precision.byte_budget);
        const double coordinates = 2.0 * asked_ * static_cast<double>(schema_.parameters());
        const Fitted fitted = fit_coarseness((1 - kBudgetInHand) * budget, coordinates,
                                             [&](double coarseness) {
                                                 encode_at(coarseness);
                                                 return expected_bytes(controller);
                                             },
                                             [&] { return controller.links().can_be_coarser(); });
        if (!fitted.fits)
            choice.budget = fmt::format("byte_budget {} cannot be kept: {} take {:.0f} bytes",
                                        job_.precision.byte_budget, grids_of(fitted), fitted.bytes);
        else if (fitted.coarseness > 1)
            choice.budget = fmt::format("byte_budget {}: grids {:.3g} times as coarse, {:.0f} bytes expected",
                                        job_.precision.byte_budget, fitted.coarseness, fitted.bytes);
    }
    choice.changes = controller.link_changes(before);
    return choice;
}

void Broadcast::encode(std::uint32_t round, std::span<const float> model, const Controller& controller) {
    const auto uplink = controller.uplink_steps();
    const auto downlink = controller.downlink_steps();
    task_.round = round;
    task_.plan = controller.plan();
    task_.uplink_steps.assign(uplink.begin(), uplink.end());
    task_.downlink_steps.assign(downlink.begin(), downlink.end());
    const StreamKey key{.seed = job_.job.seed, .purpose = Purpose::downlink_rounding, .round = round};
    codec_->encode(model, task_.downlink_steps, key, task_.payload);
    codec_->decode(task_.payload, task_.downlink_steps, decoded_);
    task_.broadcast = sha256(std::span<const float>(decoded_));
}

double Broadcast::expected_bytes(const Controller& controller) const {
    const auto frames = static_cast<double>(encode_frame(task_).size() + encode_frame(UpdateAck{}).size() +
                                            encode_frame(RoundCommitted{}).size() + update_overhead_);
    return asked_ * (frames + controller.links().expected_update_bytes());
}

}  // namespace dither
