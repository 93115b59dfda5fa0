#include "core/quantize/learned.hpp"

#include "core/detail/exponential.hpp"
#include "core/error.hpp"
#include "core/quantize/detail/grids.hpp"
#include "core/quantize/detail/kernels.hpp"
#include "core/vector_math.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace dither {
namespace {

/// Steps beyond 2^+-100 would soon overflow or lose their precision as subnormal numbers.
constexpr float kMostExponent = 100;
/// Times the mean magnitude: where pact's clip starts.
constexpr double kFirstClip = 8;
/// What a range that comes out as t = 0 is set to, for 0 says that it is not set.
constexpr float kNearZero = 0x1p-20F;
/// Sums of inside, below and above, one after the other.
constexpr std::size_t kSumArrays = 3;

struct Magnitudes {
    double mean = 0;
    float low = 0;
    float high = 0;
};

/// 2^t without the C library, whose last bits differ between processors.
double power_of_two(float t) {
    const float whole = std::nearbyint(t);
    return std::ldexp(static_cast<double>(detail::exponential((t - whole) * std::numbers::ln2_v<float>)),
                      static_cast<int>(whole));
}

float set_value(double log) {
    return log == 0 ? kNearZero : static_cast<float>(log);
}

/// A gradient that would move the range by more than a power of two at a rate of 1 says which way, but not how far: a
/// step that is first order in s has no meaning there.
float bounded(double gradient, float loss_scale) {
    return static_cast<float>(std::clamp<double>(gradient, -loss_scale, loss_scale));
}

}  // namespace

LearnedRange::LearnedRange(const QuantizerOptions& options, std::size_t channels)
    : options_(options), ranges_(options.granularity == Granularity::per_channel ? channels : 1) {
    require(is_learned(options.observer), "a learned range with an observer that learns nothing");
    const std::string_view observer = observer_choices()[static_cast<std::size_t>(options.observer)].name;
    if (options.granularity != Granularity::per_tensor && options.granularity != Granularity::per_channel)
        throw InputError(fmt::format("observer \"{}\" needs a per_tensor or a per_channel scheme, found \"{}\"",
                                     observer, scheme_name(options)));
    if (options.observer != Observer::lsq && options.symmetry == Symmetry::symmetric)
        throw InputError(
            fmt::format("observer \"{}\" needs an affine scheme, found \"{}\"", observer, scheme_name(options)));
}

std::size_t LearnedRange::parameters() const {
    return options_.observer == Observer::lsq_plus ? 2 * ranges_ : ranges_;
}

void LearnedRange::attach(std::span<float> values, std::span<float> gradients) {
    require(values.size() == parameters() && gradients.size() == parameters(),
            "a learned range of {} parameters, got {} and {} gradients", parameters(), values.size(), gradients.size());
    values_ = values;
    gradients_ = gradients;
}

int LearnedRange::largest_code() const {
    const bool half = options_.observer == Observer::lsq && (options_.symmetry == Symmetry::symmetric || negative_);
    return half ? (1 << (bits_ - 1)) - 1 : (1 << bits_) - 1;
}

float LearnedRange::step(std::size_t range) const {
    const double size = power_of_two(current_[range]);
    const double high = largest_code();
    const auto exact = static_cast<float>(options_.observer == Observer::pact ? size / high : size / std::sqrt(high));
    return options_.power_of_two ? next_power_of_two(exact) : exact;
}

ScaleZero LearnedRange::choose(std::size_t range) const {
    if (current_[range] == 0)
        return {};
    ScaleZero grid{step(range), 0};
    if (options_.observer == Observer::lsq_plus) {
        const double share = std::clamp(static_cast<double>(current_[ranges_ + range]), 0.0, 1.0);
        grid.zero_point = static_cast<std::int32_t>(std::nearbyint(share * largest_code()));
    } else if (options_.symmetry == Symmetry::affine && negative_) {
        grid.zero_point = 1 << (bits_ - 1);
    }
    return grid;
}

void LearnedRange::initialize(std::span<const float> x) {
    if (!all_finite(x))
        throw_not_finite(x);
    const std::size_t count = x.size() / ranges_;
    for (std::size_t r = 0; r < ranges_; ++r) {
        if (current_[r] != 0)
            continue;
        Magnitudes found;
        for (std::size_t i = r; i < x.size(); i += ranges_) {
            found.mean += std::abs(static_cast<double>(x[i]));
            found.low = std::min(found.low, x[i]);
            found.high = std::max(found.high, x[i]);
        }
        found.mean /= static_cast<double>(count);
        const double size = options_.observer == Observer::pact
                                ? std::min(static_cast<double>(found.high), kFirstClip * found.mean)
                                : 2 * found.mean;
        if (size == 0)
            continue;
        current_[r] = set_value(binary_logarithm(size));
        if (options_.observer == Observer::lsq_plus)
            current_[ranges_ + r] =
                static_cast<float>(-static_cast<double>(found.low) / (static_cast<double>(found.high) - found.low));
    }
}

std::span<const ScaleZero> LearnedRange::grid(std::span<const float> x, const QuantLayout& layout, int bits,
                                              bool training) {
    require(bits >= 2 && bits <= 16, "a learned range for {} bits, expected 2..16", bits);
    require(values_.size() == parameters(), "a learned range that nothing is attached to");
    require(layout.rows * layout.columns == x.size() && (ranges_ == 1 || ranges_ == layout.columns),
            "{} learned ranges for {} values in {} columns", ranges_, x.size(), layout.columns);
    bits_ = bits;
    current_.assign(values_.begin(), values_.end());
    const auto unset = [this] { return std::ranges::count(std::span(current_).first(ranges_), 0.0F) > 0; };
    if (!x.empty() && unset()) {
        initialize(x);
        if (training)
            std::ranges::copy(current_, values_.begin());
    }
    if (options_.observer == Observer::lsq && options_.symmetry == Symmetry::affine) {
        const kernels::Extremes found = kernels::extremes(x.data(), x.size());
        if (!found.finite)
            throw_not_finite(x);
        negative_ = negative_ || found.low < 0;
    }
    const auto wild = std::ranges::find_if(current_, [](float value) { return !(std::abs(value) <= kMostExponent); });
    if (wild != current_.end())
        throw TrainingError(
            fmt::format("parameter {} of a learned range is {}, expected -100 to 100", wild - current_.begin(), *wild));
    grid_.resize(ranges_);
    for (std::size_t r = 0; r < ranges_; ++r)
        grid_[r] = choose(r);
    return grid_;
}

void LearnedRange::sum_columns(std::span<const float> x, std::span<const float> dy) {
    const std::size_t pattern = pattern_of(ranges_);
    columns_.resize(kGridArrays * pattern);
    spread_grids(grid_, clip_, bits_, options_.symmetry, pattern, columns_.data());
    column_sums_.assign(kSumArrays * pattern, 0.0);
    for (std::size_t i = 0; i < x.size(); i += pattern)
        kernels::add_step_sums(x.data() + i, dy.data() + i, std::min(pattern, x.size() - i),
                               arrays_of(columns_.data(), pattern), column_sums_.data(), column_sums_.data() + pattern,
                               column_sums_.data() + 2 * pattern);
    for (std::size_t i = 0; i < column_sums_.size(); ++i)
        sums_[i / pattern * ranges_ + i % pattern % ranges_] += column_sums_[i];
}

void LearnedRange::sum_terms(std::span<const float> x, std::span<const float> dy) {
    clip_.resize(ranges_);
    for (std::size_t r = 0; r < ranges_; ++r)
        clip_[r] = code_reach(grid_[r], bits_, options_.symmetry);
    sums_.assign(kSumArrays * ranges_, 0.0);
    if (ranges_ > 1)
        return sum_columns(x, dy);
    const kernels::StepSums sums =
        kernels::step_sums(x.data(), dy.data(), x.size(), grid_of(grid_[0], clip_[0], bits_, options_.symmetry));
    sums_[0] = sums.inside;
    sums_[1] = sums.below;
    sums_[2] = sums.above;
}

double LearnedRange::step_gradient(std::size_t range) const {
    const double inside = sums_[range];
    const double below = sums_[ranges_ + range];
    const double above = sums_[2 * ranges_ + range];
    const CodeRange codes = code_range(bits_, options_.symmetry, grid_[range].zero_point);
    return options_.observer == Observer::pact ? codes.high * above : inside + codes.low * below + codes.high * above;
}

/// A share that is at its bound is not driven beyond.
double LearnedRange::offset_gradient(std::size_t range) const {
    const double outside = sums_[ranges_ + range] + sums_[2 * ranges_ + range];
    const float share = current_[ranges_ + range];
    const bool stays = (share <= 0 && outside < 0) || (share >= 1 && outside > 0);
    return stays ? 0 : outside;
}

void LearnedRange::backward(std::span<const float> x, std::span<const float> dy, const QuantLayout& layout,
                            float loss_scale) {
    require(x.size() == dy.size() && layout.rows * layout.columns == x.size() && grid_.size() == ranges_ &&
                x.size() % ranges_ == 0,
            "gradients of {} learned ranges from {} values and {} gradients", ranges_, x.size(), dy.size());
    std::ranges::fill(gradients_, 0.0F);
    if (x.empty())
        return;
    sum_terms(x, dy);
    const double count = static_cast<double>(x.size()) / static_cast<double>(ranges_);
    const double gamma = 1 / std::sqrt(count * largest_code());
    for (std::size_t r = 0; r < ranges_; ++r) {
        if (current_[r] == 0)
            continue;
        const double scale = grid_[r].scale;
        gradients_[r] = bounded(gamma * step_gradient(r) / (scale * std::numbers::ln2), loss_scale);
        if (options_.observer == Observer::lsq_plus)
            gradients_[ranges_ + r] = bounded(-gamma * offset_gradient(r) / (largest_code() * scale), loss_scale);
    }
}

}  // namespace dither
