#include "core/data/augmentation.hpp"

#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/data/detail/crop_flip.hpp"
#include "core/error.hpp"
#include "core/rng.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

using dither::Augmentation;
using dither::Batch;
using dither::Dataset;
using dither::kCropMargin;
using dither::Purpose;
using dither::Stream;
using dither::StreamKey;
using dither::detail::crop_flip;
using dither::detail::CropFlip;
using dither::detail::draw_crop_flip;
using dither::detail::ImageExtent;

namespace {

using Bytes = std::vector<std::uint8_t>;
using Indices = std::vector<std::uint32_t>;

/// No pixel is zero, so that zeros show what was beyond the edge.
Bytes made_up_pixels(std::size_t count) {
    Bytes pixels(count);
    for (std::size_t i = 0; i < count; ++i)
        pixels[i] = static_cast<std::uint8_t>(1 + i * 89 % 255);
    return pixels;
}

/// The definition: pixel by pixel.
Bytes expected(const ImageExtent& e, const Bytes& image, const CropFlip& variation) {
    Bytes out;
    for (std::int64_t y = 0; y < e.height; ++y)
        for (std::int64_t x = 0; x < e.width; ++x)
            for (std::int64_t c = 0; c < e.channels; ++c) {
                const std::int64_t from_y = y + variation.down;
                const std::int64_t from_x = (variation.mirrored ? e.width - 1 - x : x) + variation.right;
                const bool inside = from_y >= 0 && from_y < e.height && from_x >= 0 && from_x < e.width;
                out.push_back(inside ? image[static_cast<std::size_t>((from_y * e.width + from_x) * e.channels + c)]
                                     : 0);
            }
    return out;
}

const StreamKey kKey{.seed = 5, .purpose = Purpose::shuffle, .client = 3, .round = 2, .step = 7};

/// Eight color images whose values are their pixels.
Dataset made_up_images() {
    return {{1, 9, 9, 3}, made_up_pixels(8 * 9 * 9 * 3), std::vector<std::int32_t>(8), 1, 0.0F, 1.0F / 255};
}

std::vector<float> gathered(const Indices& indices, const StreamKey& key) {
    Batch batch;
    made_up_images().gather(indices, batch, Augmentation::crop_flip, key);
    return {batch.inputs.values().begin(), batch.inputs.values().end()};
}

}  // namespace

TEST_SUITE("core/data/augmentation") {
    TEST_CASE("a window of the padded image is cut out, and mirrored, for every place and number of channels") {
        for (const ImageExtent e : {ImageExtent{9, 7, 1}, {6, 11, 3}, {5, 5, 2}, {2, 1, 3}, {1, 2, 1}, {3, 2, 3}}) {
            const Bytes image = made_up_pixels(static_cast<std::size_t>(e.height * e.width * e.channels));
            for (std::int64_t down = -kCropMargin; down <= kCropMargin; ++down)
                for (std::int64_t right = -kCropMargin; right <= kCropMargin; ++right)
                    for (const bool mirrored : {false, true}) {
                        const CropFlip variation{down, right, mirrored};
                        CAPTURE(down);
                        CAPTURE(right);
                        CAPTURE(mirrored);
                        Bytes out(image.size(), 77);
                        crop_flip(e, image.data(), variation, out.data());
                        REQUIRE(out == expected(e, image, variation));
                    }
        }
    }

    TEST_CASE("all 162 variations have the same chance") {
        constexpr int kDraws = 162 * 400;
        Stream stream({.seed = 11, .purpose = Purpose::test});
        std::map<std::tuple<std::int64_t, std::int64_t, bool>, int> counts;
        for (int i = 0; i < kDraws; ++i) {
            const CropFlip variation = draw_crop_flip(stream());
            REQUIRE(std::abs(variation.down) <= kCropMargin);
            REQUIRE(std::abs(variation.right) <= kCropMargin);
            ++counts[{variation.down, variation.right, variation.mirrored}];
        }
        REQUIRE(counts.size() == 162);
        double chi_squared = 0;
        for (const auto& [variation, count] : counts)
            chi_squared += (count - 400.0) * (count - 400.0) / 400;
        CHECK(chi_squared < 223.5);  // 161 degrees of freedom: exceeded once in a thousand
    }

    TEST_CASE("a variation depends on seed, client, round, step and place in the batch, and on nothing else") {
        const std::vector<float> batch = gathered({4, 1, 4, 2}, kKey);
        CHECK(gathered({4, 1, 4, 2}, kKey.with(Purpose::gradient_rounding, 5)) == batch);
        const std::vector<float> shorter = gathered({4, 1}, kKey);
        CHECK(std::equal(shorter.begin(), shorter.end(), batch.begin()));
        const std::vector<float> other_neighbor = gathered({7, 1}, kKey);
        constexpr std::ptrdiff_t kImage = 9 * 9 * 3;
        CHECK(std::equal(other_neighbor.begin() + kImage, other_neighbor.end(), shorter.begin() + kImage));

        const Indices same(8, 1);
        std::set<std::vector<float>> different{gathered(same, kKey)};
        for (std::uint32_t StreamKey::*part :
             {&StreamKey::seed, &StreamKey::client, &StreamKey::round, &StreamKey::step}) {
            StreamKey key = kKey;
            ++(key.*part);
            different.insert(gathered(same, key));
        }
        CHECK(different.size() == 5);
    }

    TEST_CASE("an augmented batch holds the varied images, normalized after padding") {
        const Bytes pixels = made_up_pixels(2 * 5 * 6);
        const Dataset data({1, 5, 6, 1}, pixels, {0, 1}, 2, 0.25F, 0.5F);
        Batch batch, plain;
        data.gather(Indices{1, 0}, batch, Augmentation::crop_flip, kKey);
        data.gather(Indices{1, 0}, plain, Augmentation::none, kKey);
        CHECK(batch.targets.labels == std::vector<std::int32_t>{1, 0});
        CHECK(batch.inputs.shape() == plain.inputs.shape());
        Stream stream(kKey.with(Purpose::augmentation));
        for (std::size_t i = 0; i < 2; ++i) {
            const std::size_t start = (1 - i) * 30;
            const Bytes image(pixels.begin() + static_cast<std::ptrdiff_t>(start),
                              pixels.begin() + static_cast<std::ptrdiff_t>(start) + 30);
            const Bytes varied = expected({5, 6, 1}, image, draw_crop_flip(stream()));
            for (std::size_t k = 0; k < 30; ++k) {
                REQUIRE(batch.inputs.values()[i * 30 + k] ==
                        doctest::Approx((varied[k] / 255.0 - 0.25) / 0.5).epsilon(1e-5));
                REQUIRE(plain.inputs.values()[i * 30 + k] ==
                        doctest::Approx((image[k] / 255.0 - 0.25) / 0.5).epsilon(1e-5));
            }
        }
    }

    TEST_CASE("a job asks for augmentation by name, and not for that of a table") {
        using dither::parse_job;
        CHECK(parse_job("", "job.toml").data.augment == Augmentation::none);
        const dither::Job job = parse_job("[data]\naugment = \"crop_flip\"", "job.toml");
        CHECK(job.data.augment == Augmentation::crop_flip);
        CHECK(parse_job(to_toml(job), "resolved").data.augment == Augmentation::crop_flip);
        CHECK(dither::identity(job) != dither::identity(dither::Job{}));
        CHECK_THROWS_WITH_AS(parse_job("[data]\naugment = \"mixup\"", "job.toml"),
                             "job.toml:2:11: data.augment: expected one of \"none\", \"crop_flip\", found \"mixup\"",
                             dither::InputError);
        CHECK_THROWS_WITH_AS(parse_job("[data]\nformat = \"csv\"\naugment = \"crop_flip\"", "job.toml"),
                             "job.toml: data.augment = \"crop_flip\" (job.toml:3:11), data.format = \"csv\" "
                             "(job.toml:2:10): only images are augmented, and a table has none",
                             dither::InputError);
    }

    TEST_CASE("a table cannot be augmented, but goes through where nothing is asked for") {
        const Dataset table({1, 2}, std::vector<float>{1, 2}, {0}, 1, {}, 1);
        Batch batch;
        CHECK_THROWS_AS(table.gather(Indices{0}, batch, Augmentation::crop_flip, kKey), dither::PreconditionError);
        table.gather(Indices{0}, batch, Augmentation::none, kKey);
        CHECK(batch.inputs.values()[1] == 2);
    }

    TEST_CASE("a second augmented batch allocates nothing") {
        const Dataset data = made_up_images();
        Batch batch;
        data.gather(Indices{0, 1, 2}, batch, Augmentation::crop_flip, kKey);
        const float* const inputs = batch.inputs.data();
        const std::uint8_t* const varied = batch.varied.data();
        data.gather(Indices{3, 4}, batch, Augmentation::crop_flip, kKey);
        CHECK(batch.inputs.data() == inputs);
        CHECK(batch.varied.data() == varied);
    }
}
