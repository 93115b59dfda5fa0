// Loss scaling: the loss is multiplied before the backward pass and the gradient divided after it, so that values that
// a narrow format would lose as too small survive the way (Micikevicius et al., "Mixed precision training", ICLR 2018).
#pragma once

#include "core/choice.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace dither {

struct LossScaleOptions;

/// One client's loss scale. "none" and "static": the same factor at every step. "dynamic": a gradient that is not
/// finite costs its step and halves the scale; kPatience good steps in a row double it (as torch.amp.GradScaler, with a
/// backoff factor of 1/2). It begins anew with each client and round, so within rounds of fewer steps it can only fall.
/// Not thread-safe.
class LossScaler {
public:
    static constexpr std::uint32_t kPatience = 2000;
    static constexpr std::uint32_t kMostSkips = 32;  ///< in a row

    explicit LossScaler(const LossScaleOptions& options);

    /// A new client starts its local training.
    void reset();
    bool dynamic() const { return dynamic_; }
    /// The factor on d(loss)/d(output) of the next step.
    float scale() const { return scale_; }
    /// Multiplies d(loss)/d(output) by scale().
    void multiply(std::span<float> gradient) const;
    /// Divides the gradients of the parameters by scale() and ends the step. False where it is to be skipped: dynamic
    /// scaling found a value that is not finite, or `overflow` says that somebody else did.
    bool divide(std::span<float> gradients, bool overflow = false);
    /// Steps since reset() that were skipped.
    std::uint32_t skipped() const { return skipped_; }
    /// More than kMostSkips steps in a row were skipped: no scale will do.
    bool hopeless() const { return in_row_ > kMostSkips; }

private:
    void skip();

    float start_;
    bool dynamic_;
    float scale_;
    std::uint32_t good_ = 0;    ///< steps in a row
    std::uint32_t in_row_ = 0;  ///< skipped ones
    std::uint32_t skipped_ = 0;
};

std::vector<Choice> loss_scale_choices();

}  // namespace dither
