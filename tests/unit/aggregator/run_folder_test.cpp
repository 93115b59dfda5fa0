#include "aggregator/run_folder.hpp"

#include "core/error.hpp"
#include "tests/unit/aggregator/fixtures.hpp"
#include "tests/unit/aggregator/memory_storage.hpp"

#include <doctest/doctest.h>

using namespace dither;
using test::MemoryStorage;
using test::read_text;
using test::TemporaryFolder;
using test::write_text;

namespace fs = std::filesystem;

namespace {

std::string refusal_of(const fs::path& folder, bool resume) {
    try {
        RunFolder run(folder, resume);
    } catch (const InputError& e) {
        return e.what();
    }
    return "";
}

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_SUITE("aggregator/run_folder") {
    TEST_CASE("a fresh run makes its folder, and any above it") {
        const TemporaryFolder folder;
        const RunFolder run(folder.path() / "runs" / "one", false);
        CHECK(fs::is_directory(folder.path() / "runs" / "one"));
        CHECK(run.checkpoint_file() == folder.path() / "runs" / "one" / "model.dither");
    }

    TEST_CASE("a folder serves one run at a time, and the next one when that is over") {
        const TemporaryFolder folder;
        {
            const RunFolder run(folder.path(), false);
            CHECK(contains(refusal_of(folder.path(), false), "is in use by another process"));
            CHECK(contains(refusal_of(folder.path(), true), "is in use by another process"));
        }
        CHECK(refusal_of(folder.path(), false).empty());
    }

    TEST_CASE("a folder that holds a run is refused to a fresh one, and nothing is created") {
        for (const std::string left : {"model.dither", "rounds.jsonl", "summary.json", "journal.dither"}) {
            CAPTURE(left);
            const TemporaryFolder folder;
            write_text(folder.path() / left, "x");
            CHECK(contains(refusal_of(folder.path(), false), "already holds a run; use --resume or another folder"));
            CHECK_FALSE(fs::exists(folder.path() / ".lock"));
        }
    }

    TEST_CASE("other people's files do not stand in the way") {
        const TemporaryFolder folder;
        write_text(folder.path() / "notes.txt", "mine");
        CHECK(refusal_of(folder.path(), false).empty());
        CHECK(read_text(folder.path() / "notes.txt") == "mine");
    }

    TEST_CASE("a run resumes only where a checkpoint is, and a refusal creates nothing") {
        const TemporaryFolder folder;
        const fs::path missing = folder.path() / "missing";
        CHECK(contains(refusal_of(missing, true), "holds no checkpoint to resume from"));
        CHECK_FALSE(fs::exists(missing));
        write_text(folder.path() / "model.dither", "x");
        CHECK(refusal_of(folder.path(), true).empty());
    }

    TEST_CASE("a file is no folder") {
        const TemporaryFolder folder;
        write_text(folder.path() / "file", "x");
        CHECK(contains(refusal_of(folder.path() / "file", false), "is a file, expected a folder"));
        CHECK(contains(refusal_of(folder.path() / "file" / "below", false), "cannot create the folder"));
    }

    TEST_CASE("the log keeps the rounds up to the checkpoint and continues behind them") {
        const TemporaryFolder folder;
        const fs::path log = folder.path() / "rounds.jsonl";
        RunFolder run(folder.path(), false);
        write_text(log, "{\"round\":1}\n{\"round\":2}\n{\"round\":3}\n");
        CHECK(run.open_log(2) == 2);
        run.append_round("{\"round\":3,\"again\":true}");
        CHECK(read_text(log) == "{\"round\":1}\n{\"round\":2}\n{\"round\":3,\"again\":true}\n");
    }

    TEST_CASE("a line that was torn in writing is dropped") {
        const TemporaryFolder folder;
        const fs::path log = folder.path() / "rounds.jsonl";
        RunFolder run(folder.path(), false);
        write_text(log, "{\"round\":1}\n{\"round\":2,\"train_lo");
        CHECK(run.open_log(2) == 1);
        CHECK(read_text(log) == "{\"round\":1}\n");
    }

    TEST_CASE("a whole line that lacks its newline is kept") {
        const TemporaryFolder folder;
        const fs::path log = folder.path() / "rounds.jsonl";
        RunFolder run(folder.path(), false);
        write_text(log, "{\"round\":1}");
        CHECK(run.open_log(5) == 1);
        run.append_round("{\"round\":2}");
        CHECK(read_text(log) == "{\"round\":1}\n{\"round\":2}\n");
    }

    TEST_CASE("a log starts empty, and nothing is appended before it is open") {
        const TemporaryFolder folder;
        RunFolder run(folder.path(), false);
        CHECK_THROWS_AS(run.append_round("{}"), PreconditionError);
        CHECK(run.open_log(0) == 0);
        CHECK(fs::exists(folder.path() / "rounds.jsonl"));
    }

    TEST_CASE("whether a folder holds a run is seen by its checkpoint") {
        const TemporaryFolder folder;
        CHECK_FALSE(RunFolder::holds_run(folder.path()));
        CHECK_FALSE(RunFolder::holds_run(folder.path() / "missing"));
        write_text(folder.path() / "rounds.jsonl", "{}\n");
        CHECK_FALSE(RunFolder::holds_run(folder.path()));
        write_text(folder.path() / "model.dither", "x");
        CHECK(RunFolder::holds_run(folder.path()));
    }

    TEST_CASE("a run can live on any storage, by the same rules and without a lock") {
        MemoryStorage::State disk;
        CHECK_THROWS_AS(RunFolder(std::make_unique<MemoryStorage>(disk), true), InputError);
        {
            RunFolder run(std::make_unique<MemoryStorage>(disk), false);
            RunFolder other(std::make_unique<MemoryStorage>(disk), false);
            run.open_log(0);
            run.append_round("{\"round\":1}");
        }
        MemoryStorage::lose_unsynced(disk);
        CHECK(disk.files.at("rounds.jsonl").bytes == "{\"round\":1}\n");
        CHECK_THROWS_AS(RunFolder(std::make_unique<MemoryStorage>(disk), false), InputError);
        disk.files["model.dither"] = {"x", 1};
        CHECK_NOTHROW(RunFolder(std::make_unique<MemoryStorage>(disk), true));
    }
}
