#include "core/precision/curvature.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/layers/activation.hpp"
#include "core/layers/norm.hpp"
#include "core/layers/weighted.hpp"
#include "core/precision/probe.hpp"

#include <doctest/doctest.h>
#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <tuple>
#include <vector>

using namespace dither;

namespace {

constexpr int kSamples = 24;
constexpr int kInputs = 5;
constexpr int kOutputs = 3;
const StreamKey kKey{.seed = 11, .client = 4, .round = 9};

std::unique_ptr<Model> build(const ModelOptions& options, const Shape& sample) {
    static const auto backend = make_backend({});
    auto model = make_model(options, {}, {.sample = sample, .outputs = kOutputs, .max_batch = kSamples}, *backend);
    model->initialize(2);
    return model;
}

std::unique_ptr<Model> model_of(const char* name) {
    return build({.name = name, .hidden = {6}}, {1, kInputs});
}

/// Two convolutions with all that may follow one: 4x4 images.
std::unique_ptr<Model> convolutions() {
    return build({.name = "layers",
                  .layers = {{.kind = "conv2d", .channels = 3, .kernel = 3, .stride = 1, .padding = 1, .groups = 1},
                             {.kind = "relu"},
                             {.kind = "dropout", .rate = 0.3},
                             {.kind = "conv2d", .channels = 2, .kernel = 3, .stride = 1, .padding = 1, .groups = 1},
                             {.kind = "max_pool", .kernel = 2, .stride = 2},
                             {.kind = "relu6"},
                             {.kind = "linear"}}},
                 {1, 4, 4, 2});
}

struct Passes {
    int recorded = 0;
    int held = 0;
    int backward = 0;
};

/// Hands its values through and counts the passes.
class Counter final : public Layer {
public:
    Counter(const Shape& shape, Passes& passes) : shape_(shape), passes_(passes) {}

    std::string_view kind() const override { return "counter"; }
    Shape output_shape() const override { return shape_; }
    Tensor forward(Tensor x, const Pass& pass) override {
        ++(pass.branches == Branches::record ? passes_.recorded : passes_.held);
        return x;
    }
    Affinity affinity() const override { return {.input = true}; }
    Tensor backward(Tensor dy, const Pass&, bool) override {
        ++passes_.backward;
        return dy;
    }

private:
    Shape shape_;
    Passes& passes_;
};

Batch random_batch() {
    Batch batch;
    batch.inputs.resize({kSamples, kInputs});
    batch.targets.values.resize({kSamples, kOutputs});
    Stream stream({.seed = 21});
    stream.fill_normal(batch.inputs.values());
    stream.fill_normal(batch.targets.values.values());
    for (std::size_t i = 0; i < batch.inputs.values().size(); i += kInputs)
        batch.inputs.values()[i] *= 3;  // one direction stands out, so that power iteration converges
    return batch;
}

/// Mean squared error of x W + b over n samples and o outputs: H = 2 / (n o) [x 1]^T [x 1] for each output alone.
Eigen::MatrixXd exact_hessian(const Batch& batch) {
    Eigen::MatrixXd x(kSamples, kInputs + 1);
    for (int n = 0; n < kSamples; ++n) {
        for (int k = 0; k < kInputs; ++k)
            x(n, k) = static_cast<double>(batch.inputs.values()[static_cast<std::size_t>(n * kInputs + k)]);
        x(n, kInputs) = 1;
    }
    const Eigen::MatrixXd block = 2.0 / (kSamples * kOutputs) * x.transpose() * x;
    Eigen::MatrixXd hessian = Eigen::MatrixXd::Zero((kInputs + 1) * kOutputs, (kInputs + 1) * kOutputs);
    for (int i = 0; i <= kInputs; ++i)  // weight [in, out], then bias [out]
        for (int j = 0; j <= kInputs; ++j)
            for (int c = 0; c < kOutputs; ++c)
                hessian(i * kOutputs + c, j * kOutputs + c) = block(i, j);
    return hessian;
}

Batch labelled(const Shape& item) {
    Batch batch;
    batch.inputs.resize(item.with_batch(kSamples));
    Stream({.seed = 22}).fill_normal(batch.inputs.values());
    for (int i = 0; i < kSamples; ++i)
        batch.targets.labels.push_back(i % kOutputs);
    return batch;
}

/// The mlp's loss in doubles, from its parameters alone, its hidden units held as they are at `origin`.
class Reference {
public:
    static constexpr int kHidden = 6;

    Reference(std::span<const float> origin, const Batch& batch, double label_smoothing)
        : origin_(origin.begin(), origin.end()), batch_(batch), smoothing_(label_smoothing) {}

    /// The Hessian's block of the parameters first .. first + count - 1, by central differences of the loss.
    Eigen::MatrixXd hessian(std::size_t first, std::size_t count) const {
        const auto size = static_cast<Eigen::Index>(count);
        Eigen::MatrixXd block(size, size);
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t j = 0; j <= i; ++j) {
                const double value = (shifted(first + i, first + j, 1, 1) - shifted(first + i, first + j, 1, -1) -
                                      shifted(first + i, first + j, -1, 1) + shifted(first + i, first + j, -1, -1)) /
                                     (4 * kStep * kStep);
                block(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) = value;
                block(static_cast<Eigen::Index>(j), static_cast<Eigen::Index>(i)) = value;
            }
        return block;
    }

private:
    static constexpr double kStep = 1e-3;

    double shifted(std::size_t i, std::size_t j, double a, double b) const {
        std::vector<double> theta = origin_;
        theta[i] += a * kStep;
        theta[j] += b * kStep;
        double sum = 0;
        for (int n = 0; n < kSamples; ++n)
            sum += loss_of(theta, n);
        return sum / kSamples;
    }

    /// x W + b, W [inputs, outputs] row after row and b behind it.
    static std::vector<double> linear(const double* theta, std::span<const double> x, std::size_t outputs) {
        std::vector<double> y(theta + x.size() * outputs, theta + (x.size() + 1) * outputs);
        for (std::size_t k = 0; k < x.size(); ++k)
            for (std::size_t o = 0; o < outputs; ++o)
                y[o] += x[k] * theta[k * outputs + o];
        return y;
    }

    double loss_of(const std::vector<double>& theta, int sample) const {
        const float* values = batch_.inputs.data() + sample * kInputs;
        const std::vector<double> x(values, values + kInputs);
        std::vector<double> hidden = linear(theta.data(), x, kHidden);
        const std::vector<double> sign = linear(origin_.data(), x, kHidden);
        for (std::size_t k = 0; k < kHidden; ++k)
            hidden[k] = sign[k] > 0 ? hidden[k] : 0;
        return loss_at(linear(theta.data() + (kInputs + 1) * kHidden, hidden, kOutputs), sample);
    }

    double loss_at(std::span<const double> z, int sample) const {
        const auto at = static_cast<std::size_t>(sample);
        double sum = 0;
        if (batch_.targets.labels.empty()) {
            for (std::size_t k = 0; k < kOutputs; ++k)
                sum += std::pow(z[k] - static_cast<double>(batch_.targets.values.values()[at * kOutputs + k]), 2);
            return sum / kOutputs;
        }
        double expected = 0;
        for (std::size_t k = 0; k < kOutputs; ++k) {
            const bool right = static_cast<std::size_t>(batch_.targets.labels[at]) == k;
            expected += ((right ? 1 - smoothing_ : 0) + smoothing_ / kOutputs) * z[k];
            sum += std::exp(z[k]);
        }
        return std::log(sum) - expected;
    }

    std::vector<double> origin_;
    const Batch& batch_;
    double smoothing_;
};

Eigen::VectorXd to_eigen(const std::vector<float>& values) {
    return Eigen::Map<const Eigen::VectorXf>(values.data(), static_cast<Eigen::Index>(values.size())).cast<double>();
}

double spectral_norm(std::span<const float> values, Eigen::Index rows, Eigen::Index columns) {
    using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Eigen::MatrixXd w = Eigen::Map<const RowMajor>(values.data(), rows, columns).cast<double>();
    return w.jacobiSvd().singularValues()(0);
}

LayerSpec layer_of(const Shape& weight) {
    LayerSpec layer;
    layer.name = "layer1";
    layer.offset = 100;  // as of a later layer: its tensors lie relative to it
    layer.tensors = {{.name = "bias", .shape = {weight[weight.rank() - 1]}, .offset = 100}};
    layer.tensors.push_back(
        {.name = "weight", .shape = weight, .offset = 100 + static_cast<std::size_t>(weight[weight.rank() - 1])});
    layer.count = static_cast<std::size_t>(weight.count() + weight[weight.rank() - 1]);
    return layer;
}

}  // namespace

TEST_SUITE("core/precision/curvature") {
    TEST_CASE("Hessian products of a linear regression are exact") {
        const auto model = model_of("linear");
        const auto loss = make_loss("mse");
        const Batch batch = random_batch();
        const Eigen::MatrixXd hessian = exact_hessian(batch);
        CurvatureProbe probe;
        for (std::uint32_t seed = 0; seed < 5; ++seed) {
            std::vector<float> v(model->schema().parameters());
            Stream({.seed = seed}).fill_normal(v);
            std::vector<float> product(v.size());
            probe.hessian_product(*model, *loss, batch, 0, v, product);
            const Eigen::VectorXd expected = hessian * to_eigen(v);
            CHECK((to_eigen(product) - expected).norm() < 2e-3 * expected.norm());
        }
    }

    TEST_CASE("Hessian products of an mlp are those of its explicit Hessian, by either method and with either loss") {
        const auto model = model_of("mlp");
        const Batch regression = random_batch();
        const Batch classes = labelled({1, kInputs});
        const std::tuple<std::unique_ptr<Loss>, const Batch*, double> cases[] = {
            {make_loss("mse"), &regression, 0.0},
            {make_loss("cross_entropy"), &classes, 0.0},
            {make_loss("cross_entropy", 0.2), &classes, 0.2},
        };
        for (const auto& [loss, batch, smoothing] : cases)
            for (std::size_t layer = 0; layer < 2; ++layer) {
                CAPTURE(smoothing);
                CAPTURE(layer);
                REQUIRE(model->affine_in(layer));
                const LayerSpec& spec = model->schema().layers()[layer];
                const Eigen::MatrixXd hessian =
                    Reference(model->parameters(), *batch, smoothing).hessian(spec.offset, spec.count);
                std::vector<float> v(spec.count);
                std::vector<float> product(spec.count);
                Stream({.seed = 5}).fill_normal(v);
                const Eigen::VectorXd expected = hessian * to_eigen(v);
                CurvatureProbe(CurvatureMethod::exact).hessian_product(*model, *loss, *batch, layer, v, product);
                CHECK((to_eigen(product) - expected).norm() < 2e-6 * expected.norm());
                CurvatureProbe(CurvatureMethod::differences).hessian_product(*model, *loss, *batch, layer, v, product);
                CHECK((to_eigen(product) - expected).norm() < 5e-3 * expected.norm());
            }
    }

    TEST_CASE("both methods agree behind convolutions, pools and dropout, and on symmetric blocks") {
        const auto model = convolutions();
        const auto loss = make_loss("cross_entropy", 0.1);
        const Batch batch = labelled({1, 4, 4, 2});
        for (std::size_t layer = 0; layer < model->schema().layer_count(); ++layer) {
            CAPTURE(layer);
            REQUIRE(model->affine_in(layer));
            const std::size_t count = model->schema().layers()[layer].count;
            std::vector<float> u(count);
            std::vector<float> v(count);
            std::vector<float> exact_u(count);
            std::vector<float> exact_v(count);
            std::vector<float> differences(count);
            Stream stream({.seed = 6});
            stream.fill_normal(u);
            stream.fill_normal(v);
            CurvatureProbe probe;
            probe.hessian_product(*model, *loss, batch, layer, u, exact_u);
            probe.hessian_product(*model, *loss, batch, layer, v, exact_v);
            CurvatureProbe(CurvatureMethod::differences).hessian_product(*model, *loss, batch, layer, v, differences);
            CHECK(to_eigen(exact_v).norm() > 0);
            CHECK((to_eigen(exact_v) - to_eigen(differences)).norm() < 5e-3 * to_eigen(exact_v).norm());
            const double scale = to_eigen(exact_u).norm() * to_eigen(v).norm();
            CHECK(std::abs(to_eigen(exact_u).dot(to_eigen(v)) - to_eigen(exact_v).dot(to_eigen(u))) < 1e-5 * scale);
        }
    }

    TEST_CASE("where something behind a layer is not affine, its products are differences") {
        const std::vector<LayerOptions> hidden = {
            {.kind = "linear", .outputs = 4}, {.kind = "tanh"}, {.kind = "linear"}};
        const auto squashed = build({.name = "layers", .layers = hidden}, {1, kInputs});
        CHECK_FALSE(squashed->affine_in(0));
        CHECK(squashed->affine_in(1));
        for (const NormStatistics statistics :
             {NormStatistics::shared, NormStatistics::local, NormStatistics::frozen}) {
            const auto model =
                build({.name = "layers",
                       .norm_statistics = statistics,
                       .layers = {{.kind = "linear", .outputs = 4}, {.kind = "batch_norm"}, {.kind = "linear"}}},
                      {1, kInputs});
            CHECK(model->affine_in(0) == (statistics == NormStatistics::frozen));
            CHECK(model->affine_in(1));
            CHECK(model->affine_in(2));
        }
        const Batch batch = labelled({1, kInputs});
        std::vector<float> v(squashed->schema().layers()[0].count);
        std::vector<float> either(v.size());
        std::vector<float> differences(v.size());
        Stream({.seed = 7}).fill_normal(v);
        CurvatureProbe().hessian_product(*squashed, *make_loss("cross_entropy"), batch, 0, v, either);
        CurvatureProbe(CurvatureMethod::differences)
            .hessian_product(*squashed, *make_loss("cross_entropy"), batch, 0, v, differences);
        CHECK(either == differences);
    }

    TEST_CASE("what follows a layer is found through residual blocks, and frozen batch norm is affine") {
        const LayerOptions conv{.kind = "conv2d", .channels = 2, .kernel = 3, .stride = 1, .padding = 1, .groups = 1};
        const LayerOptions norm{.kind = "batch_norm"};
        const LayerOptions block{.kind = "residual", .body = {conv, norm}, .shortcut = {conv}};
        for (const NormStatistics statistics : {NormStatistics::shared, NormStatistics::frozen}) {
            const bool frozen = statistics == NormStatistics::frozen;
            CAPTURE(frozen);
            const auto model = build({.name = "layers",
                                      .norm_statistics = statistics,
                                      .layers = {conv, {.kind = "relu"}, block, {.kind = "relu"}, {.kind = "linear"}}},
                                     {1, 4, 4, 2});
            REQUIRE(model->schema().layer_count() == 5);
            CHECK(model->affine_in(0) == frozen);
            CHECK(model->affine_in(1) == frozen);  // the body's convolution, before its norm
            CHECK(model->affine_in(2));            // the norm itself
            CHECK(model->affine_in(3));            // the shortcut's convolution
            CHECK(model->affine_in(4));
            const auto loss = make_loss("cross_entropy");
            const Batch batch = labelled({1, 4, 4, 2});
            for (std::size_t layer = 0; layer < 5; ++layer) {
                CAPTURE(layer);
                std::vector<float> v(model->schema().layers()[layer].trained_count());
                std::vector<float> either(v.size());
                std::vector<float> differences(v.size());
                Stream({.seed = 8}).fill_normal(v);
                CurvatureProbe().hessian_product(*model, *loss, batch, layer, v, either);
                CurvatureProbe(CurvatureMethod::differences)
                    .hessian_product(*model, *loss, batch, layer, v, differences);
                CHECK((to_eigen(either) - to_eigen(differences)).norm() < 5e-3 * to_eigen(either).norm());
            }
        }
    }

    TEST_CASE("the norm of a block is its largest eigenvalue, and traces are right in the mean over many keys") {
        const auto model = model_of("mlp");
        const auto loss = make_loss("cross_entropy", 0.1);
        const Batch batch = labelled({1, kInputs});
        constexpr int kDraws = 400;
        double squares[2] = {};
        double sums[2] = {};
        CurvatureProbe probe;
        for (std::uint32_t round = 0; round < kDraws; ++round) {
            LayerStatistics statistics[2];
            StreamKey key = kKey;
            key.round = round;
            probe.measure(*model, *loss, batch, Probe::curvature, key, statistics);
            for (int layer = 0; layer < 2; ++layer) {
                const auto trace = static_cast<double>(statistics[layer].curvature_trace);
                CHECK(trace >= 0);
                sums[layer] += trace;
                squares[layer] += trace * trace;
            }
        }
        LayerStatistics statistics[2];
        probe.measure(*model, *loss, batch, Probe::curvature_norm | Probe::curvature, kKey, statistics);
        for (int layer = 0; layer < 2; ++layer) {
            const LayerSpec& spec = model->schema().layers()[static_cast<std::size_t>(layer)];
            const Eigen::MatrixXd hessian = Reference(model->parameters(), batch, 0.1).hessian(spec.offset, spec.count);
            const double largest = Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(hessian).eigenvalues().maxCoeff();
            CHECK(statistics[layer].curvature_norm == doctest::Approx(largest).epsilon(0.05));
            const double mean = sums[layer] / kDraws;
            const double deviation = std::sqrt((squares[layer] / kDraws - mean * mean) / kDraws);
            CHECK(std::abs(mean - hessian.trace()) < 4 * deviation);
            CHECK(deviation < 0.05 * mean);
        }
    }

    TEST_CASE("the curvature is the stretch of one random direction, the norm that of the worst one") {
        const auto model = model_of("linear");
        const auto loss = make_loss("mse");
        const Batch batch = random_batch();
        const Eigen::MatrixXd hessian = exact_hessian(batch);
        std::vector<float> v(model->schema().parameters());
        Stream(kKey.with(Purpose::curvature_probe, 0)).fill_rademacher(v);
        CurvatureProbe probe;
        LayerStatistics statistics;
        probe.measure(*model, *loss, batch, Probe::curvature, kKey, {&statistics, 1});
        const double stretch = (hessian * to_eigen(v)).norm() / to_eigen(v).norm();
        CHECK(statistics.curvature == doctest::Approx(stretch).epsilon(2e-3));
        CHECK(statistics.curvature_norm == kNotMeasured);
        CHECK(statistics.lipschitz == kNotMeasured);

        probe.measure(*model, *loss, batch, Probe::curvature_norm, kKey, {&statistics, 1});
        const double largest = Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(hessian).eigenvalues().maxCoeff();
        CHECK(statistics.curvature == doctest::Approx(stretch).epsilon(2e-3));
        CHECK(statistics.curvature_norm == doctest::Approx(largest).epsilon(5e-3));
        CHECK(statistics.lipschitz ==
              doctest::Approx(spectral_norm(model->parameters().first(kInputs * kOutputs), kInputs, kOutputs))
                  .epsilon(1e-4));
    }

    TEST_CASE("a product belongs to its layer alone: the Hessian's block is symmetric and the rest stands still") {
        const auto model = model_of("mlp");
        const auto loss = make_loss("mse");
        const Batch batch = random_batch();
        CurvatureProbe probe;
        for (std::size_t layer = 0; layer < model->schema().layer_count(); ++layer) {
            const std::size_t count = model->schema().layers()[layer].count;
            std::vector<float> u(count);
            std::vector<float> v(count);
            std::vector<float> hu(count);
            std::vector<float> hv(count);
            Stream stream({.seed = 31});
            stream.fill_normal(u);
            stream.fill_normal(v);
            probe.hessian_product(*model, *loss, batch, layer, u, hu);
            probe.hessian_product(*model, *loss, batch, layer, v, hv);
            const double scale = to_eigen(hu).norm() * to_eigen(v).norm();
            CHECK(std::abs(to_eigen(hu).dot(to_eigen(v)) - to_eigen(hv).dot(to_eigen(u))) < 0.02 * scale);
        }
    }

    TEST_CASE("the model's parameters come back bit for bit, even from a failure") {
        const auto model = model_of("mlp");
        const auto loss = make_loss("mse");
        const Batch batch = random_batch();
        const std::vector<float> before(model->parameters().begin(), model->parameters().end());
        for (const CurvatureMethod method : {CurvatureMethod::exact, CurvatureMethod::differences}) {
            CurvatureProbe probe(method);
            std::vector<LayerStatistics> statistics(2);
            probe.measure(*model, *loss, batch, Probe::curvature_norm, kKey, statistics);
            CHECK(std::ranges::equal(model->parameters(), before));
            CHECK(statistics[1].curvature_norm > 0);

            Batch unlabelled = random_batch();
            unlabelled.targets.values.resize({kSamples, kOutputs + 1});
            CHECK_THROWS(probe.measure(*model, *loss, unlabelled, Probe::curvature, kKey, statistics));
            CHECK(std::ranges::equal(model->parameters(), before));
        }
    }

    TEST_CASE("the same key measures the same, and nothing is measured unless asked for") {
        const auto model = model_of("mlp");
        const auto loss = make_loss("mse");
        const Batch batch = random_batch();
        CurvatureProbe probe;
        std::vector<LayerStatistics> statistics(2);
        probe.measure(*model, *loss, batch, Probe::none, kKey, statistics);
        CHECK(statistics == std::vector<LayerStatistics>(2));
        probe.measure(*model, *loss, batch, Probe::curvature, kKey, statistics);
        std::vector<LayerStatistics> again(2);
        CurvatureProbe other;
        other.measure(*model, *loss, batch, Probe::curvature, kKey, again);
        CHECK(statistics == again);
        StreamKey next_round = kKey;
        next_round.round += 1;
        other.measure(*model, *loss, batch, Probe::curvature, next_round, again);
        CHECK(statistics[0].curvature != again[0].curvature);
    }

    TEST_CASE(
        "a measurement costs what probe_work says, with a pair of gradients or a backward pass for each product") {
        const auto backend = make_backend({});
        for (const CurvatureMethod method : {CurvatureMethod::exact, CurvatureMethod::differences})
            for (const Probe probe : {Probe::curvature, Probe::curvature_norm}) {
                Passes passes;
                std::vector<std::unique_ptr<Layer>> layers;
                layers.push_back(make_linear(kInputs, kInputs, true, {}, *backend, kSamples));
                layers.push_back(make_tanh({1, kInputs}));  // so that the first layer's products are differences
                layers.push_back(make_linear(kInputs, kOutputs, true, {}, *backend, kSamples));
                layers.push_back(std::make_unique<Counter>(Shape{1, kOutputs}, passes));
                Model model(std::move(layers), {.sample = {1, kInputs}, .outputs = kOutputs, .max_batch = kSamples});
                model.initialize(2);
                std::vector<LayerStatistics> statistics(2);
                CurvatureProbe(method).measure(model, *make_loss("mse"), random_batch(), probe, kKey, statistics);
                const ProbeWork work = probe_work(model, probe, method);
                const int products = probe == Probe::curvature ? 1 : CurvatureProbe::kPowerIterations;
                CHECK(passes.recorded == 1);
                CHECK(passes.backward == (method == CurvatureMethod::exact ? 3 : 4) * products);
                CHECK(passes.backward == work.gradients);
                CHECK(passes.recorded + passes.held == work.forwards + work.gradients);
                CHECK((method == CurvatureMethod::differences) == (work == probe_work(model.schema(), probe)));
            }
    }

    TEST_CASE("what is not curvature is not measured") {
        const auto model = model_of("mlp");
        std::vector<LayerStatistics> statistics(2);
        CurvatureProbe().measure(*model, *make_loss("mse"), random_batch(), Probe::sensitivity, kKey, statistics);
        CHECK(statistics == std::vector<LayerStatistics>(2));
        CHECK(probe_work(*model, Probe::none, CurvatureMethod::exact) == ProbeWork{});
        CHECK(probe_work(*model, Probe::sensitivity, CurvatureMethod::exact) == ProbeWork{.gradients = 5});
    }

    TEST_CASE("a linear layer's norm is that of its matrix") {
        const LayerSpec layer = layer_of({20, 12});
        std::vector<float> parameters(layer.count);
        Stream({.seed = 41}).fill_normal(parameters);
        Stream stream(kKey);
        const double exact = spectral_norm(std::span(parameters).subspan(12), 20, 12);
        CHECK(operator_norm(layer, parameters, stream) == doctest::Approx(exact).epsilon(1e-3));
    }

    TEST_CASE("a convolution's norm is bounded by its kernel's times the root of its taps") {
        const LayerSpec layer = layer_of({3, 3, 4, 8});
        std::vector<float> parameters(layer.count);
        Stream({.seed = 42}).fill_normal(parameters);
        Stream stream(kKey);
        const double kernel = spectral_norm(std::span(parameters).subspan(8), 36, 8);
        CHECK(operator_norm(layer, parameters, stream) == doctest::Approx(3 * kernel).epsilon(1e-3));
    }

    TEST_CASE("a norm has a curvature, of its trained parameters alone, and no Lipschitz constant") {
        const auto backend = make_backend({});
        std::vector<std::unique_ptr<Layer>> layers;
        layers.push_back(make_linear(kInputs, kInputs, true, {}, *backend, kSamples));
        layers.push_back(make_batch_norm({1, kInputs}));
        layers.push_back(make_linear(kInputs, kOutputs, true, {}, *backend, kSamples));
        Model model(std::move(layers), {.sample = {1, kInputs}, .outputs = kOutputs, .max_batch = kSamples});
        model.initialize(2);
        const auto loss = make_loss("mse");
        const Batch batch = random_batch();
        std::vector<LayerStatistics> statistics(3);
        CurvatureProbe probe;
        probe.measure(model, *loss, batch, Probe::curvature_norm, kKey, statistics);
        CHECK(statistics[0].lipschitz > 0);
        CHECK(statistics[1].lipschitz == kNotMeasured);
        CHECK(statistics[2].lipschitz > 0);

        const std::size_t trained = model.schema().layers()[1].trained_count();
        REQUIRE(trained == 2 * kInputs);
        std::vector<float> v(trained);
        Stream(kKey.with(Purpose::curvature_probe, 1)).fill_rademacher(v);
        std::vector<float> product(trained);
        probe.hessian_product(model, *loss, batch, 1, v, product);
        const double stretch = to_eigen(product).norm() / to_eigen(v).norm();
        CHECK(stretch > 0);
        CHECK(statistics[1].curvature == doctest::Approx(stretch).epsilon(1e-4));
    }

    TEST_CASE("a weight of zeros has norm 0") {
        const LayerSpec layer = layer_of({4, 4});
        Stream stream(kKey);
        CHECK(operator_norm(layer, std::vector<float>(layer.count, 0.0F), stream) == 0);
    }

    TEST_CASE("a direction without length is refused") {
        const auto model = model_of("linear");
        CurvatureProbe probe;
        const std::vector<float> zero(model->schema().parameters(), 0.0F);
        std::vector<float> product(zero.size());
        CHECK_THROWS_AS(probe.hessian_product(*model, *make_loss("mse"), random_batch(), 0, zero, product),
                        PreconditionError);
    }
}
