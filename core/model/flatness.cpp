#include "core/model/flatness.hpp"

#include "core/error.hpp"
#include "core/model/evaluate.hpp"

#include <algorithm>
#include <cmath>

namespace dither {
namespace {

/// Puts the parameters back, whatever happens.
class Restore {
public:
    explicit Restore(std::span<float> parameters)
        : parameters_(parameters), saved_(parameters.begin(), parameters.end()) {}
    Restore(const Restore&) = delete;
    Restore& operator=(const Restore&) = delete;
    ~Restore() { std::ranges::copy(saved_, parameters_.begin()); }

    std::span<const float> saved() const { return saved_; }

private:
    std::span<float> parameters_;
    std::vector<float> saved_;
};

/// Gives each filter of d, [fan_in, filters], the norm that it has in w; 0 where there is none.
void normalize_filters(std::span<float> d, std::span<const float> w, std::size_t filters) {
    for (std::size_t f = 0; f < filters; ++f) {
        double own = 0, wanted = 0;
        for (std::size_t i = f; i < d.size(); i += filters) {
            own += static_cast<double>(d[i]) * static_cast<double>(d[i]);
            wanted += static_cast<double>(w[i]) * static_cast<double>(w[i]);
        }
        const double factor = own > 0 ? std::sqrt(wanted / own) : 0;
        for (std::size_t i = f; i < d.size(); i += filters)
            d[i] = static_cast<float>(factor * static_cast<double>(d[i]));
    }
}

/// A direction for all parameters, 0 where they are no weights.
std::vector<float> draw_direction(const Schema& schema, std::span<const float> parameters, const StreamKey& key) {
    std::vector<float> direction(parameters.size(), 0.0F);
    Stream stream(key);
    for (const LayerSpec& layer : schema.layers())
        for (const TensorSpec& tensor : layer.tensors) {
            const int rank = tensor.shape.rank();
            if (rank != 2 && rank != 4)
                continue;
            const auto count = static_cast<std::size_t>(tensor.shape.count());
            const std::span<float> own = std::span(direction).subspan(tensor.offset, count);
            stream.fill_normal(own);
            normalize_filters(own, parameters.subspan(tensor.offset, count),
                              static_cast<std::size_t>(tensor.shape[rank - 1]));
        }
    return direction;
}

}  // namespace

LossAlongDirections loss_along_directions(Model& model, const Loss& loss, const Dataset& data,
                                          std::span<const double> radii, std::uint32_t directions,
                                          const StreamKey& key) {
    require(directions > 0, "the loss along {} directions", directions);
    const std::span<float> parameters = model.parameters();
    const Restore restore(parameters);
    const std::span<const float> origin = restore.saved();
    LossAlongDirections result{{radii.begin(), radii.end()}, std::vector<double>(radii.size(), 0.0)};
    for (std::uint32_t i = 0; i < directions; ++i) {
        const std::vector<float> direction = draw_direction(
            model.schema(), origin, {.seed = key.seed, .purpose = Purpose::evaluation, .round = key.round, .step = i});
        for (std::size_t r = 0; r < radii.size(); ++r) {
            for (std::size_t j = 0; j < parameters.size(); ++j)
                parameters[j] =
                    static_cast<float>(static_cast<double>(origin[j]) + radii[r] * static_cast<double>(direction[j]));
            result.loss[r] += evaluate(model, loss, data, nullptr, key).mean_loss() / directions;
        }
    }
    return result;
}

}  // namespace dither
