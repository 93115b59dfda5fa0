// Layers whose operands have ranges that are trained with the weights, and operands of widths of their own.
#include "core/config.hpp"
#include "core/error.hpp"
#include "core/layers/weighted.hpp"
#include "core/model/model.hpp"
#include "core/quantize/learned.hpp"
#include "tests/unit/gradient_check.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

namespace dither {
namespace {

using testing::random_tensor;

constexpr std::int64_t kBatch = 3;
constexpr std::int64_t kIn = 10;
constexpr std::int64_t kOut = 4;
constexpr std::size_t kProducts = kIn * kOut + kOut;

const Backend& backend() {
    static const auto backend = make_backend({});
    return *backend;
}

PrecisionPlan plan_of(int forward, int backward) {
    PrecisionPlan plan = PrecisionPlan::uniform(1, 32);
    plan.layers[0].forward = forward;
    plan.layers[0].backward = backward;
    return plan;
}

QuantizeOptions lsq_options(Observer inputs = Observer::lsq) {
    QuantizeOptions options;
    options.weights.observer = Observer::lsq;
    options.activations.observer = inputs;
    return options;
}

/// A linear layer of 10 inputs and 4 outputs.
struct Linear {
    explicit Linear(const QuantizeOptions& options) : layer(make_linear(kIn, kOut, true, options, backend(), kBatch)) {
        std::int64_t count = 0;
        for (const ParameterSpec& spec : layer->parameters())
            count += spec.shape.count();
        parameters = Tensor({count});
        gradients = Tensor({count});
        const Tensor random = random_tensor({static_cast<std::int64_t>(kProducts)}, 1);
        std::ranges::copy(random.values(), parameters.data());
        layer->attach(0, parameters.values(), gradients.values());
        x = random_tensor({kBatch, kIn}, 2);
        dy = random_tensor({kBatch, kOut}, 3);
    }

    void run(const PrecisionPlan* plan, bool training = true) {
        const Pass pass{.plan = plan, .training = training};
        y = layer->forward(x.share(), pass);
        dx = layer->backward(dy.share(), pass, true);
    }
    std::span<float> ranges() { return parameters.values().subspan(kProducts); }
    std::span<float> range_gradients() { return gradients.values().subspan(kProducts); }

    std::unique_ptr<Layer> layer;
    Tensor parameters;
    Tensor gradients;
    Tensor x;
    Tensor dy;
    Tensor y;
    Tensor dx;
};

double largest_difference(std::span<const float> a, std::span<const float> b) {
    REQUIRE(a.size() == b.size());
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
    return worst;
}

bool all_zero(std::span<const float> values) {
    return std::ranges::all_of(values, [](float v) { return v == 0; });
}

TEST_SUITE("core/layers/learned_ranges") {
    TEST_CASE("a layer has a range for each output channel of its weights and one for its input, behind its bias") {
        const auto specs = Linear(lsq_options()).layer->parameters();
        REQUIRE(specs.size() == 4);
        CHECK(specs[2].name == "weight_range");
        CHECK(specs[2].shape == Shape{kOut});
        CHECK(specs[3].name == "input_range");
        CHECK(specs[3].shape == Shape{1});
        CHECK(Linear(lsq_options(Observer::lsq_plus)).layer->parameters()[3].shape == Shape{2});
        CHECK(Linear({}).layer->parameters().size() == 2);
    }

    TEST_CASE("the first training pass sets the ranges, and no other pass writes them") {
        const PrecisionPlan plan = plan_of(4, 32);
        Linear linear(lsq_options());
        linear.run(&plan, false);
        CHECK(all_zero(linear.ranges()));
        linear.run(nullptr, true);
        CHECK(all_zero(linear.ranges()));
        linear.run(&plan, true);
        CHECK(std::ranges::none_of(linear.ranges(), [](float v) { return v == 0; }));
        const std::vector<float> first(linear.ranges().begin(), linear.ranges().end());
        linear.x = random_tensor({kBatch, kIn}, 9);
        linear.run(&plan, true);
        CHECK(std::ranges::equal(first, linear.ranges()));
    }

    TEST_CASE("in fp32 ranges play no part and get no gradient") {
        Linear learned(lsq_options());
        Linear plain({});
        learned.run(nullptr);
        plain.run(nullptr);
        CHECK(std::ranges::equal(learned.y.values(), plain.y.values()));
        CHECK(std::ranges::equal(learned.dx.values(), plain.dx.values()));
        CHECK(all_zero(learned.range_gradients()));
    }

    TEST_CASE("ranges get the gradients of the rounded operands, those of clipped values included") {
        QuantizeOptions options = lsq_options();
        options.execution = Execution::simulated;
        const PrecisionPlan plan = plan_of(3, 32);
        Linear linear(options);
        linear.run(&plan);
        linear.run(&plan);

        LearnedRange weights(options.weights, kOut);
        LearnedRange inputs(options.activations, 1);
        Tensor values({kOut + 1});
        Tensor expected({kOut + 1});
        std::ranges::copy(linear.ranges(), values.data());
        weights.attach(values.values().first(kOut), expected.values().first(kOut));
        inputs.attach(values.values().subspan(kOut), expected.values().subspan(kOut));
        const QuantLayout weight_layout{.rows = kIn, .columns = kOut, .samples = 1, .sums_rows = true};
        const QuantLayout input_layout{.rows = kBatch, .columns = kIn, .samples = kBatch};
        const std::span<const float> w = linear.parameters.values().first(kIn * kOut);
        std::vector<float> w_rounded(w.size());
        std::vector<float> x_rounded(linear.x.values().size());
        Quantizer weight_quantizer(options.weights);
        Quantizer input_quantizer(options.activations);
        weight_quantizer.set_grid(weights.grid(w, weight_layout, 3, true));
        input_quantizer.set_grid(inputs.grid(linear.x.values(), input_layout, 3, true));
        weight_quantizer.apply(w, w_rounded, weight_layout, 3, {});
        input_quantizer.apply(linear.x.values(), x_rounded, input_layout, 3, {});
        CHECK(weight_quantizer.clipped() + input_quantizer.clipped() > 0);

        const auto product = backend().linear(kIn, kOut, kBatch);
        std::vector<float> dx(x_rounded.size());
        std::vector<float> dw(w.size());
        product->pack_backward(w_rounded);
        product->backward_input(kBatch, linear.dy.values(), dx);
        product->add_weight_gradient(kBatch, x_rounded, linear.dy.values(), dw);
        weights.backward(w, dw, weight_layout);
        inputs.backward(linear.x.values(), dx, input_layout);
        CHECK_FALSE(all_zero(expected.values()));
        CHECK(largest_difference(linear.range_gradients(), expected.values()) < 1e-6);
    }

    TEST_CASE("integer and simulated execution agree on learned ranges, their gradients included") {
        for (const Observer inputs : {Observer::lsq, Observer::lsq_plus, Observer::pact})
            for (const int bits : {2, 4, 8})
                for (const int backward : {4, 8, 32}) {
                    QuantizeOptions options = lsq_options(inputs);
                    options.gradients.rounding = Rounding::nearest;
                    options.gradients.granularity = Granularity::per_tensor;
                    Linear integer(options);
                    options.execution = Execution::simulated;
                    Linear simulated(options);
                    if (inputs == Observer::pact)
                        for (Linear* linear : {&integer, &simulated})
                            for (float& value : linear->x.values())
                                value = std::abs(value);
                    const PrecisionPlan plan = plan_of(bits, backward);
                    for (int step = 0; step < 2; ++step) {
                        integer.run(&plan);
                        simulated.run(&plan);
                    }
                    CAPTURE(static_cast<int>(inputs));
                    CAPTURE(bits);
                    CAPTURE(backward);
                    CHECK(largest_difference(integer.y.values(), simulated.y.values()) < 2e-5);
                    CHECK(largest_difference(integer.dx.values(), simulated.dx.values()) < 2e-5);
                    CHECK(largest_difference(integer.gradients.values(), simulated.gradients.values()) < 1e-4);
                }
    }

    TEST_CASE("a pass that needs no input gradient trains the input's range all the same") {
        const PrecisionPlan plan = plan_of(4, 32);
        Linear linear(lsq_options());
        linear.run(&plan);
        const std::vector<float> expected(linear.range_gradients().begin(), linear.range_gradients().end());
        const Pass pass{.plan = &plan, .training = true};
        linear.layer->forward(linear.x.share(), pass);
        CHECK(linear.layer->backward(linear.dy.share(), pass, false).empty());
        CHECK(std::ranges::equal(linear.range_gradients(), expected));
    }

    TEST_CASE("weights and inputs take widths of their own wherever the plan is below 32 bits") {
        QuantizeOptions options;
        options.weights.bits = 2;
        options.activations.bits = 8;
        const PrecisionPlan plan = plan_of(4, 32);
        const PrecisionPlan full = plan_of(32, 32);
        Linear narrow(options);
        narrow.run(&plan);
        Linear exact(options);
        exact.run(&full);
        Linear reference({});
        reference.run(nullptr);
        CHECK(std::ranges::equal(exact.y.values(), reference.y.values()));

        std::vector<float> w(kIn * kOut);
        std::vector<float> x(kBatch * kIn);
        Quantizer(options.weights).apply(narrow.parameters.values().first(w.size()), w, {kIn, kOut, 1}, 2, {});
        Quantizer(options.activations).apply(narrow.x.values(), x, {kBatch, kIn, kBatch}, 8, {});
        const std::span<const float> bias = narrow.parameters.values().subspan(w.size(), kOut);
        for (std::size_t r = 0; r < kBatch; ++r)
            for (std::size_t c = 0; c < kOut; ++c) {
                double sum = bias[c];
                for (std::size_t i = 0; i < kIn; ++i)
                    sum += static_cast<double>(x[r * kIn + i]) * w[i * kOut + c];
                CHECK(narrow.y.values()[r * kOut + c] == doctest::Approx(sum).epsilon(1e-5));
            }
    }

    TEST_CASE("scales for groups must divide what a layer sums over, and the error names both") {
        QuantizeOptions options;
        options.weights.granularity = Granularity::per_group;
        options.weights.group_size = 4;
        CHECK_THROWS_WITH_AS(Linear{options},
                             doctest::Contains("quantize.weights.group_size: 4 does not divide the 10"), InputError);
        options.weights.group_size = 5;
        const PrecisionPlan plan = plan_of(8, 8);
        Linear linear(options);
        linear.run(&plan);
        Linear exact({});
        exact.run(nullptr);
        CHECK(largest_difference(linear.y.values(), exact.y.values()) < 0.05);
        CHECK(largest_difference(linear.dx.values(), exact.dx.values()) < 0.05);
        CHECK(largest_difference(linear.gradients.values(), exact.gradients.values()) < 0.1);
    }

    TEST_CASE("what the quantizers of a layer cannot be together is an error that names the layer and the key") {
        const auto error_of = [](const std::string& key, const std::string& value) -> std::string {
            QuantizeOptions quantize = lsq_options();
            quantize.layers = {{.match = "fc2", .settings = {{key, value}}}};
            try {
                ModelOptions options;
                options.name = "mlp";
                make_model(options, quantize, {.sample = {1, 6}, .outputs = 3, .max_batch = 1}, backend());
                return "";
            } catch (const InputError& error) {
                return error.what();
            }
        };
        CHECK(error_of("weights.bits", "4")
                  .find("layer fc2: quantize.weights.bits, quantize.activations.bits: expected "
                        "both or none") == 0);
        CHECK(error_of("weights.rounding", "\"stochastic\"").find("layer fc2: quantize.weights.rounding: ") == 0);
        CHECK(error_of("activations.scheme", "\"per_channel_affine\"")
                  .find("layer fc2: quantize.activations.scheme: expected per_tensor for a range") == 0);
        CHECK(error_of("weights.scheme", "\"per_group_symmetric\"").find("layer fc2: quantize.weights.scheme: ") == 0);
        CHECK(error_of("gradients.scheme", "\"per_group_symmetric\"")
                  .find("layer fc2: quantize.gradients.group_size: 32 does not divide") == 0);
    }

    TEST_CASE("learned ranges are an entry of the schema of their own, so that grids for weights do not meet them") {
        ModelOptions options;
        options.name = "mlp";
        options.hidden = {5};
        const auto model =
            make_model(options, lsq_options(), {.sample = {1, 6}, .outputs = 3, .max_batch = 2}, backend());
        const auto layers = model->schema().layers();
        REQUIRE(layers.size() == 4);
        CHECK(layers[0].name == "fc1");
        CHECK(layers[0].count == 35);
        CHECK(layers[1].name == "fc1_range");
        CHECK(layers[1].count == 6);
        CHECK(layers[1].macs == 0);
        model->initialize(1);
        const PrecisionPlan plan = PrecisionPlan::uniform(4, 4);
        const Pass pass{.plan = &plan, .training = true};
        Tensor dy = model->forward(random_tensor({2, 6}, 1), pass);
        model->backward(std::move(dy), pass);
        CHECK_FALSE(all_zero(model->schema().slice(model->parameters(), 3)));
        std::vector<LayerStatistics> statistics(4);
        model->report(statistics);
        CHECK(statistics[2].saturation >= 0);
        CHECK(statistics[3].saturation == kNotMeasured);
    }

    TEST_CASE("an override holds for the layers that it matches, residual ones included, and for no other") {
        const auto layers_of = [](const std::string& match) {
            QuantizeOptions quantize;
            quantize.layers = {{.match = match, .settings = {{"weights.observer", "\"lsq\""}}}};
            ModelOptions options;
            options.name = "resnet8";
            const auto model =
                make_model(options, quantize, {.sample = {1, 8, 8, 3}, .outputs = 10, .max_batch = 1}, backend());
            std::vector<std::string> learned;
            for (const LayerSpec& layer : model->schema().layers())
                if (layer.tensors.front().name == "weight_range")
                    learned.push_back(layer.name);
            return learned;
        };
        CHECK(layers_of("fc1") == std::vector<std::string>{"fc1_range"});
        CHECK(layers_of("conv[56]") == std::vector<std::string>{"conv5_range", "conv6_range"});
        CHECK(layers_of("*").size() == 10);
        QuantizeOptions norms;
        norms.layers = {{.match = "bn*", .settings = {{"optimizer_bits", "8"}}}};
        ModelOptions resnet;
        resnet.name = "resnet8";
        CHECK(make_model(resnet, norms, {.sample = {1, 8, 8, 3}, .outputs = 10, .max_batch = 1}, backend()) != nullptr);
        CHECK_THROWS_WITH_AS(
            layers_of("cnov*"),
            doctest::Contains("quantize.layers[0].match: \"cnov*\" matches none of the layers conv1, "), InputError);
    }
}

}  // namespace
}  // namespace dither
