// What a model weighs and what running it costs.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "core/inference/integer_model.hpp"
#include "examples/evaluate/report.hpp"
#include "examples/evaluate/subject.hpp"

namespace dither {

/// The layers with parameters, under the subject's plan.
std::vector<LayerReport> layers_of(const Subject& subject);
/// The layers with parameters of a converted model.
std::vector<LayerReport> layers_of(const IntegerModel& model);

/// Sums over the layers; neither quality nor speed.
Variant cost_of(std::span<const LayerReport> layers);
/// The same with 32 bits everywhere.
Variant full_cost_of(std::span<const LayerReport> layers);

/// The median time of a call, after one that does not count.
double median_seconds(const std::function<void()>& work);

}  // namespace dither
