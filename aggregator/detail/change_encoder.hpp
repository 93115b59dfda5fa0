// From the model that the strategy wants to what nodes will add to theirs. Private to the aggregator.
//
//     change = target - model + residual        next = decode(encode(change))
//     residual <- change - decode(encode(change))                       with error feedback, else none
#pragma once

#include "aggregator/controller.hpp"
#include "core/config.hpp"
#include "core/model/schema.hpp"
#include "transport/codec.hpp"
#include "transport/messages.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace dither {

/// Borrows the schema.
class ChangeEncoder {
public:
    ChangeEncoder(const Job& job, const Schema& schema, const Makers& makers);

    /// The part that takes nodes from `model` to that of round `round`. `next` holds the target and then what they will
    /// add to it. The grid is the controller's for this change, as much coarser as keeps the payload within
    /// `most_bytes`, if that can be. `residual` is empty for none. Throws TrainingError where
    /// the change is beyond what the codec can say.
    ModelPart encode(std::uint32_t round, std::span<const float> model, std::span<float> next,
                     std::span<const float> residual, double most_bytes, Controller& controller);
    /// That part is broadcast: `residual` is what it lost.
    void keep_residual(std::vector<float>& residual);

private:
    void encode(std::span<const float> change, double coarseness, Controller& controller, ModelPart& part) const;

    std::uint32_t seed_;
    std::unique_ptr<Codec> codec_;
    bool feedback_;
    std::vector<float> lost_;  ///< by the last encode(), where that is fed back
};

}  // namespace dither
