// The model that a node holds, with the control variate that belongs to it, and how the parts of a RoundPlan move both
// from one round's to another's.
#pragma once

#include "core/config.hpp"
#include "transport/codec.hpp"
#include "transport/expectation.hpp"
#include "transport/makers.hpp"
#include "transport/messages.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

namespace dither {

/// The node does not hold the model that a plan builds on: with a whole one it could carry the plan out.
class ModelMissing : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Not thread-safe. Borrows the schema. Parts of rounds that it holds already are skipped, so that a worker of many
/// clients may hold a newer model than one of them is known to.
class HeldModel {
public:
    /// Writes the model of round 1, the job's initial one.
    using Initial = std::function<void(std::span<float> model)>;

    HeldModel(const Job& job, const Schema& schema, Initial initial, const Makers& makers = {});

    /// Goes to the model of the plan's round. Throws ModelMissing where the plan's base is not at hand or the parts
    /// lead elsewhere from it, FormatError where a part is not a payload, a whole model or its control variate not the
    /// promised one. It holds nothing then, but can begin again at round 1 or with a whole model. FormatError, too,
    /// where a control variate moves that the job does not have, or does not move that it has: it then holds what it
    /// held.
    void receive(const RoundPlan& plan);

    std::span<const float> values() const { return values_; }
    /// Of the job's strategy, of the model's size; empty where that has none.
    std::span<const float> control() const { return control_; }
    /// Made from the newest change, the plan's last part; nullptr where the plan has none of its round.
    const Expectation* expectation() const { return expectation_ ? &*expectation_ : nullptr; }

private:
    void check_control(const RoundPlan& plan) const;
    void move(const RoundPlan& plan);
    void take_whole(const RoundPlan& plan);
    /// Adds the parts behind round `held`; 0: from the initial model.
    void follow(const RoundPlan& plan, std::uint32_t held);
    void decode(const Codec& codec, const ModelPart& part, std::span<float> out) const;
    void decode_change(const ModelPart& part);
    void note_change(const RoundPlan& plan);

    const Schema& schema_;
    std::uint32_t seed_;
    Initial initial_;
    std::unique_ptr<Codec> whole_codec_;
    std::unique_ptr<Codec> change_codec_;
    std::vector<float> values_;
    std::vector<float> control_;
    std::vector<float> change_;
    std::uint32_t round_ = 0;         ///< whose model values_ is; 0: none
    Sha256 digest_{};                 ///< of values_ and control_
    std::uint32_t change_round_ = 0;  ///< whose part change_ is; 0: none
    std::uint32_t expectation_round_ = 0;
    std::optional<Expectation> expectation_;
};

/// RoundPlan::broadcast of a model and the control variate that belongs to it, empty for none.
Sha256 broadcast_digest(std::span<const float> model, std::span<const float> control);
/// control <- keep * control + gain * change in the tensors that are trained, each operation rounded: the same bits on
/// every machine.
void move_control(const Schema& schema, const ControlStep& step, std::span<const float> change,
                  std::span<float> control);
/// The key of the random numbers in round `round`'s part of the downlink.
StreamKey downlink_key(std::uint32_t seed, std::uint32_t round);
/// What both ends know of a part's payload; borrows its steps.
Terms downlink_terms(std::uint32_t seed, const ModelPart& part);
/// Of whole models: the downlink's own where it sends nothing else, else fp32.
std::unique_ptr<Codec> make_whole_model_codec(const CodecPair& codecs, const Schema& schema, const Makers& makers = {});
/// The change of a plan's own round, if it brings that; else nullptr.
const ModelPart* newest_change(const RoundPlan& plan);

}  // namespace dither
