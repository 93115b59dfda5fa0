#include "examples/study/study_file.hpp"

#include <doctest/doctest.h>

#include <string>

#include "core/error.hpp"
#include "examples/study/cells.hpp"
#include "examples/study/comparison.hpp"

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
        CHECK(study.grid_point(0)[0].text == "1");
        CHECK(study.grid_point(3)[0].text == "2");
        CHECK(study.grid_point(3)[1].text == "5");
    }

    TEST_CASE("an axis of named choices sets several keys at once, in the order of the file") {
        const StudyText with = text(kStudy +
                                    "[grid.size]\n\"small\" = { train.epochs = 4, model.name = \"mlp\" }\n"
                                    "\"large\" = { \"train.epochs\" = 5 }\n");
        const Study study = parse_study(with);
        REQUIRE(study.grid_points() == 2);
        CHECK(study.grid_point(0)[0].text == "small");
        CHECK(study.grid_point(1)[0].text == "large");
        CHECK(point_label(study, 1) == "size = large");
        const StudyPlan plan = plan_cells(study, with);
        CHECK(says(plan.cells[0].job, "name = \"mlp\"\n"));
        CHECK(says(plan.cells[0].job, "epochs = 4\n"));
        CHECK(says(failure(text(kStudy + "[grid.size]\n\"small\" = { \"train.optimizer.lr\" = 1 }\n")),
                   "sets train.optimizer.lr, which the grid varies"));
        CHECK(says(failure(text(kStudy + "[grid.size]\n\"small\" = 4\n")), "a table of a job's keys"));
    }

    TEST_CASE("a profile runs some methods only, and plots leave out the others") {
        const std::string plots =
            "[[plot]]\nkind = \"bars\"\nname = \"both\"\nmetric = \"m\"\nmethods = [\"a\", \"b\"]\n"
            "[[plot]]\nkind = \"bars\"\nname = \"b\"\nmetric = \"m\"\nmethods = [\"b\"]\n";
        const StudyText with = text(kStudy + plots + "[profile.p]\nmethods = [\"a\"]\n", "p");
        const Study study = parse_study(with);
        REQUIRE(study.methods.size() == 1);
        CHECK(study.methods[study.baseline].name == "a");
        REQUIRE(study.plots.size() == 1);
        CHECK(study.plots[0].methods == std::vector<std::size_t>{0});
        CHECK(plan_cells(study, with).rows.size() == 2);
        CHECK(says(failure(text(kStudy + "[profile.p]\nmethods = [\"b\"]\n", "p")), "the baseline \"a\""));
        CHECK(says(failure(text(kStudy + "[profile.p]\nmethods = [\"c\"]\n", "p")), "no method \"c\""));
    }

    TEST_CASE("an evaluation's {key} is the cell's value of it, and must be a key of the job") {
        const std::string job = "[precision]\nbits = 4\npolicy = \"uniform\"\n[train]\noptimizer = { lr = 0.5 }\n";
        CHECK(fill_in({"--weights", "{precision.bits}", "--set=x={precision.policy}/{train.optimizer.lr}", "{", "{}"},
                      job) == std::vector<std::string>{"--weights", "4", "--set=x=uniform/0.5", "{", "{}"});
        const std::string odd = "[job]\nname = \"{job.name} of {data}\"\n";  // a value is taken as it is
        CHECK(fill_in({"-{job.name}-"}, odd) == std::vector<std::string>{"-{job.name} of {data}-"});
        CHECK(says(failure(text(kStudy + "[[evaluate]]\nname = \"e\"\narguments = [\"{precision.bit}\"]\n")),
                   "[[evaluate]] \"e\": there is no key precision.bit"));
        CHECK(says(failure(text(kStudy + "[[evaluate]]\nname = \"e\"\narguments = [\"{precision}\"]\n")),
                   "there is no key precision"));
    }

    TEST_CASE("a plot that is to be apart is one for each point of the grid") {
        const std::string plot = "[[plot]]\nkind = \"bars\"\nname = \"x\"\nmetric = \"m\"\napart = true\n";
        const Study study = parse_study(text(kStudy + "[grid]\n\"train.epochs\" = [4, 5]\n" + plot));
        REQUIRE(study.plots.size() == 2);
        CHECK(study.plots[1].name == "x-2");
        CHECK(study.plots[1].title == "x: epochs = 5");
        CHECK(study.plots[1].points == std::vector<std::size_t>{1});
    }

    TEST_CASE("lists have a label each, and are not of many rounds") {
        const std::string plot = "[[plot]]\nkind = \"lists\"\nname = \"x\"\n";
        const Study study = parse_study(text(kStudy + plot + "y = [\"summary.a\", \"round[2].b\"]\n"));
        CHECK(study.plots[0].labels == std::vector<std::string>{"summary.a", "round[2].b"});
        CHECK(says(failure(text(kStudy + plot + "y = [\"summary.a\"]\nlabels = [\"one\", \"two\"]\n")), "expected 1"));
        CHECK(says(failure(text(kStudy + plot + "y = [\"rounds.mean.a\"]\n")), "one list of a run"));
        CHECK(says(failure(text(kStudy + plot + "y = []\n")), "a list of paths"));
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
        CHECK(says(failure(text(kStudy + "[grid]\n\"train.epochs\" = [1, 2]\n[grid.p]\none = { train.epochs = 3 }\n")),
                   "the axes train.epochs and p both set train.epochs"));
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
