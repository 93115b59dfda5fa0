#include "core/layers/weighted.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "tests/unit/gradient_check.hpp"

#include <doctest/doctest.h>

#include <cmath>

namespace dither {
namespace {

using testing::random_tensor;

constexpr ConvGeometry kGeometry{.in_height = 6, .in_width = 5, .in_channels = 3, .out_channels = 4, .padding = 1};
constexpr std::int64_t kBatch = 3;

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

/// A conv2d layer with its parameters, one batch and everything that a pass over it gives.
struct Fixture {
    explicit Fixture(const QuantizeOptions& options = {}) : layer(make_conv2d(kGeometry, options, backend(), kBatch)) {
        layer->attach(0, parameters.values(), gradients.values());
    }

    void run(const Pass& pass) {
        layer->forward(x, y, pass);
        layer->backward(x, y, dy, &dx, pass);
    }
    std::span<float> weights() { return parameters.values().first(108); }
    std::span<float> bias() { return parameters.values().subspan(108); }
    LayerStatistics report() const {
        LayerStatistics statistics;
        layer->report(statistics);
        return statistics;
    }

    Tensor parameters = random_tensor({112}, 1);
    Tensor gradients{{112}};
    Tensor x = random_tensor({kBatch, 6, 5, 3}, 2);
    Tensor dy = random_tensor({kBatch, 6, 5, 4}, 3);
    Tensor y;
    Tensor dx;
    std::unique_ptr<Layer> layer;
};

constexpr QuantLayout kWeightLayout{.rows = 27, .columns = 4, .samples = 1};
constexpr QuantLayout kInputLayout{.rows = kBatch * 30, .columns = 3, .samples = kBatch};
constexpr QuantLayout kOutputLayout{.rows = kBatch * 30, .columns = 4, .samples = kBatch};

std::vector<float> quantized(const QuantizerOptions& options, std::span<const float> x, const QuantLayout& layout,
                             int bits, const StreamKey& key = {}) {
    std::vector<float> out(x.size());
    Quantizer(options).apply(x, out, layout, bits, key);
    return out;
}

class ShiftNoise final : public Noise {
public:
    void perturb(std::span<const float> w, std::span<float> out, const StreamKey&) const override {
        std::ranges::transform(w, out.begin(), [](float value) { return value + 1; });
    }
};

TEST_SUITE("core/layers/weighted") {
    TEST_CASE("the gradients of linear and conv2d agree with central differences") {
        const auto linear = make_linear(7, 5, {}, backend(), kBatch);
        const auto conv = make_conv2d(kGeometry, {}, backend(), kBatch);
        for (const auto& [layer, input] :
             {std::pair{linear.get(), Shape{kBatch, 7}}, std::pair{conv.get(), Shape{kBatch, 6, 5, 3}}}) {
            CAPTURE(layer->kind());
            const auto errors = testing::check_layer(*layer, random_tensor(input, 4), 0.5F);
            CHECK(errors.input < 1e-5);
            CHECK(errors.parameters < 1e-5);
        }
    }

    TEST_CASE("a linear layer takes images as flat features and gives their gradient in their shape") {
        const auto layer = make_linear(12, 2, {}, backend(), kBatch);
        const Tensor x = random_tensor({2, 2, 2, 3}, 5);
        Tensor parameters = random_tensor({26}, 6);
        Tensor gradients({26});
        layer->attach(0, parameters.values(), gradients.values());
        Tensor y;
        layer->forward(x, y, {});
        CHECK(y.shape() == Shape({2, 2}));
        Tensor dx;
        layer->backward(x, y, y, &dx, {});
        CHECK(dx.shape() == x.shape());
    }

    TEST_CASE("a quantized forward pass is the product of the quantized operands, with the bias in fp32") {
        const QuantizeOptions options;
        for (const int bits : {2, 4, 8}) {
            CAPTURE(bits);
            Fixture f;
            const PrecisionPlan plan = plan_of(bits, 32);
            f.layer->forward(f.x, f.y, {.plan = &plan, .training = true});
            const auto x = quantized(options.activations, f.x.values(), kInputLayout, bits);
            const auto w = quantized(options.weights, f.weights(), kWeightLayout, bits);
            Tensor expected(f.y.shape());
            backend().convolution(kGeometry, kBatch)->forward(kBatch, x, w, f.bias(), expected.values());
            CHECK(std::ranges::equal(f.y.values(), expected.values()));
        }
    }

    TEST_CASE("every operand of a backward product has the backward bits where these are fewer") {
        const QuantizeOptions options;
        for (const auto& [forward, backward] : {std::pair{8, 8}, {8, 4}, {4, 8}, {32, 8}}) {
            CAPTURE(forward);
            CAPTURE(backward);
            Fixture f;
            const PrecisionPlan plan = plan_of(forward, backward);
            const Pass pass{.plan = &plan, .key = {.seed = 3, .step = 9}, .training = true};
            f.run(pass);

            auto x = quantized(options.activations, f.x.values(), kInputLayout, forward);
            auto w = quantized(options.weights, f.weights(), kWeightLayout, forward);
            if (backward < forward) {
                QuantizerOptions exact = options.activations;
                exact.observer = Observer::minmax;
                x = quantized(exact, x, kInputLayout, backward);
                w = quantized(options.weights, w, kWeightLayout, backward);
            }
            const auto g = quantized(options.gradients, f.dy.values(), kOutputLayout, backward,
                                     pass.key.with(Purpose::gradient_rounding, 0));
            const auto product = backend().convolution(kGeometry, kBatch);
            Tensor dx(f.x.shape());
            std::vector<float> dw(108);
            product->backward_input(kBatch, g, w, dx.values());
            product->backward_weights(kBatch, x, g, dw);
            CHECK(std::ranges::equal(f.gradients.values().first(108), dw));
            CHECK(std::ranges::equal(f.dx.values(), dx.values()));
            double bias_gradient = 0;
            for (std::size_t i = 0; i < g.size(); i += 4)
                bias_gradient += g[i];
            CHECK(f.gradients.values()[108] == doctest::Approx(bias_gradient));
        }
    }

    TEST_CASE("an activation outside the learnt range gets no gradient, the others do") {
        Fixture f;
        const PrecisionPlan plan = plan_of(8, 32);
        const Pass pass{.plan = &plan, .training = true};
        f.run(pass);
        f.x.data()[7] = 100;  // far beyond the moving average
        f.run(pass);
        CHECK(f.dx.data()[7] == 0);
        CHECK(std::ranges::count(f.dx.values(), 0.0F) < 10);
        CHECK(f.report().saturation > 0);
    }

    TEST_CASE("noise perturbs weights and bias in training only") {
        const ShiftNoise noise;
        Fixture clean;
        for (float& value : clean.parameters.values())
            value += 1;
        clean.run({});
        Fixture noisy;
        noisy.run({.noise = &noise, .training = true});
        CHECK(std::ranges::equal(noisy.y.values(), clean.y.values()));
        CHECK(std::ranges::equal(noisy.dx.values(), clean.dx.values()));

        Fixture still;
        still.run({});
        noisy.run({.noise = &noise, .training = false});
        CHECK(std::ranges::equal(noisy.y.values(), still.y.values()));
    }

    TEST_CASE("the same key gives the same bits and another step other rounding") {
        const PrecisionPlan plan = plan_of(8, 4);
        Pass pass{.plan = &plan, .key = {.seed = 1, .step = 1}, .training = true};
        Fixture first;
        Fixture second;
        first.run(pass);
        second.run(pass);
        CHECK(std::ranges::equal(first.gradients.values(), second.gradients.values()));
        Fixture other;
        pass.key.step = 2;
        other.run(pass);
        CHECK_FALSE(std::ranges::equal(first.gradients.values(), other.gradients.values()));
    }

    TEST_CASE("reset forgets ranges and statistics: the next client starts as the first did") {
        const PrecisionPlan plan = plan_of(4, 4);
        const Pass pass{.plan = &plan, .training = true, .measure = true};
        Fixture fresh;
        fresh.run(pass);
        Fixture used;
        for (float& value : used.x.values())
            value *= 3;
        used.run(pass);
        used.layer->reset();
        used.x = fresh.x;
        used.run(pass);
        CHECK(std::ranges::equal(used.y.values(), fresh.y.values()));
        CHECK(used.report() == fresh.report());
    }

    TEST_CASE("evaluation teaches the observer nothing") {
        const PrecisionPlan plan = plan_of(8, 8);
        Fixture f;
        f.layer->forward(f.x, f.y, {.plan = &plan, .training = true});
        const Tensor before = f.y;
        Tensor large = f.x;
        for (float& value : large.values())
            value *= 10;
        Tensor ignored;
        f.layer->forward(large, ignored, {.plan = &plan});
        f.layer->forward(f.x, f.y, {.plan = &plan});
        CHECK(std::ranges::equal(f.y.values(), before.values()));
    }

    TEST_CASE("each bit more in the weights is about 6 dB of signal to noise") {
        double last = 0;
        for (const int bits : {4, 6, 8}) {
            Fixture f;
            const PrecisionPlan plan = plan_of(bits, 32);
            f.run({.plan = &plan, .training = true});
            const double snr = -20 * std::log10(f.report().forward_error);
            if (last > 0)
                CHECK(std::fabs(snr - last - 12) < 3);
            last = snr;
        }
    }

    TEST_CASE("the error of 4-bit gradients is measured when asked, whatever the plan, and changes no result") {
        Fixture plain;
        Fixture measured;
        plain.run({.training = true});
        measured.run({.training = true, .measure = true});
        CHECK(plain.report().backward_error == kNotMeasured);
        // Stochastic rounding of standard normal values at a step of max / 7: about 0.15 of their norm.
        CHECK(measured.report().backward_error > 0.05);
        CHECK(measured.report().backward_error < 0.3);
        CHECK(std::ranges::equal(plain.gradients.values(), measured.gradients.values()));
    }

    TEST_CASE("an fp32 layer reports neither saturation nor signal to noise") {
        Fixture f;
        f.run({.training = true});
        CHECK(f.report() == LayerStatistics{});
    }

    TEST_CASE("a batch beyond the planned one or of another item is refused") {
        Fixture f;
        CHECK_THROWS_AS(f.layer->forward(Tensor({kBatch + 1, 6, 5, 3}), f.y, {}), PreconditionError);
        CHECK_THROWS_AS(f.layer->forward(Tensor({kBatch, 6, 6, 3}), f.y, {}), PreconditionError);
        CHECK_THROWS_AS(f.layer->attach(0, f.weights(), f.weights()), PreconditionError);
    }
}

}  // namespace
}  // namespace dither
