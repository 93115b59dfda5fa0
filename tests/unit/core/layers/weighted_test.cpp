#include "core/layers/weighted.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/layers/activation.hpp"
#include "core/layers/pool.hpp"
#include "tests/unit/gradient_check.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <utility>

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

/// The products of kGeometry on float operands, a whole batch at a time.
struct Products {
    explicit Products(const Backend& backend) : product(backend.convolution(kGeometry, kBatch)) {}

    void forward(std::span<const float> x, std::span<const float> w, std::span<float> y) {
        product->pack_forward(w);
        product->forward(kBatch, x, y);
    }
    void backward(std::span<const float> x, std::span<const float> w, std::span<const float> dy, std::span<float> dx,
                  std::span<float> dw) {
        product->pack_backward(w);
        product->backward_input(kBatch, dy, dx);
        product->add_weight_gradient(kBatch, x, dy, dw);
    }

    std::unique_ptr<Product> product;
};

/// max |a - b| / max |b|
double farthest(std::span<const float> a, std::span<const float> b) {
    double largest = 1e-30;
    double worst = a.size() == b.size() ? 0 : INFINITY;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
        largest = std::max(largest, std::abs(static_cast<double>(b[i])));
        worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
    }
    return worst / largest;
}

/// A conv2d layer (or a linear one on the same values) with its parameters, one batch and everything that a pass over
/// it gives.
struct Fixture {
    explicit Fixture(const QuantizeOptions& options = {}, bool linear = false, std::int64_t height = 6,
                     std::int64_t width = 5)
        : x(random_tensor({kBatch, height, width, 3}, 2)) {
        ConvGeometry geometry = kGeometry;
        geometry.in_height = height;
        geometry.in_width = width;
        layer = linear ? make_linear(height * width * 3, 4, true, options, backend(), kBatch)
                       : make_conv2d(geometry, true, options, backend(), kBatch);
        dy = random_tensor(layer->output_shape().with_batch(kBatch), 3);
        const std::int64_t count = layer->parameters()[0].shape.count() + 4;
        parameters = random_tensor({count}, 1);
        gradients = Tensor({count});
        layer->attach(0, parameters.values(), gradients.values());
    }

    void run(const Pass& pass) {
        y = layer->forward(x.share(), pass);
        dx = layer->backward(dy.share(), pass, true);
    }
    std::span<float> weights() { return parameters.values().first(108); }
    std::span<float> bias() { return parameters.values().subspan(108); }
    LayerStatistics report() const {
        LayerStatistics statistics;
        layer->report(statistics);
        return statistics;
    }

    Tensor parameters;
    Tensor gradients;
    Tensor x;
    Tensor dy;
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
    void perturb(std::span<const float> w, const NoiseSite&, std::span<float> out, const StreamKey&) const override {
        std::ranges::transform(w, out.begin(), [](float value) { return value + 1; });
    }
};

TEST_SUITE("core/layers/weighted") {
    TEST_CASE("the gradients of linear and conv2d agree with central differences") {
        const auto linear = make_linear(7, 5, true, {}, backend(), kBatch);
        const auto conv = make_conv2d(kGeometry, true, {}, backend(), kBatch);
        for (const auto& [layer, input] :
             {std::pair{linear.get(), Shape{kBatch, 7}}, std::pair{conv.get(), Shape{kBatch, 6, 5, 3}}}) {
            CAPTURE(layer->kind());
            const auto errors = testing::check_layer(*layer, random_tensor(input, 4), 0.5F);
            CHECK(errors.input < 1e-5);
            CHECK(errors.parameters < 1e-5);
        }
    }

    TEST_CASE("a linear layer takes images as flat features and gives their gradient in their shape") {
        const auto layer = make_linear(12, 2, true, {}, backend(), kBatch);
        const Tensor x = random_tensor({2, 2, 2, 3}, 5);
        Tensor parameters = random_tensor({26}, 6);
        Tensor gradients({26});
        layer->attach(0, parameters.values(), gradients.values());
        const Tensor y = layer->forward(x.share(), {});
        CHECK(y.shape() == Shape({2, 2}));
        const Tensor dx = layer->backward(y.share(), {}, true);
        CHECK(dx.shape() == x.shape());
    }

    TEST_CASE("a simulated forward pass is the product of the rounded operands, with the bias in fp32") {
        const QuantizeOptions options{.execution = Execution::simulated};
        for (const int bits : {2, 4, 8, 12}) {
            CAPTURE(bits);
            Fixture f(options);
            const PrecisionPlan plan = plan_of(bits, 32);
            f.y = f.layer->forward(f.x.share(), {.plan = &plan, .training = true});
            const auto x = quantized(options.activations, f.x.values(), kInputLayout, bits);
            const auto w = quantized(options.weights, f.weights(), kWeightLayout, bits);
            Tensor expected(f.y.shape());
            Products(backend()).forward(x, w, expected.values());
            for (std::size_t i = 0; i < expected.values().size(); ++i)
                CHECK(f.y.values()[i] == expected.values()[i] + f.bias()[i % 4]);
        }
    }

    TEST_CASE("floating-point formats multiply in fp32 on the rounded operands, even where integers would not") {
        struct Case {
            int bits;
            Format16 format16;
            Format8 format8;
        };
        for (const Case& c : {Case{16, Format16::bf16, Format8::int8}, Case{16, Format16::fp16, Format8::int8},
                              Case{8, Format16::bf16, Format8::e4m3}, Case{8, Format16::bf16, Format8::e5m2}}) {
            QuantizeOptions options;
            for (QuantizerOptions* q : {&options.weights, &options.activations, &options.gradients}) {
                q->format16 = c.format16;
                q->format8 = c.format8;
            }
            Fixture f(options);
            const PrecisionPlan plan = plan_of(c.bits, c.bits);
            const Pass pass{.plan = &plan, .key = {.seed = 3, .step = 9}, .training = true};
            f.run(pass);
            const auto x = quantized(options.activations, f.x.values(), kInputLayout, c.bits);
            const auto w = quantized(options.weights, f.weights(), kWeightLayout, c.bits);
            const auto g = quantized(options.gradients, f.dy.values(), kOutputLayout, c.bits,
                                     pass.key.with(Purpose::gradient_rounding, 0));
            Tensor y(f.y.shape());
            Products(backend()).forward(x, w, y.values());
            for (std::size_t i = 0; i < y.values().size(); ++i)
                CHECK(f.y.values()[i] == y.values()[i] + f.bias()[i % 4]);
            Tensor dx(f.x.shape());
            std::vector<float> dw(108);
            Products(backend()).backward(x, w, g, dx.values(), dw);
            CHECK(farthest(f.gradients.values().first(108), dw) < 1e-6);
            CHECK(farthest(f.dx.values(), dx.values()) < 1e-6);
        }
    }

    TEST_CASE("integers of the backward pass follow an 8-bit floating-point forward pass") {
        std::vector<std::vector<float>> results;
        for (const Execution execution : {Execution::integer, Execution::simulated}) {
            QuantizeOptions options{.execution = execution};
            for (QuantizerOptions* q : {&options.weights, &options.activations, &options.gradients})
                q->format8 = Format8::e4m3;
            Fixture f(options);
            const PrecisionPlan plan = plan_of(8, 4);
            f.run({.plan = &plan, .key = {.seed = 3, .step = 9}, .training = true});
            results.emplace_back(f.gradients.values().begin(), f.gradients.values().end());
        }
        CHECK(farthest(results[0], results[1]) < 1e-5);
    }

    TEST_CASE("every operand of a backward product has the backward bits where these are fewer") {
        const QuantizeOptions options{.execution = Execution::simulated};
        for (const auto& [forward, backward] : {std::pair{8, 8}, {8, 4}, {4, 8}, {32, 8}}) {
            CAPTURE(forward);
            CAPTURE(backward);
            Fixture f(options);
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
            // The scales of the weights' output channels are inside the quantizer of the gradient.
            std::vector<float> unit(4);
            for (std::size_t c = 0; c < 4; ++c) {
                float largest = 0;
                for (std::size_t i = c; i < w.size(); i += 4)
                    largest = std::max(largest, std::abs(w[i]));
                unit[c] = choose_scale(-largest, largest, std::min(forward, backward), Symmetry::symmetric).scale;
            }
            std::vector<float> scaled(f.dy.values().begin(), f.dy.values().end());
            for (std::size_t i = 0; i < scaled.size(); ++i)
                scaled[i] *= unit[i % 4];
            auto g = quantized(options.gradients, scaled, kOutputLayout, backward,
                               pass.key.with(Purpose::gradient_rounding, 0));
            for (std::size_t i = 0; i < g.size(); ++i)
                g[i] /= unit[i % 4];
            Tensor dx(f.x.shape());
            std::vector<float> dw(108);
            Products(backend()).backward(x, w, g, dx.values(), dw);
            CHECK(farthest(f.gradients.values().first(108), dw) < 1e-5);
            CHECK(farthest(f.dx.values(), dx.values()) < 1e-5);
            double bias_gradient = 0;
            for (std::size_t i = 0; i < g.size(); i += 4)
                bias_gradient += g[i];
            CHECK(f.gradients.values()[108] == doctest::Approx(bias_gradient));
        }
    }

    TEST_CASE("integer units agree with the simulation of every plan, within the rounding of fp32 sums") {
        QuantizeOptions per_tensor;
        per_tensor.weights.granularity = Granularity::per_tensor;
        per_tensor.activations = {.symmetry = Symmetry::symmetric};
        per_tensor.gradients.granularity = Granularity::per_tensor;
        QuantizeOptions per_sample;
        per_sample.activations.granularity = Granularity::per_sample;
        QuantizeOptions per_sample_symmetric = per_sample;
        per_sample_symmetric.activations.symmetry = Symmetry::symmetric;
        for (QuantizeOptions options : {QuantizeOptions{}, per_tensor, per_sample, per_sample_symmetric})
            for (const bool linear : {false, true})
                for (const auto& [forward, backward] :
                     {std::pair{8, 8}, {8, 4}, {4, 8}, {4, 4}, {3, 2}, {32, 8}, {8, 32}, {8, 12}}) {
                    CAPTURE(scheme_name(options.activations));
                    CAPTURE(linear);
                    CAPTURE(forward);
                    CAPTURE(backward);
                    const PrecisionPlan plan = plan_of(forward, backward);
                    const Pass pass{.plan = &plan, .key = {.seed = 3, .step = 9}, .training = true};
                    options.execution = Execution::simulated;
                    Fixture simulated(options, linear);
                    options.execution = Execution::integer;
                    Fixture integer(options, linear);
                    for (int step = 0; step < 2; ++step) {  // the second one clips: its range is a moving average
                        for (Fixture* f : {&simulated, &integer}) {
                            f->x.data()[11] = 3.0F + 4.0F * static_cast<float>(step);
                            f->run(pass);
                        }
                        CHECK(farthest(simulated.y.values(), integer.y.values()) < 2e-6);
                        CHECK(farthest(simulated.dx.values(), integer.dx.values()) < 2e-6);
                        CHECK(farthest(simulated.gradients.values(), integer.gradients.values()) < 2e-6);
                    }
                }
    }

    TEST_CASE("16-bit convolutions agree with their simulation, on bfloat16 units where there are any") {
        constexpr ConvGeometry kWide{.in_height = 6, .in_width = 5, .in_channels = 16, .out_channels = 8, .padding = 1};
        constexpr std::int64_t kWeights = std::int64_t{9} * 16 * 8;
        for (const auto& [forward, backward] :
             {std::pair{16, 16}, {32, 16}, {16, 32}, {16, 8}, {8, 16}, {16, 12}, {12, 16}}) {
            CAPTURE(forward);
            CAPTURE(backward);
            const PrecisionPlan plan = plan_of(forward, backward);
            const Pass pass{.plan = &plan, .key = {.seed = 3, .step = 9}, .training = true};
            std::vector<std::vector<float>> results;
            for (const Execution execution : {Execution::simulated, Execution::integer}) {
                const auto layer = make_conv2d(kWide, true, {.execution = execution}, backend(), kBatch);
                Tensor parameters = random_tensor({kWeights + 8}, 1);
                Tensor gradient({kWeights + 8});
                layer->attach(0, parameters.values(), gradient.values());
                const Tensor y = layer->forward(random_tensor({kBatch, 6, 5, 16}, 2), pass);
                const Tensor dx = layer->backward(random_tensor({kBatch, 6, 5, 8}, 3), pass, true);
                for (const Tensor* values : {&y, &dx, &std::as_const(gradient)})
                    results.emplace_back(values->values().begin(), values->values().end());
            }
            for (std::size_t i = 0; i < 3; ++i)
                CHECK(farthest(results[i + 3], results[i]) < 1e-5);
        }
    }

    TEST_CASE("a batch of any size sums exactly, with the largest codes and the widest spread of scales") {
        constexpr std::int64_t kLargeBatch = 600;  // 259 items could fill 32 bits
        const PrecisionPlan plan = plan_of(8, 8);
        const Pass pass{.plan = &plan, .key = {.seed = 3, .step = 9}, .training = true};
        Tensor x({kLargeBatch, 2});
        Tensor dy({kLargeBatch, 2});
        std::ranges::fill(x.values(), 1.0F);
        std::ranges::fill(dy.values(), 1.0F);
        dy.item(0)[0] = dy.item(0)[1] = 1.0F / 300;
        std::vector<std::vector<float>> gradients;
        for (const Execution execution : {Execution::simulated, Execution::integer}) {
            const auto layer = make_linear(2, 2, true, {.execution = execution}, backend(), kLargeBatch);
            Tensor parameters = random_tensor({6}, 1);
            Tensor gradient({6});
            layer->attach(0, parameters.values(), gradient.values());
            layer->forward(x.share(), pass);
            layer->backward(dy.share(), pass, true);
            gradients.emplace_back(gradient.values().begin(), gradient.values().end());
        }
        CHECK(gradients[0][0] == doctest::Approx(599).epsilon(0.01));
        CHECK(farthest(gradients[1], gradients[0]) < 1e-5);
    }

    TEST_CASE("a layer whose sums could leave 32 bits is simulated") {
        const PrecisionPlan plan = plan_of(8, 8);
        const Pass pass{.plan = &plan, .training = true};
        const auto layer = make_linear(70'000, 2, true, {}, backend(), 1);
        Tensor parameters = random_tensor({140'002}, 1);
        Tensor gradient({140'002});
        layer->attach(0, parameters.values(), gradient.values());
        const Tensor y = layer->forward(random_tensor({1, 70'000}, 2), pass);
        CHECK(layer->backward(y.share(), pass, true).count() == 70'000);
    }

    TEST_CASE("a pool and a ReLU that the layer took over change no value, in fp32 and on integers") {
        for (const int bits : {32, 8}) {
            CAPTURE(bits);
            const PrecisionPlan plan = plan_of(bits, bits);
            const Pass pass{.plan = &plan, .key = {.seed = 3, .step = 9}, .training = true};
            Fixture whole({}, false, 6, 4);
            REQUIRE(whole.layer->absorb(Tail::max_pool));
            REQUIRE(whole.layer->absorb(Tail::relu));
            CHECK_FALSE(whole.layer->absorb(Tail::relu));
            CHECK(whole.layer->output_shape() == Shape({1, 3, 2, 4}));
            Fixture apart({}, false, 6, 4);
            const auto pool = make_max_pool(apart.layer->output_shape());
            const auto relu = make_relu(pool->output_shape());
            whole.y = whole.layer->forward(whole.x.share(), pass);
            Tensor expected = apart.layer->forward(apart.x.share(), pass);
            expected = relu->forward(pool->forward(std::move(expected), pass), pass);
            CHECK(std::ranges::equal(whole.y.values(), expected.values()));

            const Tensor dy = random_tensor(expected.shape(), 8);
            whole.dx = whole.layer->backward(dy.share(), pass, true);
            Tensor g = pool->backward(relu->backward(dy.share(), pass, true), pass, true);
            if (bits == 32) {
                apart.dx = apart.layer->backward(std::move(g), pass, true);
                CHECK(farthest(whole.dx.values(), apart.dx.values()) < 1e-6);
                CHECK(farthest(whole.gradients.values(), apart.gradients.values()) < 1e-6);
            }
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
        noisy.run({.noise = {.weights = &noise}, .training = true});
        CHECK(std::ranges::equal(noisy.y.values(), clean.y.values()));
        CHECK(std::ranges::equal(noisy.dx.values(), clean.dx.values()));

        Fixture still;
        still.run({});
        noisy.run({.noise = {.weights = &noise}, .training = false});
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
        const Tensor before = f.layer->forward(f.x.share(), {.plan = &plan, .training = true});
        Tensor large = f.x;
        for (float& value : large.values())
            value *= 10;
        f.layer->forward(large.share(), {.plan = &plan});
        f.y = f.layer->forward(f.x.share(), {.plan = &plan});
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
        CHECK_THROWS_AS(f.layer->forward(Tensor({kBatch + 1, 6, 5, 3}), {}), PreconditionError);
        CHECK_THROWS_AS(f.layer->forward(Tensor({kBatch, 6, 6, 3}), {}), PreconditionError);
        CHECK_THROWS_AS(f.layer->attach(0, f.weights(), f.weights()), PreconditionError);
    }
}

}  // namespace
}  // namespace dither
