#include "examples/study/study_file.hpp"

#include <doctest/doctest.h>

#include <string>

#include "core/error.hpp"
#include "examples/study/cells.hpp"

using namespace dither;

namespace {

const std::string kStudy = R"([study]
name = "s"
job = "job.toml"
seeds = [3, 7]
set = { job.rounds = 2 }
[[method]]
name = "a"
[[method]]
name = "b"
set = { "train.optimizer.lr" = 0.1, precision.levels = [8, 32] }
[[metric]]
name = "m"
from = "summary.final_loss"
)";

StudyText text(const std::string& study, const std::string& profile = "full") {
    return {.study_file = "study.toml",
            .study = study,
            .job_file = "job.toml",
            .job = "[job]\nrounds = 9\n",
            .profile = profile};
}

std::string failure(const StudyText& text) {
    try {
        plan_cells(parse_study(text), text);
    } catch (const InputError& error) {
        return error.what();
    }
    return "";
}

bool says(const std::string& message, const std::string& part) {
    return message.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE("examples/study/study_file") {
    TEST_CASE("settings are keys of a job, dotted or as tables, with their values as TOML") {
        const Study study = parse_study(text(kStudy));
        REQUIRE(study.methods.size() == 2);
        REQUIRE(study.methods[1].settings.size() == 2);
        CHECK(study.methods[1].settings[0].text() == "precision.levels=[8, 32]");
        CHECK(study.methods[1].settings[1].text() == "train.optimizer.lr=0.1");
        CHECK(study.seeds == std::vector<std::uint32_t>{3, 7});
        CHECK(study.baseline == 0);
        CHECK(study.tables == std::vector<std::size_t>{0});
    }

    TEST_CASE("the grid's points are all combinations, the last axis fastest") {
        const Study study =
            parse_study(text(kStudy + "[grid]\n\"federation.cohort\" = [1, 2, 3]\n\"train.epochs\" = [4, 5]\n"));
        CHECK(study.grid_points() == 6);
        CHECK(study.grid_point(0)[0].value == "1");
        CHECK(study.grid_point(3)[0].value == "2");
        CHECK(study.grid_point(3)[1].value == "5");
    }

    TEST_CASE("the last that sets a key wins: job, study, method, grid, profile, command line") {
        StudyText with = text(kStudy +
                                  "[grid]\n\"train.epochs\" = [4]\n[profile.p]\nseeds = 1\nset = { job.rounds = 3, "
                                  "train.epochs = 5, train.batch_size = 7 }\n",
                              "p");
        with.overrides = {"train.batch_size=8"};
        const StudyPlan plan = plan_cells(parse_study(with), with);
        REQUIRE(plan.cells.size() == 2);
        CHECK(says(plan.cells[0].job, "rounds = 3\n"));
        CHECK(says(plan.cells[0].job, "epochs = 5\n"));
        CHECK(says(plan.cells[0].job, "batch_size = 8\n"));
        CHECK(says(plan.cells[0].job, "seed = 1\n"));
        CHECK(says(plan.cells[1].job, "lr = 0.1,"));
    }

    TEST_CASE("equal jobs are one cell, whatever methods they are of, and cells come seed by seed") {
        const StudyText with = text(kStudy + "[[method]]\nname = \"a again\"\nset = { job.rounds = 2 }\n");
        const StudyPlan plan = plan_cells(parse_study(with), with);
        CHECK(plan.rows.size() == 6);
        REQUIRE(plan.cells.size() == 4);
        CHECK(plan.rows[0].cell == plan.rows[4].cell);
        CHECK(plan.rows[0].cell == plan.cells[0].hash);
        CHECK(plan.rows[2].cell == plan.cells[1].hash);
        CHECK(plan.rows[1].cell == plan.cells[2].hash);
    }

    TEST_CASE("where the output goes makes no other cell") {
        StudyText with = text(kStudy);
        const StudyPlan plan = plan_cells(parse_study(with), with);
        with.job += "[output]\ndir = \"elsewhere\"\npictures = false\n";
        CHECK(plan_cells(parse_study(with), with).cells[0].hash == plan.cells[0].hash);
    }

    TEST_CASE("a combination of options that cannot be is a problem of its rows alone") {
        const StudyText with = text(kStudy + "[grid]\n\"federation.cohort\" = [2, 5000]\n");
        const StudyPlan plan = plan_cells(parse_study(with), with);
        CHECK(plan.cells.size() == 4);
        CHECK(plan.rows[0].problem.empty());
        CHECK(says(plan.rows[2].problem, "federation.cohort = 5000"));
        CHECK(plan.rows[2].cell.empty());
    }

    TEST_CASE("what a study sets wrongly is said at its line") {
        CHECK(says(failure(text(kStudy + "[[method]]\nname = \"c\"\nset = { \"train.epoch\" = 3 }\n")),
                   "study.toml:16:9: unknown key train.epoch; the nearest known one is train.epochs"));
        CHECK(says(failure(text(kStudy + "[grid]\n\"train.epochs\" = [1, \"two\"]\n")), "study.toml:15:"));
        CHECK(says(failure(text(kStudy + "[grid]\n\"train.epochs\" = []\n")), "expected a list of values"));
        CHECK(says(failure(text(kStudy + "[grid]\n\"job.seed\" = [1]\n")), "study.seeds"));
        CHECK(says(failure(text(kStudy + "[[method]]\nname = \"a\"\n")), "another one of this name"));
        CHECK(says(failure(text(kStudy + "[[metric]]\nname = \"n\"\nfrom = \"summary.x\"\nformat = \"3f\"\n")), ".3f"));
        CHECK(says(failure(text(kStudy + "[[metric]]\nname = \"n\"\nfrom = \"summary.x\"\nbetter = \"more\"\n")),
                   "lower"));
        CHECK(says(failure(text(kStudy + "[[plot]]\nkind = \"bars\"\nname = \"../x\"\nmetric = \"m\"\n")), "letters"));
        CHECK(says(failure(text(kStudy + "[profile.full]\nseeds = 3\n")), "choose another"));
        CHECK(says(failure(text(kStudy + "[study]\n")), "study.toml:14:"));
        CHECK(says(failure(text("")), "[study]"));
    }
}
