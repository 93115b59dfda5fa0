#include "core/data/corruption.hpp"

#include "core/error.hpp"
#include "core/rng.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <string>
#include <vector>

using namespace dither;

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t kSide = 12;
constexpr std::size_t kImages = 40;

Dataset images_of(Bytes pixels, std::int64_t channels = 1) {
    const std::size_t count = pixels.size() / (kSide * kSide * static_cast<std::size_t>(channels));
    return {{1, kSide, kSide, channels}, std::move(pixels), std::vector<std::int32_t>(count), 1, 0.3F, 0.5F};
}

/// Noise of the bytes 60 .. 187: room for every corruption on both sides.
Dataset noise_images(std::int64_t channels = 1) {
    Bytes pixels(kImages * kSide * kSide * static_cast<std::size_t>(channels));
    Stream stream({.seed = 4, .purpose = Purpose::test});
    for (std::uint8_t& pixel : pixels)
        pixel = static_cast<std::uint8_t>(60 + stream.below(128));
    return images_of(std::move(pixels), channels);
}

Bytes pixels_of(const Dataset& data) {
    return {data.pixels().begin(), data.pixels().end()};
}

std::string text_of(const Bytes& pixels) {
    return {pixels.begin(), pixels.end()};
}

Bytes corrupted(const Dataset& data, CorruptionKind kind, int severity, std::uint32_t seed = 1) {
    return pixels_of(corrupt(data, {kind, severity}, seed));
}

double mean(const Bytes& pixels) {
    return std::accumulate(pixels.begin(), pixels.end(), 0.0) / static_cast<double>(pixels.size());
}

double variance(const Bytes& pixels) {
    const double m = mean(pixels);
    double sum = 0;
    for (const std::uint8_t pixel : pixels)
        sum += (pixel - m) * (pixel - m);
    return sum / static_cast<double>(pixels.size());
}

}  // namespace

TEST_SUITE("core/data/corruption") {
    TEST_CASE("every kind and severity changes the images, the same way each time, and more so when severer") {
        const Dataset data = noise_images(3);
        for (std::size_t kind = 0; kind < corruption_choices().size(); ++kind) {
            std::set<std::string> different{text_of(pixels_of(data))};
            double last = 0;
            for (int severity = 1; severity <= kMostSeverity; ++severity) {
                const Corruption corruption{static_cast<CorruptionKind>(kind), severity};
                CAPTURE(to_string(corruption));
                const Bytes pixels = corrupted(data, corruption.kind, severity);
                CHECK(pixels == corrupted(data, corruption.kind, severity));
                different.insert(text_of(pixels));
                double distance = 0;
                for (std::size_t i = 0; i < pixels.size(); ++i)
                    distance += std::abs(pixels[i] - data.pixels()[i]);
                CHECK(distance > last);
                last = distance;
            }
            CHECK(different.size() == 1 + kMostSeverity);
        }
    }

    TEST_CASE("noise has the deviation of its severity and no mean, and no two images have the same") {
        const Dataset gray = images_of(Bytes(kImages * kSide * kSide, 128));
        const Bytes noisy = corrupted(gray, CorruptionKind::gaussian_noise, 5);
        CHECK(mean(noisy) == doctest::Approx(128).epsilon(0.01));
        CHECK(std::sqrt(variance(noisy)) == doctest::Approx(25.5).epsilon(0.05));
        const std::string text = text_of(noisy);
        std::set<std::string> images;
        for (std::size_t i = 0; i < text.size(); i += kSide * kSide)
            images.insert(text.substr(i, kSide * kSide));
        CHECK(images.size() == kImages);
    }

    TEST_CASE("what is random depends on the seed and on the image's number, not on the images before it") {
        const Dataset data = noise_images();
        for (const CorruptionKind kind : {CorruptionKind::gaussian_noise, CorruptionKind::shift}) {
            const Bytes pixels = corrupted(data, kind, 3);
            CHECK(pixels != corrupted(data, kind, 3, 2));
            const Bytes fewer = corrupted(data.first(7), kind, 3);
            CHECK(fewer.size() == 7 * kSide * kSide);
            CHECK(std::equal(fewer.begin(), fewer.end(), pixels.begin()));
        }
    }

    TEST_CASE("blur keeps the mean and lowers the variance") {
        const Bytes before = pixels_of(noise_images());
        const Bytes after = corrupted(noise_images(), CorruptionKind::blur, 5);
        CHECK(mean(after) == doctest::Approx(mean(before)).epsilon(0.01));
        CHECK(variance(after) < variance(before) / 5);
    }

    TEST_CASE("blur spreads a dot alike in all directions, by the Gaussian's weights, and within its channel") {
        Bytes dot(kSide * kSide * 3);
        dot[(6 * kSide + 6) * 3 + 1] = 255;
        const Bytes after = corrupted(images_of(dot, 3), CorruptionKind::blur, 5);
        const auto at = [&](std::size_t y, std::size_t x) { return int{after[(y * kSide + x) * 3 + 1]}; };
        double sum = 0;
        for (int i = -20; i <= 20; ++i)
            sum += std::exp(-i * i / 2.0);
        const double peak = 255 / (sum * sum);
        CHECK(at(6, 6) == std::lround(peak));
        CHECK(at(6, 8) == std::lround(peak * std::exp(-2.0)));
        CHECK(at(7, 7) == std::lround(peak * std::exp(-1.0)));
        CHECK(at(6, 5) == at(6, 7));
        CHECK(at(5, 6) == at(6, 7));
        for (std::size_t i = 0; i < after.size(); i += 3)
            REQUIRE(int{after[i]} + after[i + 2] == 0);
    }

    TEST_CASE("blur leaves an even image as it is, edges included") {
        const Dataset even = images_of(Bytes(kSide * kSide, 211));
        CHECK(corrupted(even, CorruptionKind::blur, 5) == pixels_of(even));
    }

    TEST_CASE("contrast shrinks the distances from each image's and channel's mean") {
        Bytes pixels;
        for (std::size_t i = 0; i < kSide * kSide; ++i)
            pixels.insert(pixels.end(), {static_cast<std::uint8_t>(i % 2 == 0 ? 80 : 120),
                                         static_cast<std::uint8_t>(i % 2 == 0 ? 0 : 200)});
        const Bytes after = corrupted(images_of(pixels, 2), CorruptionKind::contrast, 2);  // half
        CHECK(Bytes(after.begin(), after.begin() + 4) == Bytes{90, 50, 110, 150});
    }

    TEST_CASE("brightness adds its share of white and stops at white") {
        const Bytes after = corrupted(noise_images(), CorruptionKind::brightness, 2);
        CHECK(mean(after) == doctest::Approx(mean(pixels_of(noise_images())) + 25.5).epsilon(0.01));
        const Dataset white = images_of(Bytes(kSide * kSide, 254));
        CHECK(corrupted(white, CorruptionKind::brightness, 5) == Bytes(kSide * kSide, 255));
    }

    TEST_CASE("shift moves a dot by its pixels along one or both axes, and every direction comes up") {
        constexpr std::size_t kMany = 200;
        Bytes dots(kMany * kSide * kSide);
        for (std::size_t i = 0; i < kMany; ++i)
            dots[i * kSide * kSide + 6 * kSide + 6] = 200;
        for (const int pixels : {1, 4, 5}) {
            const Bytes after = corrupted(images_of(dots), CorruptionKind::shift, pixels);
            std::set<std::pair<int, int>> moves;
            for (std::size_t i = 0; i < kMany; ++i) {
                const auto* const image = after.data() + i * kSide * kSide;
                const auto place = std::find(image, image + kSide * kSide, 200) - image;
                REQUIRE(place < static_cast<std::ptrdiff_t>(kSide * kSide));
                moves.insert({static_cast<int>(place / kSide) - 6, static_cast<int>(place % kSide) - 6});
            }
            CHECK(moves.size() == 8);
            for (const auto& [down, right] : moves)
                CHECK((std::max(std::abs(down), std::abs(right)) == pixels && std::abs(down * right) % pixels == 0));
        }
    }

    TEST_CASE("the corrupted images are normalized as the clean ones, and keep their labels") {
        Bytes pixels(2 * kSide * kSide, 100);
        const Dataset data({1, kSide, kSide, 1}, pixels, {2, 0}, 3, 0.3F, 0.5F);
        const Dataset brighter = corrupt(data, {CorruptionKind::brightness, 2}, 1);
        Batch batch;
        brighter.gather(std::vector<std::uint32_t>{0, 1}, batch);
        CHECK(batch.inputs.values()[0] == doctest::Approx((126 / 255.0 - 0.3) / 0.5).epsilon(1e-5));
        CHECK(batch.targets.labels == std::vector<std::int32_t>{2, 0});
        CHECK(brighter.classes() == 3);
    }

    TEST_CASE("a kind and its severity are read, and all kinds at once") {
        CHECK(parse_corruption("blur=3") == std::vector<Corruption>{{CorruptionKind::blur, 3}});
        CHECK(parse_corruption("all=5").size() == corruption_choices().size());
        for (const Corruption& corruption : parse_corruption("all=2"))
            CHECK(parse_corruption(to_string(corruption)) == std::vector<Corruption>{corruption});
    }

    TEST_CASE("an unknown kind and a severity out of range are refused with what was expected") {
        for (const char* text : {"fog=1", "blur", "blur=", "blur=0", "blur=6", "blur=2x", "=2", ""})
            CHECK_THROWS_WITH_AS(parse_corruption(text),
                                 doctest::Contains("\"gaussian_noise\", \"blur\", \"contrast\", \"brightness\", "
                                                   "\"shift\" or \"all\" and a SEVERITY of 1 .. 5"),
                                 InputError);
        CHECK_THROWS_AS(corrupt(noise_images(), {CorruptionKind::blur, 0}, 1), InputError);
    }

    TEST_CASE("a table is refused") {
        const Dataset table({1, 2}, std::vector<float>{1, 2}, {0}, 1, {}, 1);
        CHECK_THROWS_WITH_AS(corrupt(table, {CorruptionKind::blur, 1}, 1), doctest::Contains("only images"),
                             InputError);
    }
}
