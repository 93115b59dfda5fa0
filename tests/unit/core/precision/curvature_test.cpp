#include "core/precision/curvature.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "core/layers/norm.hpp"
#include "core/layers/weighted.hpp"

#include <doctest/doctest.h>
#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

using namespace dither;

namespace {

constexpr int kSamples = 24;
constexpr int kInputs = 5;
constexpr int kOutputs = 3;
const StreamKey kKey{.seed = 11, .client = 4, .round = 9};

std::unique_ptr<Model> model_of(const char* name) {
    static const auto backend = make_backend({});
    auto model = make_model({.name = name, .hidden = {6}}, {},
                            {.sample = {1, kInputs}, .outputs = kOutputs, .max_batch = kSamples}, *backend);
    model->initialize(2);
    return model;
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
        CurvatureProbe probe;
        std::vector<LayerStatistics> statistics(2);
        probe.measure(*model, *loss, batch, Probe::curvature_norm, kKey, statistics);
        CHECK(std::ranges::equal(model->parameters(), before));
        CHECK(statistics[1].curvature_norm > 0);

        Batch unlabelled = random_batch();
        unlabelled.targets.values.resize({kSamples, kOutputs + 1});
        CHECK_THROWS(probe.measure(*model, *loss, unlabelled, Probe::curvature, kKey, statistics));
        CHECK(std::ranges::equal(model->parameters(), before));
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

    TEST_CASE("a measurement costs one recorded pass, and a pair of gradients for each product") {
        Passes passes;
        const auto backend = make_backend({});
        std::vector<std::unique_ptr<Layer>> layers;
        layers.push_back(make_linear(kInputs, kInputs, true, {}, *backend, kSamples));
        layers.push_back(make_linear(kInputs, kOutputs, true, {}, *backend, kSamples));
        layers.push_back(std::make_unique<Counter>(Shape{1, kOutputs}, passes));
        Model model(std::move(layers), {.sample = {1, kInputs}, .outputs = kOutputs, .max_batch = kSamples});
        model.initialize(2);
        std::vector<LayerStatistics> statistics(2);
        CurvatureProbe().measure(model, *make_loss("mse"), random_batch(), Probe::curvature_norm, kKey, statistics);
        const int gradients = 2 * 2 * CurvatureProbe::kPowerIterations;
        CHECK(passes.recorded == 1);
        CHECK(passes.held == gradients);
        CHECK(passes.backward == gradients);
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
