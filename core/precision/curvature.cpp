#include "core/precision/curvature.hpp"

#include "core/error.hpp"
#include "core/precision/detail/gradients.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>

namespace dither {
namespace {

constexpr std::array kMethods{
    ChoiceRow<CurvatureMethod>{
        "exact", "by the network's derivative and the loss's own curvature, where that is exact; else as differences",
        CurvatureMethod::exact},
    ChoiceRow<CurvatureMethod>{"differences", "central differences of the gradient", CurvatureMethod::differences},
};

/// Relative size of a difference step: far above the rounding of fp32 gradients, far below the scale of the loss.
constexpr double kStep = 1e-3;
/// Products with W^T W are cheap, so many of them; the error of the norm falls as (sigma_2 / sigma_1)^(4 k).
constexpr int kOperatorIterations = 40;

template <typename Values>
double norm_of(const Values& values) {
    return std::sqrt(squared_norm(values));
}

/// Puts a layer's parameters back, whatever happens.
class Restore {
public:
    Restore(std::span<float> parameters, std::vector<float>& saved) : parameters_(parameters), saved_(saved) {
        saved_.assign(parameters.begin(), parameters.end());
    }
    Restore(const Restore&) = delete;
    Restore& operator=(const Restore&) = delete;
    ~Restore() { std::copy(saved_.begin(), saved_.end(), parameters_.begin()); }

private:
    std::span<float> parameters_;
    std::vector<float>& saved_;
};

void move_to(std::span<float> parameters, std::span<const float> origin, std::span<const float> v, double step) {
    for (std::size_t i = 0; i < parameters.size(); ++i)
        parameters[i] = static_cast<float>(static_cast<double>(origin[i]) + step * static_cast<double>(v[i]));
}

/// Remembers the branches at the parameters as they are; every pass of a difference holds them.
void record_branches(Model& model, const Batch& batch) {
    model.forward(batch.inputs, Pass{.branches = Branches::record});
}

/// fp32, no noise, nothing observed.
Pass held_pass() {
    return {.branches = Branches::held};
}

/// The trained parameters of a layer, and a direction from them.
struct Direction {
    std::span<float> parameters;
    std::span<const float> v;
    double length = 0;  ///< ||v||
};

Direction direction_of(Model& model, std::size_t index, std::span<const float> v, std::span<float> product) {
    const std::size_t trained = model.schema().layers()[index].trained_count();
    const std::span<float> parameters = model.schema().slice(model.parameters(), index).first(trained);
    require(v.size() == parameters.size() && product.size() == v.size(),
            "a Hessian product of {} values into {}, the layer has {}", v.size(), product.size(), parameters.size());
    const double length = norm_of(v);
    require(std::isfinite(length) && length > 0, "a Hessian product with a vector of norm {}", length);
    return {.parameters = parameters, .v = v, .length = length};
}

std::span<const float> gradients_of(Model& model, std::size_t index) {
    return model.schema()
        .slice(std::span<const float>(model.gradients()), index)
        .first(model.schema().layers()[index].trained_count());
}

/// a <- (a - b) / divisor
void difference_quotient(std::span<float> a, std::span<const float> b, double divisor) {
    for (std::size_t i = 0; i < a.size(); ++i)
        a[i] = static_cast<float>((static_cast<double>(a[i]) - static_cast<double>(b[i])) / divisor);
}

double dot(std::span<const float> a, std::span<const float> b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0, std::plus<>(),
                              [](double x, double y) { return x * y; });
}

/// A layer's weight as a matrix, row-major [rows = fan_in, columns = out], and the factor from its norm to the layer's.
struct Matrix {
    std::span<const float> values;
    std::size_t rows = 0;
    std::size_t columns = 0;
    double factor = 1;
};

Matrix weight_matrix(const LayerSpec& layer, std::span<const float> parameters) {
    for (const TensorSpec& tensor : layer.tensors) {
        const int rank = tensor.shape.rank();
        if (rank != 2 && rank != 4)
            continue;
        const auto count = static_cast<std::size_t>(tensor.shape.count());
        const auto columns = static_cast<std::size_t>(tensor.shape[rank - 1]);
        const std::int64_t taps = rank == 4 ? tensor.shape[0] * tensor.shape[1] : 1;
        return {.values = parameters.subspan(tensor.offset - layer.offset, count),
                .rows = count / columns,
                .columns = columns,
                .factor = std::sqrt(static_cast<double>(taps))};
    }
    return {};
}

/// y = W^T W v
void multiply_gram(const Matrix& w, std::span<const double> v, std::span<double> y) {
    std::fill(y.begin(), y.end(), 0.0);
    for (std::size_t r = 0; r < w.rows; ++r) {
        const std::span<const float> row = w.values.subspan(r * w.columns, w.columns);
        double dot = 0;
        for (std::size_t c = 0; c < w.columns; ++c)
            dot += static_cast<double>(row[c]) * v[c];
        for (std::size_t c = 0; c < w.columns; ++c)
            y[c] += dot * static_cast<double>(row[c]);
    }
}

}  // namespace

float operator_norm(const LayerSpec& layer, std::span<const float> parameters, Stream& stream) {
    const Matrix w = weight_matrix(layer, parameters);
    if (w.values.empty())
        return kNotMeasured;
    std::vector<float> start(w.columns);
    stream.fill_rademacher(start);
    std::vector<double> v(start.begin(), start.end());
    std::vector<double> product(w.columns);
    double length = norm_of(v);
    double gram_norm = 0;
    for (int k = 0; k < kOperatorIterations && length > 0; ++k) {
        for (double& value : v)
            value /= length;
        multiply_gram(w, v, product);
        gram_norm = length = norm_of(product);
        v.swap(product);
    }
    return static_cast<float>(w.factor * std::sqrt(gram_norm));
}

CurvatureMethod curvature_method(std::string_view name) {
    return choose(kMethods, "precision.curvature_method", name);
}

std::vector<Choice> curvature_method_choices() {
    return choices_of(kMethods);
}

void CurvatureProbe::hessian_product(Model& model, const Loss& loss, const Batch& batch, std::size_t index,
                                     std::span<const float> v, std::span<float> product) {
    record_branches(model, batch);
    multiply(model, loss, batch, index, v, product);
}

void CurvatureProbe::multiply(Model& model, const Loss& loss, const Batch& batch, std::size_t index,
                              std::span<const float> v, std::span<float> product) {
    if (method_ == CurvatureMethod::exact && model.affine_in(index))
        exact(model, loss, batch, index, v, product);
    else
        difference(model, loss, batch, index, v, product);
}

void CurvatureProbe::exact(Model& model, const Loss& loss, const Batch& batch, std::size_t index,
                           std::span<const float> v, std::span<float> product) {
    const Direction direction = direction_of(model, index, v, product);
    const double step = (1 + norm_of(direction.parameters)) / direction.length;
    Pass pass = held_pass();
    pass.keep = false;
    Tensor change;  // J v
    {
        const Restore restore(direction.parameters, saved_);
        move_to(direction.parameters, saved_, v, step);
        change = model.forward(batch.inputs, pass);
    }
    pass.keep = true;
    const Tensor output = model.forward(batch.inputs, pass);
    difference_quotient(change.values(), output.values(), step);
    Tensor gradient(output.shape(), &model.arena());
    loss.curvature_product(output, batch.targets, change, gradient);
    model.backward(std::move(gradient), pass);
    std::ranges::copy(gradients_of(model, index), product.begin());
}

void CurvatureProbe::difference(Model& model, const Loss& loss, const Batch& batch, std::size_t index,
                                std::span<const float> v, std::span<float> product) {
    const Direction direction = direction_of(model, index, v, product);
    const double step = kStep * (1 + norm_of(direction.parameters)) / direction.length;
    const Restore restore(direction.parameters, saved_);
    move_to(direction.parameters, saved_, v, step);
    fill_gradients(model, loss, batch, held_pass());
    std::ranges::copy(gradients_of(model, index), product.begin());
    move_to(direction.parameters, saved_, v, -step);
    fill_gradients(model, loss, batch, held_pass());
    difference_quotient(product, gradients_of(model, index), 2 * step);
}

void CurvatureProbe::measure_layer(Model& model, const Loss& loss, const Batch& batch, std::size_t index, Probe probe,
                                   Stream& stream, LayerStatistics& statistics) {
    const std::size_t count = model.schema().layers()[index].trained_count();
    direction_.resize(count);
    product_.resize(count);
    stream.fill_rademacher(direction_);
    const int iterations = asks(probe, Probe::curvature_norm) ? kPowerIterations : 1;
    double stretch = 0;
    for (int k = 0; k < iterations; ++k) {
        multiply(model, loss, batch, index, direction_, product_);
        const double length = norm_of(product_);
        stretch = length / norm_of(direction_);
        if (k == 0) {
            statistics.curvature = static_cast<float>(stretch);
            statistics.curvature_trace = static_cast<float>(std::max(dot(direction_, product_), 0.0));
        }
        if (!std::isfinite(length) || length == 0)
            break;
        for (std::size_t i = 0; i < count; ++i)
            direction_[i] = static_cast<float>(static_cast<double>(product_[i]) / length);
    }
    if (asks(probe, Probe::curvature_norm))
        statistics.curvature_norm = static_cast<float>(stretch);
}

void CurvatureProbe::measure(Model& model, const Loss& loss, const Batch& batch, Probe probe, const StreamKey& key,
                             std::span<LayerStatistics> statistics) {
    const Schema& schema = model.schema();
    require(statistics.size() == schema.layer_count(), "statistics of {} layers, the model has {}", statistics.size(),
            schema.layer_count());
    if (!asks(probe, Probe::curvature) && !asks(probe, Probe::curvature_norm))
        return;
    record_branches(model, batch);
    for (std::size_t i = 0; i < schema.layer_count(); ++i) {
        Stream stream(key.with(Purpose::curvature_probe, static_cast<std::uint32_t>(i)));
        measure_layer(model, loss, batch, i, probe, stream, statistics[i]);
        if (asks(probe, Probe::curvature_norm))
            statistics[i].lipschitz =
                operator_norm(schema.layers()[i], schema.slice(std::as_const(model).parameters(), i), stream);
    }
}

}  // namespace dither
