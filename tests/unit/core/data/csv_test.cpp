#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "tests/unit/core/data/small_files.hpp"

#include <doctest/doctest.h>

#include <cmath>

using dither::contains;
using dither::DataFolder;
using dither::DataOptions;
using dither::DataSplits;
using dither::inputs_of;
using dither::load_data;

namespace {

DataOptions options_of(const DataFolder& folder, const std::string& text) {
    return {.format = "csv", .path = folder.write("t.csv", text)};
}

}  // namespace

TEST_SUITE("core/data/csv") {
    TEST_CASE("missing values become the mean of the training rows that have one, and a note counts them") {
        for (const char* missing : {"", " ", "NA", "NaN", "?"}) {
            const DataFolder folder;
            std::string text = "a,b,y\n";
            for (int i = 0; i < 20; ++i)
                text += fmt::format("{},{},{}\n", i, i % 4 == 0 ? missing : std::to_string(i * i), i % 2);
            const DataSplits data = load_data(options_of(folder, text), 1);
            REQUIRE(data.notes.size() == 1);
            CHECK(contains(data.notes[0], "t.csv: 5 missing values in 1 columns are taken as their column's mean"));
            double sum = 0;
            std::size_t count = 0;
            const std::vector<float> inputs = inputs_of(data.train);
            for (std::size_t row = 0; row < data.train.size(); ++row) {
                const auto line = data.origin.rows[row];
                CHECK((std::abs(inputs[row * 2 + 1]) < 1e-6F) == (line % 4 == 0));
                sum += line % 4 == 0 ? 0 : line * line;
                count += line % 4 == 0 ? 0 : 1;
            }
            CHECK(data.preparation.mean[1] == doctest::Approx(sum / static_cast<double>(count)));
        }
        const DataFolder folder;
        CHECK(load_data(options_of(folder, "1,0\n2,1\n3,0\n"), 1).notes.empty());
    }

    TEST_CASE("a column without a name is a feature like any other") {
        const DataFolder folder;
        const DataSplits data = load_data(options_of(folder, ",x,y\n0,1,0\n1,2,1\n2,3,0\n"), 1);
        CHECK(data.train.sample_shape() == dither::Shape{1, 2});
        CHECK(data.train.groups().empty());
    }

    TEST_CASE("a column that is the same everywhere is only centered, whatever rounding does to its mean") {
        const DataFolder folder;
        const DataSplits data = load_data(options_of(folder, "0.1,0\n0.1,1\n0.1,0\n0.1,1\n"), 1);
        CHECK(data.preparation.mean[0] == 0.1);
        CHECK(data.preparation.deviation[0] == 1);
    }

    TEST_CASE("a column that no float can standardize is named, before any node is told of it") {
        for (const char* value : {"1e40", "1e200"}) {
            const DataFolder folder;
            const std::string text =
                fmt::format("{},0\n-{},1\n{},0\n-{},1\n{},0\n-{},1\n", value, value, value, value, value, value);
            CHECK(contains(error_of(options_of(folder, text)), "input 0 cannot be standardized"));
        }
    }

    TEST_CASE("what is missing elsewhere becomes the mean that the preparation says") {
        const DataFolder folder;
        DataOptions options = options_of(folder, "a,y\n?,0\n?,1\n?,0\n");
        CHECK(contains(error_of(options), "t.csv: column \"a\" has no value in any training row"));
        options.mean = {5};
        options.deviation = {2};
        const DataSplits data = load_data(options, 1);
        CHECK(inputs_of(data.train) == std::vector<float>{0, 0});
        CHECK(contains(data.notes[0], "3 missing values"));
    }

    TEST_CASE("a column of text is an error that names it and the line, and so is a missing label") {
        const DataFolder folder;
        CHECK(contains(error_of(options_of(folder, "age,city,y\n1,2,0\n3,Paris,1\n")),
                       "t.csv:3:3: expected a finite number, found \"Paris\" in column \"city\""));
        CHECK(contains(error_of(options_of(folder, "1,2,0\n3,x,1\n")), "found \"x\" in column 2"));
        CHECK(contains(error_of(options_of(folder, "a,y\n1,0\n2,\n")),
                       "t.csv:3: expected a label in column \"y\", found none"));
    }

    TEST_CASE("the column of the groups holds any text, is no feature and follows the shuffle of the rows") {
        const DataFolder folder;
        std::string text = "x,patient,y\n";
        for (int i = 0; i < 30; ++i)
            text += fmt::format("{},{} of {},{}\n", i, i % 3 == 0 ? "Ann" : "Bob", i % 5, i % 2);
        DataOptions options = options_of(folder, text);
        CHECK(contains(error_of(options), "found \"Ann of 0\" in column \"patient\""));
        options.groups = "patient";
        const DataSplits data = load_data(options, 1);
        CHECK(data.train.sample_shape() == dither::Shape{1, 1});
        const auto groups = data.train.groups();
        REQUIRE(groups.size() == 24);
        std::uint32_t next = 0;
        for (std::size_t i = 0; i < groups.size(); ++i) {
            CHECK(groups[i] <= next);  // in the order of first appearance
            next = std::max(next, groups[i] + 1);
            for (std::size_t j = 0; j < i; ++j) {
                const auto who = [&](std::size_t k) {
                    return std::pair(data.origin.rows[k] % 3 == 0, data.origin.rows[k] % 5);
                };
                CHECK((groups[i] == groups[j]) == (who(i) == who(j)));
            }
        }
        CHECK(data.test.groups().empty());
        options.limit = 5;
        CHECK(load_data(options, 1).train.groups().size() == 5);
        options.label = "patient";
        CHECK(contains(error_of(options), "data.groups: column \"patient\" of "));
        options.label = "last";
        CHECK(contains(error_of(options_of(folder, "patient,y\nA,0\nB,1\n")), "found \"A\""));
        options.path = folder.write("t.csv", "patient,y\nA,0\nB,1\n");
        CHECK(contains(error_of(options), "t.csv: expected a column beside the label and the groups"));
    }
}
