#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/error.hpp"
#include "tests/unit/core/data/small_files.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>

using dither::Batch;
using dither::Bytes;
using dither::contains;
using dither::DataFolder;
using dither::DataOptions;
using dither::Dataset;
using dither::DataSplits;
using dither::error_of;
using dither::load_data;
using dither::Shape;

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPlane = 32 * 32;

using Color = std::array<std::uint8_t, 3>;

/// A record whose first pixel is `corner` and all others are `rest`.
Bytes record(const Bytes& labels, Color corner, Color rest) {
    Bytes bytes = labels;
    for (std::size_t c = 0; c < 3; ++c) {
        bytes.push_back(corner[c]);
        bytes.insert(bytes.end(), kPlane - 1, rest[c]);
    }
    return bytes;
}

Bytes join(std::initializer_list<Bytes> parts) {
    Bytes all;
    for (const Bytes& part : parts)
        all.insert(all.end(), part.begin(), part.end());
    return all;
}

Bytes plain(std::uint8_t label) {
    return record({label}, {1, 2, 3}, {4, 5, 6});
}

void write_cifar_10(const DataFolder& folder) {
    folder.write("data_batch_1.bin", join({plain(9), plain(2)}));
    folder.write("data_batch_4.bin", plain(3));
    folder.write("test_batch.bin", plain(0));
}

DataOptions options_of(const DataFolder& folder, const char* label = "last") {
    return {.format = "cifar", .path = folder.str(), .label = label};
}

DataSplits load_folder(const DataFolder& folder, const char* label = "last") {
    return load_data(options_of(folder, label), 1);
}

std::vector<std::int32_t> labels_of(const Dataset& data) {
    return {data.labels().begin(), data.labels().end()};
}

}  // namespace

TEST_SUITE("core/data/cifar") {
    TEST_CASE("CIFAR-10 is the batches that are there, in order, each channel normalized by itself") {
        const DataFolder folder;
        folder.write("data_batch_2.bin", record({7}, {255, 51, 10}, {255, 51, 10}));
        folder.write("data_batch_1.bin", record({9}, {102, 0, 10}, {0, 102, 10}));
        folder.write("test_batch.bin", record({0}, {102, 0, 11}, {0, 102, 10}));
        const DataSplits splits = load_folder(folder);
        CHECK(splits.train.sample_shape() == Shape{1, 32, 32, 3});
        CHECK(splits.train.classes() == 10);
        CHECK(labels_of(splits.train) == std::vector<std::int32_t>{9, 7});
        CHECK(labels_of(splits.test) == std::vector<std::int32_t>{0});

        const std::vector<float> train = inputs_of(splits.train);
        const std::vector<float> test = inputs_of(splits.test);
        const auto red = [n = 2.0 * kPlane](double pixel) {
            const double mean = (102 + 255.0 * kPlane) / n;
            return (pixel - mean) / std::sqrt((102 * 102 + 255.0 * 255 * kPlane) / n - mean * mean);
        };
        const auto green = [n = 2.0 * kPlane](double pixel) {
            const double mean = (102.0 * (kPlane - 1) + 51.0 * kPlane) / n;
            return (pixel - mean) / std::sqrt((102.0 * 102 * (kPlane - 1) + 51.0 * 51 * kPlane) / n - mean * mean);
        };
        CHECK(train[0] == doctest::Approx(red(102)).epsilon(1e-5));
        CHECK(train[1] == doctest::Approx(green(0)).epsilon(1e-5));
        CHECK(train[3] == doctest::Approx(red(0)).epsilon(1e-5));
        CHECK(train[4] == doctest::Approx(green(102)).epsilon(1e-5));
        CHECK(train[3 * kPlane] == doctest::Approx(red(255)).epsilon(1e-5));
        CHECK(train[2] == doctest::Approx(0));  // a channel without contrast is centered only
        CHECK(test[2] == doctest::Approx(1.0 / 255).epsilon(1e-4));
        CHECK(test[0] == train[0]);
    }

    TEST_CASE("the planes of a record become the channels of its pixels, row by row") {
        Bytes bytes{5};
        for (std::size_t c = 0; c < 3; ++c)
            for (std::size_t i = 0; i < kPlane; ++i)
                bytes.push_back(static_cast<std::uint8_t>((i * (c + 3) + i / 7) % 256));
        const DataFolder folder;
        folder.write("data_batch_1.bin", bytes);
        folder.write("test_batch.bin", bytes);
        const std::vector<float> inputs = inputs_of(load_folder(folder).train);
        for (std::size_t c = 0; c < 3; ++c) {
            const auto pixel = [&](std::size_t i) { return static_cast<float>(bytes[1 + c * kPlane + i]); };
            const float step = (inputs[3 + c] - inputs[c]) / (pixel(1) - pixel(0));
            for (std::size_t i = 0; i < kPlane; ++i)
                REQUIRE(inputs[i * 3 + c] == doctest::Approx(inputs[c] + step * (pixel(i) - pixel(0))).epsilon(1e-3));
        }
    }

    TEST_CASE("compressed files, and the folder that the archive unpacks to, give the same set") {
        const DataFolder bare, packed, nested;
        write_cifar_10(bare);
        packed.write_gz("data_batch_1.bin.gz", join({plain(9), plain(2)}));
        packed.write("data_batch_4.bin", plain(3));
        packed.write_gz("test_batch.bin.gz", plain(0));
        fs::create_directory(nested.file("cifar-10-batches-bin"));
        nested.write("cifar-10-batches-bin/data_batch_1.bin", join({plain(9), plain(2)}));
        nested.write_gz("cifar-10-batches-bin/data_batch_4.bin.gz", plain(3));
        nested.write("cifar-10-batches-bin/test_batch.bin", plain(0));
        for (const DataFolder* folder : {&packed, &nested}) {
            const DataSplits splits = load_folder(*folder);
            CHECK(labels_of(splits.train) == std::vector<std::int32_t>{9, 2, 3});
            CHECK(inputs_of(splits.train) == inputs_of(load_folder(bare).train));
        }
    }

    TEST_CASE("CIFAR-100 has the fine labels by default and the coarse ones on request") {
        const DataFolder folder;
        fs::create_directory(folder.file("cifar-100-binary"));
        folder.write("cifar-100-binary/train.bin", record({19, 99}, {1, 2, 3}, {4, 5, 6}));
        folder.write_gz("cifar-100-binary/test.bin.gz", record({4, 31}, {1, 2, 3}, {4, 5, 6}));
        for (const char* label : {"last", "fine"}) {
            CHECK(load_folder(folder, label).train.classes() == 100);
            CHECK(labels_of(load_folder(folder, label).train)[0] == 99);
            CHECK(labels_of(load_folder(folder, label).test)[0] == 31);
        }
        for (const char* label : {"first", "coarse"}) {
            CHECK(load_folder(folder, label).train.classes() == 20);
            CHECK(labels_of(load_folder(folder, label).train)[0] == 19);
        }
        CHECK(error_of(options_of(folder, "species")) ==
              "data.label: CIFAR-100 has the labels \"first\", \"last\", \"coarse\", \"fine\", found \"species\"");
    }

    TEST_CASE("the limit keeps the first training images, by which both sets are normalized") {
        const DataFolder whole, cut;
        whole.write("data_batch_1.bin", join({record({1}, {9, 9, 9}, {5, 0, 7}), record({2}, {1, 1, 1}, {2, 2, 2})}));
        cut.write("data_batch_1.bin", record({1}, {9, 9, 9}, {5, 0, 7}));
        for (const DataFolder* folder : {&whole, &cut})
            folder->write("test_batch.bin", plain(3));
        DataOptions options = options_of(whole);
        options.limit = 1;
        const DataSplits limited = load_data(options, 1);
        CHECK(labels_of(limited.train) == std::vector<std::int32_t>{1});
        CHECK(inputs_of(limited.train) == inputs_of(load_folder(cut).train));
        CHECK(inputs_of(limited.test) == inputs_of(load_folder(cut).test));
    }

    TEST_CASE("a bad CIFAR file is an error that names it, what was expected and what was found") {
        const DataFolder folder;
        CHECK(contains(error_of(options_of(folder)), folder.str() + ": expected data_batch_1.bin .. data_batch_5.bin"));
        folder.write("data_batch_1.bin", plain(9));
        CHECK(error_of(options_of(folder)) ==
              folder.file("test_batch.bin") + ": not found, neither plain nor with .gz");
        write_cifar_10(folder);
        CHECK(error_of(options_of(folder)).empty());

        Bytes cut = join({plain(1), plain(2)});
        cut.pop_back();
        folder.write("data_batch_4.bin", cut);
        CHECK(contains(error_of(options_of(folder)),
                       folder.file("data_batch_4.bin") + ": truncated: expected records of 3073 bytes"));
        CHECK(contains(error_of(options_of(folder)), "found 1 and 3072 bytes of another"));
        folder.write("data_batch_4.bin", Bytes{});
        CHECK(
            contains(error_of(options_of(folder)), "data_batch_4.bin: expected records of 3073 bytes, found an empty"));
        folder.write("data_batch_4.bin", join({plain(1), plain(10)}));
        CHECK(error_of(options_of(folder)) ==
              folder.file("data_batch_4.bin") + ": record 1: label 10 is out of range: CIFAR-10's are 0 .. 9");

        fs::remove(folder.file("data_batch_4.bin"));
        folder.write_gz("data_batch_4.bin.gz", plain(3));
        const std::string packed = folder.file("data_batch_4.bin.gz");
        CHECK(error_of(options_of(folder)).empty());
        fs::resize_file(packed, fs::file_size(packed) - 1);
        CHECK(contains(error_of(options_of(folder)), packed + ": truncated"));
    }

    TEST_CASE("a folder with both sets is refused, since either could be meant") {
        const DataFolder folder;
        write_cifar_10(folder);
        fs::create_directory(folder.file("cifar-100-binary"));
        folder.write("cifar-100-binary/train.bin", record({0, 0}, {1, 2, 3}, {4, 5, 6}));
        CHECK(contains(error_of(options_of(folder)), "expected one set, found CIFAR-10 in " + folder.str()));
    }

    TEST_CASE("the real CIFAR-10 loads with the means and deviations that the field knows") {
        const char* const root = std::getenv("DITHER_DATA");
        const fs::path path = root != nullptr ? root : "";
        if (!fs::exists(path / "data_batch_1.bin") && !fs::exists(path / "cifar-10-batches-bin")) {
            MESSAGE("skipped: DITHER_DATA names no folder of CIFAR-10's .bin files");
            return;
        }
        const DataSplits splits = load_data({.format = "cifar", .path = path.string()}, 1);
        CHECK(splits.test.size() == 10'000);
        REQUIRE(splits.train.size() % 10'000 == 0);
        CHECK(splits.train.labels()[0] == 6);  // a frog
        Batch batch;
        splits.train.gather(std::vector<std::uint32_t>{0}, batch);
        const double first_pixel[] = {59, 62, 63};
        const double mean[] = {0.4914, 0.4822, 0.4465};
        const double deviation[] = {0.2470, 0.2435, 0.2616};
        for (std::size_t c = 0; c < 3; ++c)  // the figures are of all five batches, and some may be missing
            CHECK(std::abs(batch.inputs.values()[c] - (first_pixel[c] / 255 - mean[c]) / deviation[c]) < 0.02);
    }
}
