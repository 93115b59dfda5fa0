#include "core/data/dataset.hpp"

#include "core/config.hpp"
#include "core/error.hpp"
#include "tests/unit/core/data/small_files.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <fstream>

using dither::Batch;
using dither::Bytes;
using dither::ChannelScaling;
using dither::contains;
using dither::DataFolder;
using dither::DataOptions;
using dither::Dataset;
using dither::DataSplits;
using dither::load_data;
using dither::Shape;

namespace {

namespace fs = std::filesystem;

Bytes idx(std::uint8_t rank, std::initializer_list<std::uint8_t> extents, const Bytes& payload) {
    Bytes bytes{0, 0, 8, rank};
    for (const std::uint8_t extent : extents)
        bytes.insert(bytes.end(), {0, 0, 0, extent});
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    return bytes;
}

constexpr const char* kTrainImages = "train-images-idx3-ubyte";
constexpr const char* kTrainLabels = "train-labels-idx1-ubyte";
constexpr const char* kTestImages = "t10k-images-idx3-ubyte";
constexpr const char* kTestLabels = "t10k-labels-idx1-ubyte";

/// Three training images of 1 x 2 pixels and one test image.
void write_small_set(const DataFolder& folder) {
    folder.write(kTrainImages, idx(3, {3, 1, 2}, {0, 255, 51, 51, 255, 0}));
    folder.write(kTrainLabels, idx(1, {3}, {0, 1, 1}));
    folder.write(kTestImages, idx(3, {1, 1, 2}, {102, 204}));
    folder.write(kTestLabels, idx(1, {1}, {1}));
}

DataSplits load_folder(const DataFolder& folder, std::uint64_t limit = 0) {
    return load_data({.format = "idx", .path = folder.str(), .limit = limit}, 1);
}

std::string error_of(const DataFolder& folder) {
    return error_of(DataOptions{.format = "idx", .path = folder.str()});
}

}  // namespace

TEST_SUITE("core/data/dataset") {
    TEST_CASE("a batch holds the samples asked for, normalized, with their labels") {
        const Dataset data({1, 1, 2, 1}, Bytes{0, 255, 51, 102, 255, 255}, {0, 1, 2}, 3, 0.2F, 0.4F);
        Batch batch;
        data.gather(std::vector<std::uint32_t>{2, 0}, batch);
        CHECK(batch.inputs.shape() == Shape{2, 1, 2, 1});
        CHECK(batch.targets.labels == std::vector<std::int32_t>{2, 0});
        CHECK(batch.targets.values.count() == 0);
        const float expected[] = {2.0F, 2.0F, -0.5F, 2.0F};
        for (std::size_t i = 0; i < 4; ++i)
            CHECK(batch.inputs.values()[i] == doctest::Approx(expected[i]).epsilon(1e-6));
        CHECK(data.outputs() == 3);
    }

    TEST_CASE("each channel has its own mean and deviation, however wide the image is") {
        Bytes pixels(2 * 3 * 67 * 3);
        for (std::size_t i = 0; i < pixels.size(); ++i)
            pixels[i] = static_cast<std::uint8_t>(i * 37 % 256);
        const std::vector<ChannelScaling> scaling{{0.1F, 0.2F}, {0.5F, 0.3F}, {0.9F, 0.4F}};
        const Dataset data({1, 3, 67, 3}, pixels, {0, 0}, 1, scaling);
        const std::vector<float> inputs = inputs_of(data);
        for (std::size_t i = 0; i < pixels.size(); ++i) {
            const auto [mean, deviation] = scaling[i % 3];
            REQUIRE(inputs[i] ==
                    doctest::Approx((static_cast<float>(pixels[i]) / 255 - mean) / deviation).epsilon(1e-5));
        }
        CHECK_THROWS_AS(Dataset({1, 3, 67, 2}, Bytes(402), {0}, 1, scaling), dither::PreconditionError);
    }

    TEST_CASE("a smaller batch after a larger one allocates nothing") {
        const Dataset data({1, 2}, std::vector<float>{1, 2, 3, 4, 5, 6}, {}, 0, {7, 8, 9}, 1);
        Batch batch;
        data.gather(std::vector<std::uint32_t>{0, 1, 2}, batch);
        const float* const inputs = batch.inputs.data();
        const float* const targets = batch.targets.values.data();
        data.gather(std::vector<std::uint32_t>{1}, batch);
        CHECK(batch.inputs.data() == inputs);
        CHECK(batch.targets.values.data() == targets);
        CHECK(batch.inputs.values()[1] == 4);
        CHECK(batch.targets.values.shape() == Shape{1, 1});
        CHECK(batch.targets.values.values()[0] == 8);
        CHECK(batch.targets.labels.empty());
    }

    TEST_CASE("a set whose parts do not fit together is refused, and so is an index beyond it") {
        using dither::PreconditionError;
        CHECK_THROWS_AS(Dataset({1, 2}, Bytes{1, 2, 3}, {0, 0}, 1, 0, 1), PreconditionError);
        CHECK_THROWS_AS(Dataset({1, 2}, Bytes{1, 2}, {0}, 1, 0, 0), PreconditionError);
        CHECK_THROWS_AS(Dataset({1, 1}, std::vector<float>{1}, {0}, 1, {1}, 1), PreconditionError);
        CHECK_THROWS_AS(Dataset({1, 1}, std::vector<float>{1}, {}, 0, {1, 2, 3}, 2), PreconditionError);
        const Dataset data({1, 1}, std::vector<float>{1}, {0}, 1, {}, 1);
        Batch batch;
        CHECK_THROWS_AS(data.gather(std::vector<std::uint32_t>{1}, batch), PreconditionError);
    }

    TEST_CASE("IDX images come out in file order, normalized by the training set's mean and deviation") {
        const DataFolder folder;
        write_small_set(folder);
        const DataSplits splits = load_folder(folder);
        CHECK(splits.train.size() == 3);
        CHECK(splits.test.size() == 1);
        CHECK(splits.train.classes() == 2);
        CHECK(splits.train.sample_shape() == Shape{1, 1, 2, 1});
        CHECK(splits.train.labels()[2] == 1);
        // mean (0 + 1 + .2 + .2 + 1 + 0) / 6 = .4; variance (.16 + .36 + .04 + .04 + .36 + .16) / 6
        const float deviation = std::sqrt(1.12F / 6);
        const std::vector<float> train = inputs_of(splits.train);
        CHECK(train[1] == doctest::Approx(0.6F / deviation).epsilon(1e-5));
        CHECK(train[2] == doctest::Approx(-0.2F / deviation).epsilon(1e-5));
        CHECK(inputs_of(splits.test)[1] == doctest::Approx(0.4F / deviation).epsilon(1e-5));
    }

    TEST_CASE("compressed IDX files give the same set") {
        const DataFolder plain, packed;
        write_small_set(plain);
        packed.write_gz(std::string(kTrainImages) + ".gz", idx(3, {3, 1, 2}, {0, 255, 51, 51, 255, 0}));
        packed.write_gz(std::string(kTrainLabels) + ".gz", idx(1, {3}, {0, 1, 1}));
        packed.write_gz(std::string(kTestImages) + ".gz", idx(3, {1, 1, 2}, {102, 204}));
        packed.write_gz(std::string(kTestLabels) + ".gz", idx(1, {1}, {1}));
        CHECK(inputs_of(load_folder(packed).train) == inputs_of(load_folder(plain).train));
        CHECK(inputs_of(load_folder(packed).test) == inputs_of(load_folder(plain).test));
    }

    TEST_CASE("the limit keeps the first training samples and all classes") {
        const DataFolder folder;
        write_small_set(folder);
        const DataSplits splits = load_folder(folder, 1);
        CHECK(splits.train.size() == 1);
        CHECK(splits.train.classes() == 2);
        CHECK(splits.test.size() == 1);
        CHECK(load_folder(folder, 10).train.size() == 3);
    }

    TEST_CASE("images that are all alike are centered, not divided by zero") {
        const DataFolder folder;
        write_small_set(folder);
        folder.write(kTrainImages, idx(3, {3, 1, 2}, Bytes(6, 51)));
        for (const float x : inputs_of(load_folder(folder).train))
            CHECK(x == doctest::Approx(0));
    }

    TEST_CASE("a bad IDX file is an error that names it, what was expected and what was found") {
        const DataFolder folder;
        CHECK(contains(error_of(folder), folder.file(kTrainImages) + ": not found"));
        write_small_set(folder);
        CHECK(error_of(folder).empty());

        folder.write(kTrainImages, idx(1, {3, 1, 2}, {}));
        CHECK(contains(error_of(folder), "wrong magic number: expected 0x00000803, found 0x00000801"));
        folder.write(kTrainImages, Bytes{0, 0, 8, 3, 0});
        CHECK(contains(error_of(folder), "truncated: expected the number of images in the header"));
        folder.write(kTrainImages, idx(3, {3, 1, 2}, {1, 2, 3}));
        CHECK(contains(error_of(folder), "truncated: expected 6 bytes after the header, found 3"));
        folder.write(kTrainImages, idx(3, {3, 1, 2}, Bytes(7)));
        CHECK(contains(error_of(folder), "expected 6 bytes after the header, found more"));
        folder.write(kTrainImages, idx(3, {0, 1, 2}, {}));
        CHECK(contains(error_of(folder), "expected at least one image"));
        folder.write(kTrainImages, Bytes{0, 0, 8, 3, 255, 255, 255, 255, 0, 0, 64, 0, 0, 0, 64, 0});
        CHECK(contains(error_of(folder), "truncated"));

        write_small_set(folder);
        folder.write(kTrainLabels, idx(1, {2}, {0, 1}));
        CHECK(
            contains(error_of(folder), folder.file(kTrainLabels) + ": expected 3 labels, one for each image, found 2"));
        folder.write(kTrainLabels, idx(1, {3}, {0, 1, 9}));
        CHECK(contains(error_of(folder),
                       folder.file(kTrainLabels) + ": sample 2: label 9 is out of range: expected 0 .. 1"));
        write_small_set(folder);
        folder.write(kTestLabels, idx(1, {1}, {2}));
        CHECK(contains(error_of(folder), folder.file(kTestLabels) + ": sample 0: label 2 is out of range"));
        folder.write(kTestImages, idx(3, {1, 2, 1}, {102, 204}));
        folder.write(kTestLabels, idx(1, {1}, {1}));
        CHECK(contains(error_of(folder), "training images have shape [1, 1, 2, 1], test images [1, 2, 1, 1]"));
    }

    TEST_CASE("a compressed file that was cut or damaged is refused") {
        const DataFolder folder;
        write_small_set(folder);
        fs::remove(folder.file(kTrainLabels));
        const std::string packed = folder.file(kTrainLabels) + ".gz";
        folder.write_gz(std::string(kTrainLabels) + ".gz", idx(1, {3}, {0, 1, 1}));
        REQUIRE(error_of(folder).empty());
        const auto size = fs::file_size(packed);
        fs::resize_file(packed, size - 1);
        CHECK(contains(error_of(folder), packed + ": truncated"));
        fs::resize_file(packed, size);  // the last byte of the stream's length is 0 already; break its checksum
        std::fstream(packed, std::ios::in | std::ios::out | std::ios::binary).seekp(-8, std::ios::end).put('\x55');
        CHECK(contains(error_of(folder), packed));
    }

    TEST_CASE("Fashion-MNIST loads with the mean and the deviation that the field knows") {
        const std::string path = DataOptions{}.path;
        if (!fs::exists(path)) {
            MESSAGE("skipped: " << path << " is not installed");
            return;
        }
        const DataSplits splits = load_data({}, 1);
        CHECK(splits.train.size() == 60'000);
        CHECK(splits.test.size() == 10'000);
        CHECK(splits.train.classes() == 10);
        Batch batch;
        splits.train.gather(std::vector<std::uint32_t>{0}, batch);
        CHECK(batch.inputs.shape() == Shape{1, 28, 28, 1});
        CHECK(batch.inputs.values()[0] == doctest::Approx(-0.2860 / 0.3530).epsilon(1e-3));  // a black pixel
    }

    TEST_CASE("a CSV table is split by the seed and standardized by its training rows") {
        const DataFolder folder;
        std::string text = "height, \"width\",flat,kind\r\n";
        for (int i = 0; i < 10; ++i)
            text += fmt::format("{}, {:.1f},5,{}\r\n", i, -i * 0.5, i % 2);
        const std::string path = folder.write("table.csv", text);
        const DataOptions options{.format = "csv", .path = path, .test_fraction = 0.3};
        const DataSplits splits = load_data(options, 1);
        CHECK(splits.train.size() == 7);
        CHECK(splits.test.size() == 3);
        CHECK(splits.train.classes() == 2);
        CHECK(splits.train.sample_shape() == Shape{1, 3});
        const std::vector<float> train = inputs_of(splits.train);
        double sum = 0, squares = 0;
        for (std::size_t i = 0; i < train.size(); i += 3) {
            sum += train[i];
            squares += train[i] * train[i];
            CHECK(train[i + 1] == doctest::Approx(-train[i]));
            CHECK(train[i + 2] == 0);
        }
        CHECK(sum == doctest::Approx(0).epsilon(1e-5));
        CHECK(squares == doctest::Approx(7).epsilon(1e-5));
        CHECK(inputs_of(load_data(options, 1).train) == train);
        CHECK(inputs_of(load_data(options, 2).train) != train);
    }

    TEST_CASE("a CSV label may be any column, and a regression target any number") {
        const DataFolder folder;
        const std::string path = folder.write("t.csv", "y,a,b\n0.5,1,0\n1.5,2,1\n-2e1,3,2\n");
        const DataSplits named =
            load_data({.format = "csv", .path = path, .label = "y", .task = "regression", .test_fraction = 0.4}, 1);
        CHECK(named.train.classes() == 0);
        CHECK(named.train.outputs() == 1);
        Batch train, test;
        named.train.gather(std::vector<std::uint32_t>{0, 1}, train);
        named.test.gather(std::vector<std::uint32_t>{0}, test);
        CHECK(train.targets.values.values()[0] + train.targets.values.values()[1] + test.targets.values.values()[0] ==
              -18);
        const DataSplits last = load_data({.format = "csv", .path = path, .test_fraction = 0.4, .limit = 1}, 1);
        CHECK(last.train.classes() == 3);
        CHECK(last.train.size() == 1);
    }

    TEST_CASE("a table without a header is data from its first line") {
        const DataFolder folder;
        const std::string path = folder.write("t.csv", "1,0\n2,1\n\n3,0");
        const DataSplits splits = load_data({.format = "csv", .path = path}, 1);
        CHECK(splits.train.size() + splits.test.size() == 3);
    }

    TEST_CASE("a bad CSV file is an error that names the line") {
        const DataFolder folder;
        const auto refused = [&](const std::string& text, const std::string& message, const char* label = "last") {
            const std::string path = folder.write("t.csv", text);
            return contains(error_of(DataOptions{.format = "csv", .path = path, .label = label}), message);
        };
        CHECK(refused("a,b\n1,0\n2;0,1\n", "t.csv:3:1: expected a finite number, found \"2;0\""));
        CHECK(refused("a,b\n1,0\n2, \n", "t.csv:3: expected a label in column \"b\", found none"));
        CHECK(refused("1,0\ninf,1\n", "t.csv:2:1: expected a finite number, found \"inf\""));
        CHECK(refused("1,x\n2,1\n", "t.csv:1:3: expected a finite number, found \"x\""));
        CHECK(refused("1,0\n2,1,3\n", "t.csv:2: expected 2 fields, as in the first line, found 3"));
        CHECK(refused("1,0\n2,0.5\n", "t.csv:2: expected a label, an integer >= 0, found 0.5"));
        CHECK(refused("1,0\n2,-1\n", "found -1"));
        CHECK(refused("1,0\n2,1\n3,7\n", "t.csv:3: label 7 is out of range: expected 0 .. 1"));
        CHECK(refused("", "expected at least 2 columns and 2 rows of numbers, found 0 and 0"));
        CHECK(refused("a,b\n1,0\n2,1\n", "expected \"first\", \"last\" or a name in the header", "c"));
        CHECK(refused("1,0\n2,1\n", "which has none, found \"c\"", "c"));
        CHECK(contains(error_of(DataOptions{.format = "csv", .path = folder.file("none.csv")}), "expected a CSV file"));
        CHECK(contains(error_of(DataOptions{.format = "parquet"}),
                       "data.format: expected one of \"idx\", \"cifar\", \"csv\", \"npy\", \"libsvm\", \"images\", "
                       "found \"parquet\""));
    }

    TEST_CASE("images of another place are read as a preparation says: its classes, its means, its deviations") {
        const DataFolder here;
        write_small_set(here);
        const DataFolder there;
        write_small_set(there);
        there.write(kTrainImages, idx(3, {2, 1, 2}, {255, 0, 51, 102}));
        there.write(kTrainLabels, idx(1, {2}, {1, 1}));  // no image of class 0
        const DataSplits first = load_folder(here);
        DataOptions options{.format = "idx", .path = there.str()};
        apply(first.preparation, options);
        const DataSplits second = load_data(options, 1);
        CHECK(second.train.classes() == 2);
        CHECK(second.preparation == first.preparation);
        CHECK(std::ranges::equal(second.train.scaling(), first.train.scaling()));
        CHECK(std::ranges::equal(second.test.scaling(), first.test.scaling()));

        options.mean.push_back(0);
        CHECK(contains(error_of(options), "data.mean: expected 1 numbers, one for each channel"));
        options.mean.pop_back();
        options.classes = 1;
        CHECK(contains(error_of(options), "label 1 is out of range: expected 0 .. 0"));
    }

    TEST_CASE("a table of another place is read as a preparation says") {
        const DataFolder folder;
        const DataOptions here{.format = "csv", .path = folder.write("a.csv", "1,0\n5,1\n9,2\n3,0\n")};
        DataOptions there{.format = "csv", .path = folder.write("b.csv", "7,1\n2,1\n")};
        const dither::Preparation preparation = load_data(here, 1).preparation;
        CHECK(preparation.classes == 3);
        apply(preparation, there);
        const DataSplits splits = load_data(there, 1);
        CHECK(splits.preparation == preparation);
        CHECK(splits.train.classes() == 3);
    }
}
