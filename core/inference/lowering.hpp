// How layers become the steps of an integer model: convert() hands a builder through the network, and each layer
// appends what it does in inference.
#pragma once

#include "core/inference/integer_model.hpp"
#include "core/model/schema.hpp"
#include "core/precision/plan.hpp"

#include <string_view>
#include <utility>

namespace dither {

/// Builds the steps of one model. Borrows schema and plan.
class Lowering {
public:
    Lowering(const Schema& schema, const PrecisionPlan& plan) : schema_(schema), plan_(plan) {}

    /// The value that the next layer takes: 0 is the sample.
    std::uint32_t value() const { return value_; }
    /// Goes on from an earlier value: another way from the same input.
    void resume(std::uint32_t value) { value_ = value; }
    /// Appends a step that takes value() and makes the new one.
    void append(Operation operation);
    void append_relu();

    /// Of layer `index` of the schema.
    const std::string& name(std::size_t index) const { return schema_.layers()[index].name; }
    const PrecisionPlan& plan() const { return plan_; }

    std::vector<Step> take() { return std::move(steps_); }

private:
    const Schema& schema_;
    const PrecisionPlan& plan_;
    std::vector<Step> steps_;
    std::uint32_t value_ = 0;
};

/// Throws InputError: "fc1 has no integer form: its weights ...".
[[noreturn]] void refuse_conversion(std::string_view layer, std::string_view reason);

}  // namespace dither
