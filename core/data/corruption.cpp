#include "core/data/corruption.hpp"

#include "core/error.hpp"
#include "core/rng.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <span>

namespace dither {
namespace {

using Bytes = std::vector<std::uint8_t>;

/// What the images are, and what they become.
struct Images {
    std::int64_t height = 0;
    std::int64_t width = 0;
    std::int64_t channels = 0;
    StreamKey key;  ///< of the image at hand
};

/// One image: from and to are [height, width, channels].
using Corrupter = void (*)(const Images& images, double strength, std::span<const std::uint8_t> from,
                           std::span<std::uint8_t> to);

std::uint8_t to_byte(double value) {
    return static_cast<std::uint8_t>(std::clamp(std::floor(value + 0.5), 0.0, 255.0));
}

void add_noise(const Images& images, double deviation, std::span<const std::uint8_t> from, std::span<std::uint8_t> to) {
    std::vector<float> normal(from.size());
    Stream(images.key.with(Purpose::corruption, 0)).fill_normal(normal);
    for (std::size_t i = 0; i < from.size(); ++i)
        to[i] = to_byte(from[i] + 255 * deviation * static_cast<double>(normal[i]));
}

constexpr std::int64_t kBlurUnit = 1 << 16;

/// The kernel from its centre to its end, in whole parts of kBlurUnit, so that the C library's last bits do not show.
/// The whole kernel, both sides, adds up to kBlurUnit.
std::vector<std::int64_t> blur_kernel(double deviation) {
    std::vector<double> weights;
    for (int i = 0; i <= std::ceil(4 * deviation); ++i)
        weights.push_back(std::exp(-i * i / (2 * deviation * deviation)));
    const double sum = 2 * std::accumulate(weights.begin() + 1, weights.end(), weights[0] / 2);
    std::vector<std::int64_t> kernel;
    for (const double weight : weights)
        kernel.push_back(std::lround(static_cast<double>(kBlurUnit) * weight / sum));
    kernel[0] = kBlurUnit - 2 * std::accumulate(kernel.begin() + 1, kernel.end(), std::int64_t{0});
    return kernel;
}

/// The weighted sum over a line of `count` values that lie `stride` apart, at `place` of it; edges are repeated.
template <typename Value>
std::int64_t blurred(const std::vector<std::int64_t>& kernel, const Value* line, std::int64_t count,
                     std::int64_t stride, std::int64_t place) {
    std::int64_t sum = kernel[0] * line[place * stride];
    for (std::int64_t i = 1; i < std::ssize(kernel); ++i)
        sum +=
            kernel[static_cast<std::size_t>(i)] * (std::int64_t{line[std::max<std::int64_t>(0, place - i) * stride]} +
                                                   line[std::min(count - 1, place + i) * stride]);
    return sum;
}

void blur(const Images& images, double deviation, std::span<const std::uint8_t> from, std::span<std::uint8_t> to) {
    const auto [height, width, channels, key] = images;
    const std::vector<std::int64_t> kernel = blur_kernel(deviation);
    const std::int64_t row = width * channels;
    std::vector<std::int64_t> rows(from.size());
    for (std::int64_t i = 0; i < std::ssize(from); ++i)
        rows[static_cast<std::size_t>(i)] =
            blurred(kernel, from.data() + i / row * row + i % channels, width, channels, i % row / channels);
    for (std::int64_t i = 0; i < std::ssize(from); ++i) {
        const std::int64_t sum = blurred(kernel, rows.data() + i % row, height, row, i / row);
        constexpr std::int64_t kUnit = kBlurUnit * kBlurUnit;
        to[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>((sum + kUnit / 2) / kUnit);
    }
}

void lower_contrast(const Images& images, double factor, std::span<const std::uint8_t> from,
                    std::span<std::uint8_t> to) {
    const auto channels = static_cast<std::size_t>(images.channels);
    for (std::size_t c = 0; c < channels; ++c) {
        std::int64_t sum = 0;
        for (std::size_t i = c; i < from.size(); i += channels)
            sum += from[i];
        const double mean = static_cast<double>(sum) / static_cast<double>(images.height * images.width);
        for (std::size_t i = c; i < from.size(); i += channels)
            to[i] = to_byte((from[i] - mean) * factor + mean);
    }
}

void brighten(const Images&, double more, std::span<const std::uint8_t> from, std::span<std::uint8_t> to) {
    std::ranges::transform(from, to.begin(), [more](std::uint8_t pixel) { return to_byte(pixel + 255 * more); });
}

void shift(const Images& images, double pixels, std::span<const std::uint8_t> from, std::span<std::uint8_t> to) {
    constexpr std::array<std::array<int, 2>, 8> kCompass{
        {{-1, -1}, {-1, 0}, {-1, 1}, {0, -1}, {0, 1}, {1, -1}, {1, 0}, {1, 1}}};
    const auto [height, width, channels, key] = images;
    const auto direction = kCompass[Stream(key.with(Purpose::corruption, 1)).below(kCompass.size())];
    const std::int64_t down = direction[0] * std::lround(pixels);
    const std::int64_t right = direction[1] * std::lround(pixels);
    std::ranges::fill(to, std::uint8_t{0});
    const std::int64_t shown = width - std::abs(right);
    if (shown <= 0)
        return;
    for (std::int64_t y = std::max<std::int64_t>(0, down); y < std::min(height, height + down); ++y)
        std::copy_n(from.begin() + ((y - down) * width + std::max<std::int64_t>(0, -right)) * channels,
                    shown * channels, to.begin() + (y * width + std::max<std::int64_t>(0, right)) * channels);
}

struct Recipe {
    Corrupter corrupter;
    std::array<double, kMostSeverity> strengths;
};

constexpr std::array kRecipes{
    ChoiceRow<Recipe>{
        "gaussian_noise", "independent normal noise on every pixel", {add_noise, {0.04, 0.06, 0.08, 0.09, 0.10}}},
    ChoiceRow<Recipe>{"blur", "Gaussian blur", {blur, {0.4, 0.6, 0.7, 0.8, 1.0}}},
    ChoiceRow<Recipe>{"contrast", "less contrast", {lower_contrast, {0.75, 0.5, 0.4, 0.3, 0.15}}},
    ChoiceRow<Recipe>{"brightness", "brighter", {brighten, {0.05, 0.1, 0.15, 0.2, 0.3}}},
    ChoiceRow<Recipe>{"shift", "moved to one side or corner", {shift, {1, 2, 3, 4, 5}}},
};

[[noreturn]] void fail(std::string_view text) {
    throw InputError(
        fmt::format("corruption \"{}\": expected KIND=SEVERITY, such as blur=3, with a KIND that is {} or "
                    "\"all\" and a SEVERITY of 1 .. {}",
                    text, expected_text(corruption_choices()), kMostSeverity));
}

}  // namespace

std::vector<Choice> corruption_choices() {
    return choices_of(kRecipes);
}

std::string_view name_of(CorruptionKind kind) {
    return kRecipes[static_cast<std::size_t>(kind)].name;
}

std::string to_string(const Corruption& corruption) {
    return fmt::format("{}={}", name_of(corruption.kind), corruption.severity);
}

std::vector<Corruption> parse_corruption(std::string_view text) {
    const std::size_t equals = std::min(text.find('='), text.size());
    const std::string_view kind = text.substr(0, equals);
    const std::string_view number = text.substr(std::min(equals + 1, text.size()));
    int severity = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), severity);
    if (error != std::errc() || end != number.data() + number.size() || severity < 1 || severity > kMostSeverity)
        fail(text);
    std::vector<Corruption> corruptions;
    for (std::size_t i = 0; i < kRecipes.size(); ++i)
        if (kind == "all" || kind == kRecipes[i].name)
            corruptions.push_back({static_cast<CorruptionKind>(i), severity});
    if (corruptions.empty())
        fail(text);
    return corruptions;
}

Dataset corrupt(const Dataset& data, const Corruption& corruption, std::uint32_t seed) {
    const Shape& sample = data.sample_shape();
    if (data.pixels().empty() || sample.rank() != 4)
        throw InputError(fmt::format("{}: only images are corrupted, and the data has samples of shape {}",
                                     to_string(corruption), sample.str()));
    if (corruption.severity < 1 || corruption.severity > kMostSeverity)
        throw InputError(fmt::format("a severity of {}: expected 1 .. {}", corruption.severity, kMostSeverity));
    const Recipe& recipe = kRecipes[static_cast<std::size_t>(corruption.kind)].value;
    const double strength = recipe.strengths[static_cast<std::size_t>(corruption.severity) - 1];
    Images images{sample[1], sample[2], sample[3], {.seed = seed}};
    const auto width = static_cast<std::size_t>(sample.count());
    Bytes pixels(data.pixels().size());
    for (std::size_t i = 0; i < data.size(); ++i) {
        images.key.step = static_cast<std::uint32_t>(i);
        recipe.corrupter(images, strength, data.pixels().subspan(i * width, width),
                         std::span(pixels).subspan(i * width, width));
    }
    return data.with_pixels(std::move(pixels));
}

}  // namespace dither
