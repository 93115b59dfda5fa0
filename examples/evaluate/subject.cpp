#include "examples/evaluate/subject.hpp"

#include <algorithm>
#include <numeric>

#include "aggregator/checkpoint.hpp"
#include "core/error.hpp"

namespace dither {
namespace {

/// What holds for one layer must not hold against an option for all of them.
void drop_overrides(QuantizeOptions& quantize, std::string_view key) {
    for (LayerOverride& layer : quantize.layers)
        std::erase_if(layer.settings, [key](const auto& setting) { return setting.first == key; });
}

/// The observers that need no training.
std::vector<Choice> static_observers() {
    std::vector<Choice> choices = observer_choices();
    while (is_learned(static_cast<Observer>(choices.size() - 1)))
        choices.pop_back();
    return choices;
}

void choose_observer(QuantizeOptions& quantize, const std::string& name) {
    const std::vector<Choice> choices = static_observers();
    const auto choice = std::ranges::find(choices, name, &Choice::name);
    if (choice == choices.end())
        fail_choice("--observer", choices, name);
    const auto observer = static_cast<Observer>(choice - choices.begin());
    quantize.weights.observer = observer;
    quantize.activations.observer = observer;
    drop_overrides(quantize, "weights.observer");
    drop_overrides(quantize, "activations.observer");
}

void choose_scheme(QuantizeOptions& quantize, const std::string& name) {
    std::vector<Choice> choices = scheme_choices();
    std::erase_if(choices, [](const Choice& scheme) { return scheme.name.starts_with("per_sample"); });
    if (std::ranges::find(choices, name, &Choice::name) == choices.end())
        fail_choice("--scheme", choices, name);
    set_scheme(quantize.weights, name);
    drop_overrides(quantize, "weights.scheme");
}

const LayerSpec& layer_called(const Schema& schema, const std::string& name, const std::string& file) {
    const auto layer = std::ranges::find(schema.layers(), name, &LayerSpec::name);
    if (layer == schema.layers().end())
        throw InputError(
            fmt::format("{}: expected {}, which the quantization asks for: learned ranges need a model that "
                        "was trained with them",
                        file, name));
    return *layer;
}

/// Where the parameters of `tensor` are in the checkpoint.
const TensorSpec& tensor_called(const LayerSpec& layer, const TensorSpec& tensor, const std::string& file) {
    const auto found = std::ranges::find(layer.tensors, tensor.name, &TensorSpec::name);
    const std::string name = layer.name + '.' + tensor.name;
    if (found == layer.tensors.end())
        throw InputError(
            fmt::format("{}: expected {}, which the quantization asks for: learned ranges need a model that was "
                        "trained with them",
                        file, name));
    if (found->shape != tensor.shape)
        throw InputError(fmt::format("{}: {} has the shape {}, expected {} for this data and quantization", file, name,
                                     found->shape.str(), tensor.shape.str()));
    return *found;
}

/// Layers of a schema but for learned ranges, which another quantization of the same model does without.
std::size_t product_layers(const Schema& schema) {
    return static_cast<std::size_t>(std::ranges::count_if(
        schema.layers(), [](const LayerSpec& layer) { return !is_range(layer.tensors.front()); }));
}

}  // namespace

bool is_range(const TensorSpec& tensor) {
    return tensor.name == "weight_range" || tensor.name == "input_range";
}

Subject::Subject(const EvaluateOptions& options) {
    const Checkpoint checkpoint = load_checkpoint(options.model);
    job_ = parse_job(checkpoint.job, options.model, options.overrides);
    round_ = checkpoint.round;
    plan_ = checkpoint.evaluated_plan;
    averaged_ = options.average && !checkpoint.averaged.empty();
    if (!options.data.empty())
        job_.data.path = options.data;
    choose_quantization(options);
    load_data_splits(options.limit);
    backend_ = make_backend(job_.compute);
    place_parameters(checkpoint.schema, averaged_ ? checkpoint.averaged : checkpoint.model, options.model);
    if (is_quantized() || options.errors > 0)
        draw_calibration(options.calibration.value_or(kCalibrationSamples));
}

void Subject::choose_quantization(const EvaluateOptions& options) {
    if (!options.observer.empty())
        choose_observer(job_.quantize, options.observer);
    if (!options.scheme.empty())
        choose_scheme(job_.quantize, options.scheme);
    choose_widths(options);
    const bool widths = options.weights || options.activations;
    for (const auto& [option, value] : {std::pair("--observer", &options.observer), {"--scheme", &options.scheme}})
        if (!value->empty() && !widths && !is_quantized())
            throw InputError(fmt::format("{}: expected --weights or --activations too: the run is fp32", option));
}

void Subject::load_data_splits(std::uint64_t limit) {
    data_ = std::make_unique<DataSplits>(load_data(job_.data, job_.job.seed));
    if (limit > 0)
        data_->test = data_->test.first(limit);
    if (data_->test.size() == 0)
        throw InputError(fmt::format("{}: expected at least one test sample", job_.data.path));
}

/// Other quantization may have no learned ranges, or other ones than the checkpoint: parameters go by their names.
void Subject::place_parameters(const Schema& stored, std::span<const float> values, const std::string& file) {
    schema_ = blank_model(1)->schema();
    const std::size_t products = product_layers(schema_);
    if (products != product_layers(stored))
        throw InputError(
            fmt::format("{}: has {} layers, expected {} for its job", file, product_layers(stored), products));
    const PrecisionPlan planned = std::exchange(plan_, {});
    for (const LayerSpec& layer : schema_.layers()) {
        const LayerSpec& found = layer_called(stored, layer.name, file);
        plan_.layers.push_back(planned.layers[static_cast<std::size_t>(&found - stored.layers().data())]);
    }
    parameters_.resize(schema_.parameters());
    for (const LayerSpec& layer : schema_.layers())
        for (const TensorSpec& tensor : layer.tensors) {
            const TensorSpec& found = tensor_called(layer_called(stored, layer.name, file), tensor, file);
            std::ranges::copy(values.subspan(found.offset, static_cast<std::size_t>(found.shape.count())),
                              parameters_.begin() + static_cast<std::ptrdiff_t>(tensor.offset));
        }
}

/// An operand that is not mentioned beside one that is stays in fp32.
void Subject::choose_widths(const EvaluateOptions& options) {
    if (!options.weights && !options.activations)
        return;
    const int weights = options.weights.value_or(kFullBits);
    const int activations = options.activations.value_or(kFullBits);
    job_.quantize.weights.bits = weights;
    job_.quantize.activations.bits = activations;
    drop_overrides(job_.quantize, "weights.bits");
    drop_overrides(job_.quantize, "activations.bits");
    plan_ = PrecisionPlan::uniform(plan_.layers.size(), std::min(weights, activations));
}

void Subject::draw_calibration(std::uint32_t count) {
    if (count > train().size())
        throw InputError(fmt::format("--calibration: expected at most the {} training samples of {}, found {}",
                                     train().size(), job_.data.path, count));
    calibration_.resize(train().size());
    std::iota(calibration_.begin(), calibration_.end(), 0U);
    Stream({.seed = job_.job.seed, .purpose = Purpose::evaluation, .lane = 1}).shuffle(calibration_);
    calibration_.resize(count);
}

StreamKey Subject::key() const {
    return {.seed = job_.job.seed, .purpose = Purpose::evaluation, .round = round_};
}

bool Subject::is_quantized() const {
    return std::ranges::any_of(plan_.layers, [](const LayerBits& layer) { return layer.forward != kFullBits; });
}

std::unique_ptr<Model> Subject::blank_model(std::int64_t max_batch) const {
    return make_model(job_.model, job_.quantize,
                      {.sample = test().sample_shape(), .outputs = test().outputs(), .max_batch = max_batch},
                      *backend_);
}

std::unique_ptr<Model> Subject::model(std::int64_t max_batch) const {
    auto model = blank_model(max_batch);
    std::ranges::copy(parameters_, model->parameters().begin());
    return model;
}

}  // namespace dither
