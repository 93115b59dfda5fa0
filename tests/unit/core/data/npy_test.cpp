#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/error.hpp"
#include "tests/unit/core/data/npy_files.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

using dither::Bytes;
using dither::contains;
using dither::DataFolder;
using dither::DataOptions;
using dither::DataSplits;
using dither::inputs_of;
using dither::load_data;
using dither::npy;
using dither::npy_with_header;
using dither::Shape;

namespace {

DataOptions options_of(const DataFolder& folder) {
    return {.format = "npy", .path = folder.str()};
}

/// Three training samples and one test sample of two features.
void write_table(const DataFolder& folder) {
    folder.write("train_x.npy", npy<float>("<f4", "(3, 2)", {1, 10, 2, 10, 3, 10}));
    folder.write("train_y.npy", npy<std::int64_t>("<i8", "(3,)", {0, 1, 1}));
    folder.write("test_x.npy", npy<float>("<f4", "(1, 2)", {2, 12}));
    folder.write("test_y.npy", npy<std::int64_t>("<i8", "(1,)", {1}));
}

}  // namespace

TEST_SUITE("core/data/npy") {
    TEST_CASE("a table of floats is standardized by its training samples, feature by feature") {
        const DataFolder folder;
        write_table(folder);
        const DataSplits data = load_data(options_of(folder), 1);
        CHECK(data.train.sample_shape() == Shape{1, 2});
        CHECK(data.train.classes() == 2);
        CHECK(std::ranges::equal(data.train.labels(), std::vector<std::int32_t>{0, 1, 1}));
        const std::vector<float> inputs = inputs_of(data.train);
        CHECK(inputs[0] == doctest::Approx(-1.2247449));
        CHECK(inputs[2] == 0);
        CHECK(inputs[1] == 0);  // a feature that does not vary is only centered
        CHECK(inputs_of(data.test) == std::vector<float>{0, 2});
        CHECK(data.preparation.mean == std::vector<double>{2, 10});
        CHECK(data.origin.count == 3);
    }

    TEST_CASE("images of bytes stay bytes, named as Keras names them, plain or compressed") {
        const DataFolder folder;
        folder.write("x_train.npy", npy<std::uint8_t>("|u1", "(2, 1, 3)", {0, 51, 102, 153, 204, 255}));
        folder.write_gz("y_train.npy", npy<std::uint8_t>("|u1", "(2,)", {1, 0}));
        folder.write("x_test.npy", npy<std::uint8_t>("|u1", "(1, 1, 3)", {1, 2, 3}));
        folder.write("y_test.npy", npy<std::int32_t>("<i4", "(1, 1)", {1}));
        const DataSplits data = load_data(options_of(folder), 1);
        CHECK(data.train.sample_shape() == Shape{1, 1, 3, 1});
        CHECK(data.train.pixels().size() == 6);
        CHECK(data.test.labels()[0] == 1);
        CHECK(data.preparation.mean[0] == doctest::Approx(0.5));
    }

    TEST_CASE("images of floats have a mean for each channel") {
        const DataFolder folder;
        write_table(folder);
        folder.write("train_x.npy", npy<double>("<f8", "(3, 1, 2, 2)", {0, 5, 2, 5, 0, 5, 2, 5, 0, 5, 2, 5}));
        folder.write("test_x.npy", npy<double>("<f8", "(1, 1, 2, 2)", {3, 6, 3, 6}));
        const DataSplits data = load_data(options_of(folder), 1);
        CHECK(data.train.sample_shape() == Shape{1, 1, 2, 2});
        CHECK(data.preparation.mean == std::vector<double>{1, 5});
        CHECK(inputs_of(data.test) == std::vector<float>{2, 1, 2, 1});
    }

    TEST_CASE("integers of 8 bytes keep what tells them apart though they are large") {
        const DataFolder folder;
        write_table(folder);
        constexpr std::int64_t kLarge = std::int64_t{1} << 40;
        folder.write("train_x.npy", npy<std::int64_t>("<i8", "(3, 2)", {kLarge - 1, 0, kLarge, 0, kLarge + 1, 0}));
        const std::vector<float> inputs = inputs_of(load_data(options_of(folder), 1).train);
        CHECK(inputs[0] == doctest::Approx(-1.2247449));
        CHECK(inputs[4] == doctest::Approx(1.2247449));
    }

    TEST_CASE("for regression the answers are numbers, also several for each sample") {
        const DataFolder folder;
        write_table(folder);
        folder.write("train_y.npy", npy<float>("<f4", "(3, 2)", {1, 2, 3, 4, 5, 6}));
        folder.write("test_y.npy", npy<float>("<f4", "(1, 2)", {7, 8}));
        DataOptions options = options_of(folder);
        CHECK(contains(error_of(options), "train_y.npy: expected [samples], found (3, 2)"));
        options.task = "regression";
        options.limit = 2;
        const DataSplits data = load_data(options, 1);
        CHECK(data.train.classes() == 0);
        CHECK(data.train.outputs() == 2);
        CHECK(data.train.size() == 2);
        CHECK(data.origin.count == 3);
        dither::Batch batch;
        data.train.gather(std::vector<std::uint32_t>{1}, batch);
        CHECK(batch.targets.values.values()[1] == 4);
    }

    TEST_CASE("arrays that do not fit together are errors that name the file and both numbers") {
        const DataFolder folder;
        const auto refused = [&](const char* name, const Bytes& bytes, const std::string& message) {
            write_table(folder);
            folder.write(name, bytes);
            return contains(error_of(options_of(folder)), message);
        };
        CHECK(refused("train_y.npy", npy<std::int64_t>("<i8", "(2,)", {0, 1}),
                      "train_y.npy: expected 3 answers, one for each sample of "));
        CHECK(refused("test_x.npy", npy<float>("<f4", "(1, 3)", {1, 2, 3}),
                      "test_x.npy: samples of shape [1, 3] with 1 answers, but those of "));
        CHECK(refused("train_y.npy", npy<std::int64_t>("<i8", "(3,)", {0, 1, -1}),
                      "train_y.npy: sample 2: expected a label, an integer >= 0, found -1"));
        CHECK(refused("test_y.npy", npy<std::int64_t>("<i8", "(1,)", {7}),
                      "test_y.npy: sample 0: label 7 is out of range: expected 0 .. 1"));
        CHECK(refused("train_y.npy", npy<float>("<f4", "(3,)", {0, 1, 1}),
                      "train_y.npy: expected integers, the labels of classes, found floats"));
        CHECK(refused("train_x.npy", npy<float>("<f4", "(3, 2)", {1, 2, 3, NAN, 5, 6}),
                      "train_x.npy: sample 1: expected finite numbers, found nan"));
        CHECK(refused("train_x.npy", npy<double>("<f8", "(3, 2)", {1e308, 2, 1e308, 4, 1e308, 6}), "too large"));
        CHECK(refused("train_x.npy", npy<float>("<f4", "(3,)", {1, 2, 3}),
                      "train_x.npy: expected 2 to 4 extents, [samples, features] or"));
    }

    TEST_CASE("a file that is no array of a known kind is an error that says which were expected") {
        const DataFolder folder;
        const auto refused = [&](const Bytes& bytes, const std::string& message) {
            write_table(folder);
            folder.write("train_x.npy", bytes);
            return contains(error_of(options_of(folder)), "train_x.npy: " + message);
        };
        const auto header = [](const std::string& text) { return npy_with_header(text, Bytes(24)); };
        Bytes good = npy<float>("<f4", "(3, 2)", {1, 2, 3, 4, 5, 6});

        CHECK(refused({'P', 'K', 3, 4, 0, 0, 0, 0}, "expected a .npy file, which begins with \"\\x93NUMPY\""));
        CHECK(refused({0x93, 'N', 'U'}, "truncated: it ends within the header"));
        CHECK(refused({0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 118, 0, '{'}, "truncated: it ends within the header"));
        CHECK(refused({0x93, 'N', 'U', 'M', 'P', 'Y', 9, 0, 0, 0}, "expected version 1, 2 or 3 of .npy, found 9"));
        CHECK(refused({0x93, 'N', 'U', 'M', 'P', 'Y', 2, 0, 255, 255, 255, 255},
                      "expected a header of up to 65536 bytes, found 4294967295"));
        CHECK(refused(header("{'descr': '|O', 'fortran_order': False, 'shape': (3, 1), }"),
                      "expected the type |u1, <i4, <i8, <f4 or <f8, found \"|O\""));
        CHECK(refused(header("{'descr': '>f4', 'fortran_order': False, 'shape': (3, 2), }"), "expected the type"));
        CHECK(refused(header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3, 2), }"),
                      "expected a header with 'descr', 'fortran_order' and 'shape', found"));
        CHECK(refused(header("{'descr': '<f4', 'fortran_order': True, 'shape': (3, 2), }"),
                      "expected C's order, found Fortran's"));
        for (const char* shape : {"()", "(3, 0)", "(-3, 2)", "(3, 1, 1, 1, 2)", "(4294967296, 4294967296)"})
            CHECK(refused(header(std::string("{'descr': '<f4', 'fortran_order': False, 'shape': ") + shape + ", }"),
                          "expected 1 to 4 extents"));
        for (const char* text : {"", "{", "{}", "{'descr': '<f4'}", "{'descr': '<f4', 'descr': '<f4'}",
                                 "{'descr': '<f4, 'fortran_order': False, 'shape': (3, 2)}",
                                 "{'descr': '<f4' 'fortran_order': False, 'shape': (3, 2)}",
                                 "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (3, 2)}",
                                 "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2}",
                                 "{'descr': '<f4', 'fortran_order': False, 'shape': (3 2)}",
                                 "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
                                 "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2)} x"})
            CHECK(refused(header(text), "expected a header with"));
        good.pop_back();
        CHECK(refused(good, "truncated: expected 24 bytes after the header, found 23"));
        good.insert(good.end(), 2, 0);
        CHECK(refused(good, "expected 24 bytes after the header, found more"));
        CHECK(refused(header("{'descr': '<f4', 'fortran_order': False, 'shape': (100000000, 1000), }"),
                      "truncated: expected 400000000000 bytes after the header, found 24"));
    }

    TEST_CASE("what is missing is named") {
        const DataFolder folder;
        write_table(folder);
        std::filesystem::remove(folder.file("test_y.npy"));
        CHECK(contains(error_of(options_of(folder)), "expected test_y.npy or y_test.npy, found neither"));
        CHECK(contains(error_of(DataOptions{.format = "npy", .path = folder.file("none")}),
                       "expected a folder of .npy files or a .npz file, and there is neither"));
    }

    TEST_CASE("images of bytes can be augmented, tables cannot") {
        const DataFolder folder;
        write_table(folder);
        DataOptions options = options_of(folder);
        options.augment = dither::Augmentation::crop_flip;
        CHECK(contains(error_of(options), "data.augment: only images of bytes are augmented"));
    }

    TEST_CASE("a damaged header is refused or read, never more") {
        const DataFolder folder;
        write_table(folder);
        const Bytes good = npy<float>("<f4", "(3, 2)", {1, 2, 3, 4, 5, 6});
        CHECK(rc::check([&] {
            Bytes bytes = good;
            const auto damages = *rc::gen::inRange(1, 4);
            for (int i = 0; i < damages; ++i)
                bytes[*rc::gen::inRange<std::size_t>(0, bytes.size())] = *rc::gen::arbitrary<std::uint8_t>();
            folder.write("train_x.npy", bytes);
            error_of(options_of(folder));
        }));
    }
}
