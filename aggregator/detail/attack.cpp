#include "aggregator/detail/attack.hpp"

#include "aggregator/robust/detail/add_scaled.hpp"
#include "core/choice.hpp"
#include "core/simd.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace dither {

namespace {

constexpr std::size_t kBlock = 256;  // parameters at a time
using Block = std::array<double, kBlock>;

DITHER_CLONES void add_squares(double* sums, const float* values, const double* means, std::size_t count) {
    for (std::size_t j = 0; j < count; ++j) {
        const double difference = static_cast<double>(values[j]) - means[j];
        sums[j] += difference * difference;
    }
}

/// A server would refuse what is not finite.
float sendable(double value) {
    constexpr double kMost = std::numeric_limits<float>::max();
    return static_cast<float>(std::clamp(value, -kMost, kMost));
}

/// Everybody lies mean_factor * mean + deviation_factor * deviation of the honest updates.
void lie_by_moments(const AttackedRound& round, double mean_factor, double deviation_factor) {
    const auto honest = static_cast<double>(round.honest.size());
    const std::size_t parameters = round.honest.empty() ? 0 : round.honest.front().size();
    for (std::size_t first = 0; first < parameters; first += kBlock) {
        const std::size_t count = std::min(kBlock, parameters - first);
        Block means{}, squares{};
        for (const auto update : round.honest)
            add_scaled(means.data(), 1 / honest, &update[first], count);
        for (const auto update : round.honest)
            add_squares(squares.data(), &update[first], means.data(), count);
        for (std::size_t j = 0; j < count; ++j) {
            const double lie = mean_factor * means[j] + deviation_factor * std::sqrt(squares[j] / honest);
            for (const AttackedRound::Lie& each : round.lies)
                each.update[first + j] = sendable(lie);
        }
    }
}

void flip_signs(const AttackedRound& round) {
    for (const AttackedRound::Lie& lie : round.lies)
        for (float& value : lie.update)
            value = sendable(-round.scale * value);
}

void send_noise(const AttackedRound& round) {
    for (const AttackedRound::Lie& lie : round.lies) {
        StreamKey key = round.key;
        key.client = lie.client;
        Stream(key).fill_normal(lie.update);
        for (float& value : lie.update)
            value = sendable(round.scale * value);
    }
}

void stray_a_little(const AttackedRound& round) {
    lie_by_moments(round, 1, -round.scale);
}

void oppose(const AttackedRound& round) {
    lie_by_moments(round, -round.scale, 0);
}

void mimic(const AttackedRound& round) {
    if (!round.honest.empty())
        for (const AttackedRound::Lie& lie : round.lies)
            std::ranges::copy(round.honest.front(), lie.update.begin());
}

constexpr std::array kAttacks{
    ChoiceRow<Attack>{"none", "", nullptr},         ChoiceRow<Attack>{"label_flip", "", nullptr},
    ChoiceRow<Attack>{"sign_flip", "", flip_signs}, ChoiceRow<Attack>{"gaussian", "", send_noise},
    ChoiceRow<Attack>{"alie", "", stray_a_little},  ChoiceRow<Attack>{"ipm", "", oppose},
    ChoiceRow<Attack>{"mimic", "", mimic},
};

}  // namespace

Attack attack_of(const AttackOptions& options) {
    return choose(kAttacks, "federation.attack.kind", options.kind);
}

}  // namespace dither
