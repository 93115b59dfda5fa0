#include "node/trainer.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/error.hpp"
#include "core/model/evaluate.hpp"
#include "core/optim/clip.hpp"
#include "core/optim/local_progress.hpp"
#include "core/optim/schedule.hpp"
#include "core/precision/allocation.hpp"
#include "core/precision/probe.hpp"
#include "core/vector_math.hpp"

namespace dither {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<float>;

constexpr float kSmoothing = 0.9F;          // of the gradient, for signal_norm
constexpr std::uint32_t kMeasureEvery = 8;  // steps between measurements that cost a pass of their own

/// The job may fix other bits than a probe asks for: from what was measured there to what kSensitivityBits would do.
float at_probe_bits(const QuantizeOptions& quantize, Phase phase) {
    const auto or_probe = [](int bits) { return bits == 0 ? kSensitivityBits : bits; };
    const bool forward = phase == Phase::forward;
    const int ran = forward ? std::max(or_probe(quantize.weights.bits), or_probe(quantize.activations.bits))
                            : or_probe(quantize.gradients.bits);
    return static_cast<float>(1 / std::sqrt(remaining_error({.kinked = forward}, ran)));
}

/// Whether anything is asked for that costs passes over the training samples.
bool measures(Probe probe) {
    return probe != Probe::none && probe != Probe::held_out;
}

HeldOutScore held_out_score(const Score& before, const Score& after) {
    return {.samples = before.samples,
            .loss = static_cast<float>(before.mean_loss()),
            .accuracy = static_cast<float>(before.accuracy()),
            .personal_loss = static_cast<float>(after.mean_loss()),
            .personal_accuracy = static_cast<float>(after.accuracy())};
}

ModelInput input_of(const Job& job, const Dataset& data) {
    return {.sample = data.sample_shape(),
            .outputs = data.outputs(),
            .max_batch = std::min<std::int64_t>(job.train.batch_size,
                                                std::max<std::int64_t>(static_cast<std::int64_t>(data.size()), 1))};
}

}  // namespace

Trainer::Trainer(const Job& job, const Dataset& data, const Backend& backend, const Makers& makers)
    : job_(job),
      data_(data),
      noise_(make_noise(job.noise)),
      loss_(make_loss(job.train.loss, job.train.label_smoothing)),
      plain_loss_(make_loss(job.train.loss)),
      model_(makers.model(job.model, job.quantize, input_of(job, data), backend)),
      optimizer_(make_optimizer(job.train.optimizer, model_->schema())),
      scaler_(job.train.loss_scale),
      profiler_(job.noise, job.quantize, *model_),
      curvature_(curvature_method(job.precision.curvature_method)),
      smoothed_(model_->schema().parameters()),
      squared_gradients_(model_->schema().layer_count()) {
    if (!job.train.master_weights)
        rounder_.emplace(job.quantize, model_->schema());
}

void Trainer::write_initial_model(std::span<float> model) {
    model_->initialize(job_.job.seed);
    std::ranges::copy(std::as_const(*model_).parameters(), model.begin());
}

TrainingReport Trainer::train(const TrainingTask& task, std::span<const std::uint32_t> indices,
                              std::span<const float> received, std::span<float> update) {
    std::ranges::copy(received, model_->parameters().begin());
    const std::optional<Score> before = score_held_out(task);
    const auto start = Clock::now();
    TrainingReport report = train_locally(task, indices, received, update);
    const auto trained = Clock::now();
    measure(task, report);
    for (LayerStatistics& layer : report.layers)
        for_each_statistic(layer, [](const char*, float& value, Combine) {
            if (!std::isfinite(value))
                value = kNotMeasured;
        });
    report.seconds = Seconds(trained - start).count();
    report.probe_seconds = measures(task.probe) ? Seconds(Clock::now() - trained).count() : 0;
    const std::optional<Score> after = score_held_out(task);  // last: it resets what the measurements look at
    if (before && after)
        report.held_out = held_out_score(*before, *after);
    return report;
}

std::optional<Score> Trainer::score_held_out(const TrainingTask& task) {
    if (!asks(task.probe, Probe::held_out) || task.held_out.empty())
        return std::nullopt;
    const StreamKey key{.seed = job_.job.seed, .client = task.client, .round = task.round};
    try {
        const Score score = evaluate(*model_, *plain_loss_, data_, task.held_out, task.plan, key);
        return std::isfinite(static_cast<float>(score.mean_loss())) ? std::optional(score) : std::nullopt;
    } catch (const TrainingError&) {  // it says nothing then, and what is trained can be sound still
        return std::nullopt;
    }
}

void Trainer::gather(const TrainingTask& task, std::span<const std::uint32_t> indices, Augmentation augmentation,
                     const StreamKey& key) {
    data_.gather(indices, batch_, augmentation, key);
    if (task.flips_labels)
        for (std::int32_t& label : batch_.targets.labels)
            label = data_.classes() - 1 - label;
}

TrainingReport Trainer::train_locally(const TrainingTask& task, std::span<const std::uint32_t> indices,
                                      std::span<const float> received, std::span<float> update) {
    require(!indices.empty(), "client {} has no training samples", task.client);
    check_calibration(job_.noise, task.client, indices.size());
    begin(indices, received);
    TrainingReport report{.samples = indices.size(), .layers = std::vector<LayerStatistics>(schema().layer_count())};
    const StreamKey key{.seed = job_.job.seed, .client = task.client, .round = task.round};
    double loss = 0;
    for (std::uint32_t epoch = 0; epoch < job_.train.epochs; ++epoch) {
        StreamKey shuffle = key.with(Purpose::shuffle);
        shuffle.step = epoch;
        Stream(shuffle).shuffle(order_);
        profile(task, shuffle, indices);
        for (std::size_t first = 0; first < order_.size(); first += job_.train.batch_size)
            loss += step(task, key, first, report.steps++);
    }
    report.train_loss = static_cast<float>(loss / report.steps);
    if (scaler_.skipped() == report.steps)
        throw TrainingError(
            fmt::format("client {}, round {}: the gradient of no step ({}) is finite, at a loss scale of "
                        "{} still",
                        task.client, task.round, report.steps, scaler_.scale()));

    const std::span<const float> trained = model_->parameters();
    std::transform(trained.begin(), trained.end(), received.begin(), update.begin(), std::minus<>());
    if (normalizes_updates(job_.federation.strategy))
        normalize(update, report.steps - scaler_.skipped());
    if (!all_finite(update) || !std::isfinite(report.train_loss))
        throw TrainingError(
            fmt::format("client {}, round {}: a parameter or the mean loss is not finite after {} steps", task.client,
                        task.round, report.steps));
    gather_statistics(report, update);
    return report;
}

void Trainer::normalize(std::span<float> update, std::uint32_t steps) const {
    const auto factor = static_cast<float>(1 / local_progress(job_.train, steps));
    for (const LayerSpec& layer : schema().layers())
        for (float& change : update.subspan(layer.offset, layer.trained_count()))
            change *= factor;
}

void Trainer::begin(std::span<const std::uint32_t> indices, std::span<const float> received) {
    std::copy(received.begin(), received.end(), model_->parameters().begin());
    received_ = received;
    model_->reset();
    optimizer_->reset();
    scaler_.reset();
    profiler_.begin();
    order_.assign(indices.begin(), indices.end());
    std::fill(smoothed_.begin(), smoothed_.end(), 0.0F);
    std::fill(squared_gradients_.begin(), squared_gradients_.end(), 0.0);
}

void Trainer::measure(const TrainingTask& task, TrainingReport& report) {
    if (!measures(task.probe))
        return;
    // After training, where the norms of the report were taken too: an untrained network has next to no curvature.
    const std::size_t wanted = probe_samples(schema(), task.probe, order_.size() * job_.train.epochs,
                                             job_.train.batch_size, job_.precision.probe_samples);
    const auto batch = std::span(order_).first(std::min(order_.size(), wanted));
    const StreamKey key{.seed = job_.job.seed, .client = task.client, .round = task.round};
    gather(task, batch, Augmentation::none, key);
    try {
        curvature_.measure(*model_, *loss_, batch_, task.probe, key, report.layers);
        if (asks(task.probe, Probe::sensitivity))
            measure_sensitivity(key, report);
    } catch (const TrainingError&) {  // a measurement that fails says nothing; what was trained is sound
    }
}

/// Rounding errors of samples are independent, nearly so in the forward pass: those of a whole batch are smaller.
void Trainer::measure_sensitivity(const StreamKey& key, TrainingReport& report) {
    // Ranges as they are now: those that the last step observed would clip what it has moved beyond them.
    model_->reset();
    sensitivity_.measure(*model_, *loss_, batch_, key, report.layers);
    const auto measured = static_cast<float>(batch_.inputs.shape()[0]);
    const auto trained = static_cast<float>(std::min<std::size_t>(job_.train.batch_size, order_.size()));
    for (std::size_t i = 0; i < report.layers.size(); ++i) {
        const QuantizeOptions quantize = options_for(job_.quantize, schema().layers()[i].name);
        LayerStatistics& layer = report.layers[i];
        if (layer.forward_sensitivity > 0)
            layer.forward_sensitivity *= std::sqrt(measured / trained) * at_probe_bits(quantize, Phase::forward);
        if (layer.backward_sensitivity > 0)
            layer.backward_sensitivity *= std::sqrt(measured / trained) * at_probe_bits(quantize, Phase::backward);
    }
}

void Trainer::profile(const TrainingTask& task, const StreamKey& epoch, std::span<const std::uint32_t> indices) {
    const std::size_t last = (epoch.step + 1) * batches() - 1;  // ramps only rise
    if (profiler_.needed() && strength(task, static_cast<std::uint32_t>(last)) > 0)
        profiler_.measure(*model_, data_, indices, epoch);
}

float Trainer::strength(const TrainingTask& task, std::uint32_t number) const {
    const double steps = static_cast<double>(job_.train.epochs) * static_cast<double>(batches());
    return noise_strength(job_.noise, std::max(task.round, 1U) - 1 + number / steps);
}

NoisePass Trainer::noise(const TrainingTask& task, std::uint32_t number) const {
    const float ramp = strength(task, number);
    if (ramp == 0)
        return {};
    return {.weights = noise_.get(),
            .drop_in = static_cast<float>(job_.noise.drop_in),
            .strength = ramp,
            .profiles = profiler_.profiles()};
}

std::size_t Trainer::batches() const {
    return (order_.size() + job_.train.batch_size - 1) / job_.train.batch_size;
}

double Trainer::step(const TrainingTask& task, const StreamKey& key, std::size_t first, std::uint32_t number) {
    const std::size_t size = std::min<std::size_t>(job_.train.batch_size, order_.size() - first);
    Pass pass{.plan = task.plan, .noise = noise(task, number), .key = key, .training = true};
    pass.key.step = number;
    pass.loss_scale = static_cast<float>(scaler_.scale());
    pass.measure = task.plan != nullptr && number % kMeasureEvery == 0;
    gather(task, std::span(order_).subspan(first, size), job_.data.augment, pass.key);

    const Tensor output = model_->forward(batch_.inputs, pass);
    Tensor gradient(output.shape(), &model_->arena());
    const double loss = loss_->evaluate(output, batch_.targets, &gradient).mean_loss();
    if (!std::isfinite(loss))
        throw TrainingError(
            fmt::format("client {}, round {}, step {}: the loss is {}", task.client, task.round, number + 1, loss));
    const bool whole = backward(std::move(gradient), pass);
    move_parameters(task, pass.key, !whole);
    return loss;
}

bool Trainer::backward(Tensor gradient, const Pass& pass) {
    scaler_.multiply(gradient.values());
    try {
        model_->backward(std::move(gradient), pass);
        return true;
    } catch (const TrainingError&) {  // a quantizer met a value that is not finite: to dynamic scaling, one more sign
        if (!scaler_.dynamic())
            throw;
        return false;
    }
}

void Trainer::move_parameters(const TrainingTask& task, const StreamKey& key, bool overflowed) {
    if (!scaler_.divide(model_->gradients(), overflowed)) {
        if (scaler_.hopeless())
            throw TrainingError(
                fmt::format("client {}, round {}, step {}: the gradient is not finite, at a loss scale of {} still",
                            task.client, task.round, key.step + 1, scaler_.scale()));
        return;
    }
    observe_gradients();
    if (job_.train.proximal > 0)
        pull_back();
    if (job_.train.clip_norm > 0)
        clip_gradients(schema(), model_->gradients(), job_.train.clip_norm);
    if (!task.own_control.empty())
        add_difference(model_->gradients(), static_cast<float>(job_.federation.strategy.correction), task.control,
                       task.own_control);
    optimizer_->step(model_->parameters(), model_->gradients(), task.plan, key, learning_rate(task, key.step));
    if (rounder_)
        rounder_->round(model_->parameters(), task.plan, key);
}

void Trainer::pull_back() {
    const auto factor = static_cast<float>(job_.train.proximal);
    for (const LayerSpec& layer : schema().layers()) {
        const auto trained = [&](auto flat) { return flat.subspan(layer.offset, layer.trained_count()); };
        add_difference(trained(model_->gradients()), factor, trained(std::as_const(*model_).parameters()),
                       trained(received_));
    }
}

double Trainer::learning_rate(const TrainingTask& task, std::uint32_t number) const {
    const double steps = static_cast<double>(job_.train.epochs) * static_cast<double>(batches());
    return learning_rate_factor(
        job_.train.schedule,
        {.round = std::max(task.round, 1U) - 1 + number / steps, .step = 1 / steps, .rounds = job_.job.rounds});
}

void Trainer::observe_gradients() {
    const std::span<const float> gradients = model_->gradients();
    for (std::size_t layer = 0; layer < squared_gradients_.size(); ++layer) {
        const std::size_t trained = schema().layers()[layer].trained_count();
        squared_gradients_[layer] += blend_and_square(schema().slice(std::span<float>(smoothed_), layer).first(trained),
                                                      schema().slice(gradients, layer).first(trained), kSmoothing);
    }
}

void Trainer::gather_statistics(TrainingReport& report, std::span<const float> update) {
    model_->report(report.layers);
    const std::uint32_t observed = report.steps - scaler_.skipped();
    double memory = 1;  // kSmoothing^steps, by multiplications, which are the same on every processor
    for (std::uint32_t step = 0; step < observed; ++step)
        memory *= kSmoothing;
    const double correction = 1 - memory;
    for (std::size_t layer = 0; layer < report.layers.size(); ++layer) {
        LayerStatistics& s = report.layers[layer];
        const std::size_t trained = schema().layers()[layer].trained_count();
        const auto norm_of = [&](std::span<const float> flat) {
            return std::sqrt(squared_norm(schema().slice(flat, layer).first(trained)));
        };
        const auto change = schema().slice(update, layer);
        s.grad_norm = static_cast<float>(std::sqrt(squared_gradients_[layer] / observed));
        s.signal_norm = static_cast<float>(norm_of(smoothed_) / correction);
        s.step_gain = optimizer_->step_gain(layer);
        s.theta_norm = static_cast<float>(norm_of(model_->parameters()));
        s.update_range = max_magnitude(change);
        s.update_rms = static_cast<float>(root_mean_square(change));
    }
}

}  // namespace dither
