// A plan is a list of stages. A stage begins with a product, a pool or a value, takes the steps behind it into the same
// pass over its results, as far as nobody else sees what is in between, and leaves codes, fp32 values, or both, as the
// steps that take them ask for. Up to the first linear layer the stages run image by image, so that what passes between
// them stays in the cache; linear layers take the batch.
#include "core/inference/integer_network.hpp"

#include "core/compute/integer_winograd.hpp"
#include "core/error.hpp"
#include "core/inference/detail/epilogue.hpp"
#include "core/layers/detail/pool_kernels.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <limits>
#include <optional>

namespace dither {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
/// Constants of channels are repeated side by side up to at least so many values, which a pass takes at once.
constexpr std::size_t kRun = 256;
constexpr double kMaxBytes = 4294967296.0;  // of activations

std::size_t run_of(std::size_t channels) {
    return channels * ((kRun + channels - 1) / channels);
}

/// The constants of the channels, repeated to fill a run.
void repeat(std::span<const float> constants, AlignedFloats& run) {
    run.resize(run_of(constants.size()));
    for (std::size_t i = 0; i < run.size(); ++i)
        run[i] = constants[i % constants.size()];
}

std::size_t count_of(const Shape& shape) {
    return static_cast<std::size_t>(shape.count());
}

/// A value in one of its forms.
struct Codes {
    ActivationGrid grid;
    epilogue::Coder coder;
    std::vector<std::uint8_t> bytes;
};

struct Value {
    Shape shape;
    std::size_t count = 0;
    bool whole = false;  ///< of the batch, not of the image at hand
    bool needs_floats = false;
    AlignedFloats floats;
    const float* data = nullptr;  ///< where the floats are
    float* target = nullptr;      ///< the same; null for the sample
    std::vector<Codes> codes;

    std::size_t at(std::int64_t item) const { return whole ? static_cast<std::size_t>(item) * count : 0; }
};

/// What a stage has done so far, in the order in which the parts must come.
enum class Progress : std::uint8_t { product, pool, affine, add, clamp };

struct Stage {
    std::uint32_t step = 0;  ///< the first one
    std::uint32_t input = 0;
    std::uint32_t output = 0;
    Progress progress = Progress::product;

    std::unique_ptr<IntegerProduct> product;  ///< of a stage that begins with one,
    std::optional<IntegerWinograd> winograd;  ///< or this
    bool linear = false;
    std::size_t codes = 0;                  ///< which of the input's
    std::vector<std::int32_t> zero_points;  ///< [items at a time]
    Shape result;                           ///< of the product
    bool halves = false;                    ///< 2x2 max pool behind the product
    std::optional<PoolGeometry> pool;
    bool mean_pool = false;
    bool tanh = false;

    AlignedFloats factor;
    AlignedFloats bias;
    AlignedFloats mean;
    AlignedFloats scale;
    AlignedFloats shift;
    float low = -kInfinity;
    float high = kInfinity;
    std::optional<std::uint32_t> other;

    bool has_product() const { return product != nullptr || winograd; }
    /// Items that its product takes at a time.
    std::int64_t block() const { return linear ? product->block() : 1; }
};

PoolGeometry geometry_of(const PoolOperation& p, const Shape& x) {
    return {.height = x[1],
            .width = x[2],
            .channels = x[3],
            .kernel_height = p.kernel_height,
            .kernel_width = p.kernel_width,
            .stride = p.stride,
            .padding = p.padding};
}

/// What a product holds beside its weights, from above: operands in 16 bits and sums, by value, and tables of places.
double room_of(const ProductOperation& p, std::int64_t max_batch) {
    const ConvGeometry& g = p.geometry;
    const auto items = static_cast<double>(p.linear ? max_batch : 1);
    const auto taken =
        static_cast<double>((g.in_height + 2 * g.padding) * (g.in_width + 2 * g.padding) * g.in_channels);
    const auto made = static_cast<double>(g.out_height() * g.out_width() * g.out_channels);
    const double value_bytes = p.linear ? 8 : 32;
    constexpr double kClassBytes = 1024;  // of an empty plan, about
    return items * value_bytes * (taken + made) + kClassBytes * static_cast<double>(g.stride * g.stride);
}

void expect_room(double bytes, std::int64_t max_batch) {
    if (bytes > kMaxBytes)
        throw FormatError(fmt::format("integer network: needs {:.0f} bytes for a batch of {}, expected at most {:.0f}",
                                      bytes, max_batch, kMaxBytes));
}

}  // namespace

class IntegerNetwork::Plan {
public:
    Plan(const IntegerModel& model, std::int64_t max_batch);

    const Tensor& run(const Tensor& x);
    const Shape& sample_shape() const { return values_.front().shape; }
    std::int64_t max_batch() const { return max_batch_; }

private:
    // Planning.
    void find_consumers();
    Stage begin(std::uint32_t step);
    void begin_product(Stage& stage, const ProductOperation& product);
    bool absorb(Stage& stage, std::uint32_t step);
    bool absorb(Stage& stage, const Step& step);
    void require_forms();
    void check_room() const;
    void make_room();

    // Running.
    void run_stage(Stage& stage, std::int64_t first, std::int64_t items);
    void run_product(Stage& stage, std::int64_t first, std::int64_t items);
    void encode_sample(std::int64_t first, std::int64_t items);
    template <typename Source>
    void finish(const Stage& stage, const Source* source, std::int64_t first, std::size_t begin, std::size_t count);

    std::span<const Step> steps_;  ///< while planning
    std::vector<std::vector<std::uint32_t>> consumers_;
    std::vector<bool> absorbed_;
    std::int64_t max_batch_;
    std::vector<Value> values_;
    std::vector<Stage> stages_;
    std::size_t per_image_ = 0;  ///< so many stages run image by image
    std::vector<std::int32_t> sums_;
    std::vector<std::int32_t> halved_;  ///< a row
    AlignedFloats pooled_;              ///< an image
    AlignedFloats scratch_;             ///< a run
    Tensor outputs_;
};

IntegerNetwork::Plan::Plan(const IntegerModel& model, std::int64_t max_batch)
    : steps_(model.steps), max_batch_(max_batch) {
    require(max_batch > 0, "a network for batches of {} samples", max_batch);
    const std::vector<Shape> shapes = check(model);
    double bytes = 0;
    for (const Step& step : steps_)
        if (const auto* product = std::get_if<ProductOperation>(&step.operation))
            bytes += room_of(*product, max_batch);
    expect_room(bytes, max_batch);
    for (const Shape& shape : shapes)
        values_.push_back({.shape = shape, .count = count_of(shape)});
    find_consumers();
    absorbed_.resize(steps_.size());
    for (std::uint32_t step = 0; step < steps_.size(); ++step) {
        if (absorbed_[step])
            continue;
        Stage stage = begin(step);
        while (consumers_[stage.output].size() == 1 && absorb(stage, consumers_[stage.output].front())) {
        }
        stages_.push_back(std::move(stage));
    }
    require_forms();
    make_room();
    steps_ = {};
}

void IntegerNetwork::Plan::find_consumers() {
    consumers_.resize(values_.size());
    for (std::uint32_t step = 0; step < steps_.size(); ++step) {
        consumers_[steps_[step].input].push_back(step);
        if (const auto* add = std::get_if<AddOperation>(&steps_[step].operation))
            consumers_[add->other].push_back(step);
    }
}

Stage IntegerNetwork::Plan::begin(std::uint32_t step) {
    Stage stage{.step = step, .input = steps_[step].input, .output = step + 1};
    const Operation& operation = steps_[step].operation;
    if (const auto* product = std::get_if<ProductOperation>(&operation)) {
        begin_product(stage, *product);
    } else if (const auto* pool = std::get_if<PoolOperation>(&operation)) {
        stage.pool = geometry_of(*pool, values_[stage.input].shape);
        stage.mean_pool = pool->mean;
        stage.progress = Progress::pool;
    } else if (std::holds_alternative<TanhOperation>(operation)) {
        stage.tanh = true;
        stage.progress = Progress::clamp;
    } else {
        stage.output = stage.input;
        absorb(stage, steps_[step]);
        stage.output = step + 1;
    }
    return stage;
}

void IntegerNetwork::Plan::begin_product(Stage& stage, const ProductOperation& p) {
    const ConvGeometry& g = p.geometry;
    stage.linear = p.linear;
    stage.result = values_[stage.output].shape;
    std::vector<std::int8_t> codes(p.weight_count());
    unpack_codes(p.weights, p.bits, codes);
    if (!p.linear && IntegerWinograd::pays(g)) {
        stage.winograd.emplace(g).pack(codes);
    } else {
        stage.product =
            p.linear ? make_integer_linear(g.in_channels, g.out_channels, max_batch_) : make_integer_convolution(g, 1);
        stage.product->pack_forward(codes);
    }
    stage.zero_points.assign(static_cast<std::size_t>(std::min(stage.block(), max_batch_)), p.grid.zero_point);
    std::vector<float> factors(p.scales);
    for (float& factor : factors)
        factor = p.grid.scale * factor;
    repeat(factors, stage.factor);
    repeat(p.bias.empty() ? std::vector<float>(p.scales.size()) : p.bias, stage.bias);
}

bool IntegerNetwork::Plan::absorb(Stage& stage, std::uint32_t step) {
    if (!absorb(stage, steps_[step]))
        return false;
    stage.output = step + 1;
    absorbed_[step] = true;
    return true;
}

/// Whether the step could join the stage, whose last value it takes.
bool IntegerNetwork::Plan::absorb(Stage& stage, const Step& step) {
    const auto join = [&](Progress part) {
        const bool joins = stage.progress < part;
        stage.progress = joins ? part : stage.progress;
        return joins;
    };
    if (const auto* pool = std::get_if<PoolOperation>(&step.operation)) {
        const PoolGeometry g = geometry_of(*pool, values_[stage.output].shape);
        if (!stage.has_product() || pool->mean || pool->flat || !g.is_halving() || !join(Progress::pool))
            return false;
        stage.halves = true;
        return true;
    }
    if (const auto* affine = std::get_if<AffineOperation>(&step.operation)) {
        if (!join(Progress::affine))
            return false;
        repeat(affine->mean, stage.mean);
        repeat(affine->scale, stage.scale);
        repeat(affine->shift, stage.shift);
        return true;
    }
    if (const auto* add = std::get_if<AddOperation>(&step.operation)) {
        const std::uint32_t other = step.input == stage.output ? add->other : step.input;
        // Only what was there before the stage's first step is there when the stage runs.
        if (other > stage.step || !join(Progress::add))
            return false;
        stage.other = other;
        return true;
    }
    if (const auto* clamp = std::get_if<ClampOperation>(&step.operation)) {
        if (!join(Progress::clamp))
            return false;
        stage.low = clamp->low;
        stage.high = clamp->high;
        return true;
    }
    return false;
}

/// Which forms of each value somebody takes.
void IntegerNetwork::Plan::require_forms() {
    for (Stage& stage : stages_) {
        Value& input = values_[stage.input];
        if (stage.other)
            values_[*stage.other].needs_floats = true;
        if (!stage.has_product()) {
            input.needs_floats = true;
            continue;
        }
        const ActivationGrid& grid = std::get<ProductOperation>(steps_[stage.step].operation).grid;
        const auto found = std::ranges::find(input.codes, grid, &Codes::grid);
        stage.codes = static_cast<std::size_t>(found - input.codes.begin());
        if (found == input.codes.end())
            input.codes.push_back({.grid = grid, .coder = epilogue::Coder(grid), .bytes = {}});
    }
    values_.back().needs_floats = true;
}

/// What a file asks for is not bounded by its length.
void IntegerNetwork::Plan::check_room() const {
    double bytes = 0;
    for (const Value& value : values_) {
        const double count = static_cast<double>(value.count) * static_cast<double>(value.whole ? max_batch_ : 1);
        bytes += count * static_cast<double>(value.codes.size() +
                                             (value.needs_floats && &value != &values_.front() ? sizeof(float) : 0));
    }
    expect_room(bytes, max_batch_);
}

void IntegerNetwork::Plan::make_room() {
    const auto linear = std::ranges::find(stages_, true, &Stage::linear);
    per_image_ = static_cast<std::size_t>(linear - stages_.begin());
    values_.front().whole = true;
    values_.back().whole = true;
    for (std::size_t i = per_image_; i < stages_.size(); ++i) {
        values_[stages_[i].input].whole = true;
        values_[stages_[i].output].whole = true;
        if (stages_[i].other)
            values_[*stages_[i].other].whole = true;
    }
    check_room();
    for (Value& value : values_) {
        const std::size_t count = value.count * static_cast<std::size_t>(value.whole ? max_batch_ : 1);
        for (Codes& codes : value.codes)
            codes.bytes.resize(count);
        if (!value.needs_floats || &value == &values_.front())
            continue;
        value.floats.resize(count);
        value.data = value.target = value.floats.data();
    }
    for (const Stage& stage : stages_) {
        const Value& output = values_[stage.output];
        const auto items = static_cast<std::size_t>(stage.linear ? max_batch_ : 1);
        sums_.resize(std::max(sums_.size(), stage.has_product() ? items * count_of(stage.result) : 0));
        if (stage.halves)
            halved_.resize(std::max(halved_.size(), static_cast<std::size_t>(output.shape[2] * output.shape[3])));
        pooled_.resize(std::max(pooled_.size(), stage.pool || stage.tanh ? output.count : 0));
        scratch_.resize(
            std::max(scratch_.size(), run_of(static_cast<std::size_t>(output.shape[output.shape.rank() - 1]))));
    }
    outputs_.resize(values_.back().shape.with_batch(max_batch_));
}

const Tensor& IntegerNetwork::Plan::run(const Tensor& x) {
    const std::int64_t batch = x.shape().rank() > 0 ? x.shape()[0] : 0;
    require(batch > 0 && batch <= max_batch_ && x.shape() == sample_shape().with_batch(batch),
            "an integer network takes up to {} samples of {}, got {}", max_batch_, sample_shape().str(),
            x.shape().str());
    if (!all_finite(x.values()))
        throw TrainingError("an integer network got a value that is not finite");
    values_.front().data = x.data();
    outputs_.resize(values_.back().shape.with_batch(batch));
    values_.back().data = values_.back().target = outputs_.data();
    const std::span<Stage> stages(stages_);
    if (per_image_ == 0)
        encode_sample(0, batch);
    for (std::int64_t image = 0; per_image_ > 0 && image < batch; ++image) {
        encode_sample(image, 1);
        for (Stage& stage : stages.first(per_image_))
            run_stage(stage, image, 1);
    }
    for (Stage& stage : stages.subspan(per_image_))
        run_stage(stage, 0, batch);
    return outputs_;
}

void IntegerNetwork::Plan::encode_sample(std::int64_t first, std::int64_t items) {
    Value& sample = values_.front();
    const std::size_t at = sample.at(first);
    for (Codes& codes : sample.codes)
        epilogue::encode(sample.data + at, codes.coder, sample.count * static_cast<std::size_t>(items),
                         codes.bytes.data() + at);
}

void IntegerNetwork::Plan::run_stage(Stage& stage, std::int64_t first, std::int64_t items) {
    if (stage.has_product()) {
        run_product(stage, first, items);
        return;
    }
    const Value& input = values_[stage.input];
    const float* x = input.data + input.at(first);
    const std::size_t count = values_[stage.output].count;
    for (std::int64_t item = 0; item < items; ++item, x += input.count) {
        const float* values = x;
        if (stage.pool && stage.mean_pool)
            mean_pool(*stage.pool, 1, x, pooled_.data());
        else if (stage.pool)
            max_pool(*stage.pool, 1, x, pooled_.data(), nullptr);
        else if (stage.tanh)
            epilogue::tanh(x, count, pooled_.data());
        if (stage.pool || stage.tanh)
            values = pooled_.data();
        finish(stage, values, first + item, 0, count);
    }
}

void IntegerNetwork::Plan::run_product(Stage& stage, std::int64_t first, std::int64_t items) {
    const Value& input = values_[stage.input];
    const Value& output = values_[stage.output];
    const std::size_t result = count_of(stage.result);
    const std::span<const std::uint8_t> codes(input.codes[stage.codes].bytes);
    for (std::int64_t done = 0; done < items; done += stage.block()) {
        const std::int64_t block = std::min(stage.block(), items - done);
        const auto count = static_cast<std::size_t>(block);
        const std::span<const std::uint8_t> x = codes.subspan(input.at(first + done), count * input.count);
        const std::span<std::int32_t> sums = std::span(sums_).first(count * result);
        if (stage.winograd)
            stage.winograd->run(x, stage.zero_points.front(), sums);
        else
            stage.product->forward(block, x, std::span(stage.zero_points).first(count), sums);
        if (!stage.halves) {
            finish(stage, sums_.data(), first + done, 0, count * result);
            continue;
        }
        const auto width = static_cast<std::size_t>(output.shape[2]);
        const auto channels = static_cast<std::size_t>(output.shape[3]);
        const std::size_t row = width * channels;
        for (std::size_t y = 0; y * row < count * output.count; ++y) {
            epilogue::halve(sums_.data() + 4 * row * y, width, channels, halved_.data());
            finish(stage, halved_.data(), first + done, y * row, row);
        }
    }
}

/// Takes `count` values of the stage from `source`, which go `begin` values behind item `first`.
template <typename Source>
void IntegerNetwork::Plan::finish(const Stage& stage, const Source* source, std::int64_t first, std::size_t begin,
                                  std::size_t count) {
    Value& output = values_[stage.output];
    const epilogue::Constants constants{.factor = stage.factor.data(),
                                        .bias = stage.bias.data(),
                                        .mean = stage.mean.empty() ? nullptr : stage.mean.data(),
                                        .scale = stage.scale.data(),
                                        .shift = stage.shift.data(),
                                        .low = stage.low,
                                        .high = stage.high};
    const float* other = nullptr;
    if (stage.other)
        other = values_[*stage.other].data + values_[*stage.other].at(first) + begin;
    const std::size_t at = output.at(first) + begin;
    const std::size_t run = run_of(static_cast<std::size_t>(output.shape[output.shape.rank() - 1]));
    for (std::size_t i = 0; i < count; i += run) {
        const std::size_t size = std::min(run, count - i);
        float* y = output.needs_floats ? output.target + at + i : scratch_.data();
        epilogue::finish(source + i, constants, other == nullptr ? nullptr : other + i, size, y);
        for (Codes& codes : output.codes)
            epilogue::encode(y, codes.coder, size, codes.bytes.data() + at + i);
    }
}

IntegerNetwork::IntegerNetwork(const IntegerModel& model, std::int64_t max_batch)
    : plan_(std::make_unique<Plan>(model, max_batch)) {}
IntegerNetwork::IntegerNetwork(IntegerNetwork&&) noexcept = default;
IntegerNetwork::~IntegerNetwork() = default;

const Shape& IntegerNetwork::sample_shape() const {
    return plan_->sample_shape();
}

std::int64_t IntegerNetwork::max_batch() const {
    return plan_->max_batch();
}

const Tensor& IntegerNetwork::run(const Tensor& x) {
    return plan_->run(x);
}

}  // namespace dither
