#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/error.hpp"
#include "tests/unit/core/data/npy_files.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using dither::contains;
using dither::DataFolder;
using dither::Dataset;
using dither::DataSplits;
using dither::Job;
using dither::load_data_to_deal;
using dither::npy;

namespace {

/// Five training samples.
Job job_of(const DataFolder& folder, const std::string& lines) {
    folder.write("train_x.npy", npy<float>("<f4", "(5, 1)", {0, 1, 2, 3, 4}));
    folder.write("train_y.npy", npy<std::int64_t>("<i8", "(5,)", {0, 1, 1, 0, 0}));
    folder.write("test_x.npy", npy<float>("<f4", "(1, 1)", {2}));
    folder.write("test_y.npy", npy<std::int64_t>("<i8", "(1,)", {1}));
    Job job;
    job.data.format = "npy";
    job.data.path = folder.str();
    job.data.groups = folder.write("who.txt", lines);
    job.federation.partition.kind = "natural";
    return job;
}

std::vector<std::uint32_t> groups_of(const Job& job) {
    const DataSplits data = load_data_to_deal(job);
    return {data.train.groups().begin(), data.train.groups().end()};
}

std::string error_of(const Job& job) {
    try {
        load_data_to_deal(job);
    } catch (const dither::InputError& error) {
        return error.what();
    }
    return {};
}

}  // namespace

TEST_SUITE("core/data/groups") {
    TEST_CASE("equal lines are one group, in the order of their first appearance, whatever ends a line") {
        const DataFolder folder;
        const std::vector<std::uint32_t> expected{0, 1, 0, 2, 1};
        CHECK(groups_of(job_of(folder, "Bob\nAnn\nBob\n\nAnn\n")) == expected);
        CHECK(groups_of(job_of(folder, "Bob\r\nAnn\r\nBob\r\n\r\nAnn")) == expected);
    }

    TEST_CASE("with a limit the first lines count") {
        const DataFolder folder;
        Job job = job_of(folder, "c\nb\na\nb\nc\n");
        job.data.limit = 3;
        CHECK(groups_of(job) == std::vector<std::uint32_t>{0, 1, 2});
    }

    TEST_CASE("another number of lines than samples is an error that names both") {
        const DataFolder folder;
        CHECK(contains(error_of(job_of(folder, "a\nb\nc\nd\n")),
                       "who.txt: expected 5 lines, one for each training sample of "));
        CHECK(contains(error_of(job_of(folder, "a\nb\nc\nd\ne\nf\n")), ", found 6"));
        Job job = job_of(folder, "");
        CHECK(contains(error_of(job), ", found 0"));
        job.data.groups = folder.file("none.txt");
        CHECK(contains(error_of(job), "data.groups: expected a text file, found \""));
        job.data.format = "csv";
        job.data.path = folder.write("t.csv", "a,y\n1,0\n2,1\n");
        CHECK(contains(error_of(job), "data.groups: expected a text file or a name in the header of "));
    }

    TEST_CASE("the lines of a table's groups are those of its rows") {
        const DataFolder folder;
        Job job = job_of(folder, "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
        std::string text;
        for (int i = 0; i < 10; ++i)
            text += fmt::format("{},{}\n", i, i % 2);
        job.data.format = "csv";
        job.data.path = folder.write("t.csv", text);
        job.federation.partition.kind = "natural";
        const DataSplits data = load_data_to_deal(job);
        CHECK(data.train.groups().size() == 8);  // all different
        CHECK(*std::ranges::max_element(data.train.groups()) == 7);
        job.data.groups = folder.write("who.txt", "same\nsame\nsame\nsame\nsame\nsame\nsame\nsame\nsame\n");
        CHECK(contains(error_of(job), "expected 10 lines, one for each sample of "));
    }

    TEST_CASE("only who deals a natural partition opens the file") {
        const DataFolder folder;
        Job job = job_of(folder, "a\n");
        CHECK(load_data(job.data, 1).train.groups().empty());
        job.federation.partition.kind = "iid";
        CHECK(load_data_to_deal(job).train.groups().empty());
    }

    TEST_CASE("a set's first samples keep their groups") {
        const Dataset data = Dataset({1, 1}, std::vector<float>{1, 2, 3}, {0, 0, 1}, 2, {}, 2).with_groups({0, 1, 0});
        CHECK(data.first(2).groups().size() == 2);
        CHECK_THROWS_AS(Dataset({1, 1}, std::vector<float>{1}, {0}, 1, {}, 1).with_groups({0, 1}),
                        dither::PreconditionError);
    }
}
