#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "tests/unit/core/data/small_files.hpp"

#include <doctest/doctest.h>

using dither::contains;
using dither::DataFolder;
using dither::DataOptions;
using dither::Dataset;
using dither::DataSplits;
using dither::inputs_of;
using dither::load_data;

namespace {

DataOptions options_of(const DataFolder& folder, const std::string& train, const std::string& test) {
    folder.write("train", train);
    folder.write("test", test);
    return {.format = "libsvm", .path = folder.str()};
}

std::vector<std::int32_t> labels_of(const Dataset& data) {
    return {data.labels().begin(), data.labels().end()};
}

}  // namespace

TEST_SUITE("core/data/libsvm") {
    TEST_CASE("sparse lines become dense, standardized samples; what is not written is 0") {
        const DataFolder folder;
        DataOptions options = options_of(folder, "+1 1:4 3:2\r\n-1 1:2\t3:2 \n\n+1\n-1 1:2\n", "-1 2:5\n");
        options.mean = {0, 0, 0};
        options.deviation = {1, 1, 1};
        const DataSplits data = load_data(options, 1);
        CHECK(inputs_of(data.train) == std::vector<float>{4, 0, 2, 2, 0, 2, 0, 0, 0, 2, 0, 0});
        CHECK(inputs_of(data.test) == std::vector<float>{0, 5, 0});
        CHECK(labels_of(data.train) == std::vector<std::int32_t>{1, 0, 1, 0});
        CHECK(data.preparation.labels == std::vector<std::string>{"-1", "1"});
        options.mean.clear();
        options.deviation.clear();
        CHECK(load_data(options, 1).preparation.mean == std::vector<double>{2, 0, 1});
        CHECK(data.origin.count == 4);
        CHECK(data.origin.rows.empty());
    }

    TEST_CASE("labels are numbered in ascending order, or as data.labels says, which a preparation carries") {
        const DataFolder folder;
        DataOptions options = options_of(folder, "3 1:1\n10 1:2\n7 1:3\n", "10 1:1\n");
        const DataSplits data = load_data(options, 1);
        CHECK(labels_of(data.train) == std::vector<std::int32_t>{0, 2, 1});
        CHECK(labels_of(data.test) == std::vector<std::int32_t>{2});

        const DataFolder elsewhere;
        DataOptions there = options_of(elsewhere, "10 1:1\n10 1:2\n", "7 1:1\n");  // no sample of class 3
        apply(data.preparation, there);
        const DataSplits other = load_data(there, 1);
        CHECK(other.train.classes() == 3);
        CHECK(labels_of(other.train) == std::vector<std::int32_t>{2, 2});
        CHECK(other.preparation == data.preparation);
        there.labels = {"three", "seven", "ten"};
        CHECK(contains(error_of(there), "data.labels: expected integers"));
        there.labels = {"3", "7"};
        there.classes = 2;
        CHECK(contains(error_of(there), "train:1: expected one of the labels 3, 7, found 10"));
        there.labels = {};
        there.classes = 0;
        CHECK(contains(error_of(there), "test:1: expected one of the labels 10, found 7"));
    }

    TEST_CASE("a single file is split by the seed") {
        const DataFolder folder;
        std::string text;
        for (int i = 0; i < 10; ++i)
            text += fmt::format("{} 1:{}\n", i % 2, i);
        DataOptions options{.format = "libsvm", .path = folder.write("all", text), .test_fraction = 0.3};
        const DataSplits data = load_data(options, 1);
        CHECK(data.train.size() == 7);
        CHECK(data.test.size() == 3);
        CHECK(data.origin.count == 10);
        CHECK(data.origin.rows.size() == 7);
        for (std::size_t i = 0; i < 7; ++i)
            CHECK(data.train.labels()[i] == static_cast<std::int32_t>(data.origin.rows[i] % 2));
        options.limit = 4;
        CHECK(load_data(options, 1).origin.rows.size() == 4);
    }

    TEST_CASE("for regression the first number of a line is the target") {
        const DataFolder folder;
        DataOptions options = options_of(folder, "0.5 1:1\n-2 1:2\n", "1 1:1\n");
        CHECK(contains(error_of(options), "train:1: expected a label, an integer, found 0.5"));
        options.task = "regression";
        const DataSplits data = load_data(options, 1);
        CHECK(data.train.outputs() == 1);
        dither::Batch batch;
        data.train.gather(std::vector<std::uint32_t>{0, 1}, batch);
        CHECK(batch.targets.values.values()[1] == -2);
    }

    TEST_CASE("a bad line is an error that names it") {
        const DataFolder folder;
        const auto refused = [&](const std::string& train, const std::string& message) {
            return contains(error_of(options_of(folder, train, "1 1:1\n")), message);
        };
        CHECK(refused("1 1:1\nx 1:1\n", "train:2: expected a label, a finite number, found \"x\""));
        CHECK(refused("1 2:1 2:3\n", "train:1: expected an index from 3 to 16777216: indices count from 1 and ascend"));
        CHECK(refused("1 2:1 1:3\n", "found \"1:3\""));
        CHECK(refused("1 0:1\n", "train:1: expected an index from 1 to 16777216"));
        CHECK(refused("1 99999999:1\n", "found \"99999999:1\""));
        CHECK(refused("1 99999999999:1\n", "train:1: expected index:value, found \"99999999999:1\""));
        CHECK(refused("1 a:1\n", "train:1: expected index:value, found \"a:1\""));
        CHECK(refused("1 1\n", "train:1: expected index:value, found \"1\""));
        CHECK(refused("1 1:\n", "train:1: expected index:value with a finite number, found \"1:\""));
        CHECK(refused("1 1:inf\n", "expected index:value with a finite number"));
        CHECK(refused("1 qid:3 1:2\n", "expected index:value, found \"qid:3\""));
        CHECK(refused("1\n0\n", "expected one of the labels") == false);  // the features are those of the test file
        CHECK(refused("", "train: expected at least 1 samples, found 0"));
        CHECK(contains(error_of(DataOptions{.format = "libsvm", .path = folder.file("none")}),
                       "expected a file in LIBSVM's format, and there is none to read"));
        DataOptions options = options_of(folder, "1 1:1 5:1\n", "1 1:1\n");
        options.mean = {0, 0};
        options.deviation = {1, 1};
        CHECK(contains(error_of(options), "data.mean: expected 5 numbers, one for each feature"));
    }

    TEST_CASE("a short file does not fill the memory with zeros") {
        const DataFolder folder;
        std::string text;
        for (int i = 0; i < 20; ++i)
            text += "1 16777216:1\n";
        CHECK(contains(error_of(options_of(folder, text, "1 1:1\n")),
                       "train: 20 samples of 16777216 features are more than 2^28 values"));
    }
}
