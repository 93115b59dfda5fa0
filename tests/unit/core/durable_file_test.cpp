#include "core/durable_file.hpp"

#include "core/error.hpp"
#include "tests/unit/temporary_folder.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <filesystem>
#include <iterator>
#include <string>
#include <thread>

using namespace dither;
using test::read_text;
using test::TemporaryFolder;

namespace fs = std::filesystem;

namespace {

std::ptrdiff_t entries(const fs::path& folder) {
    return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
}

}  // namespace

TEST_SUITE("core/durable_file") {
    TEST_CASE("write_durably replaces a file whole") {
        const TemporaryFolder folder;
        const fs::path file = folder.path() / "summary.json";
        write_durably(file, "old and longer");
        write_durably(file, "new");
        CHECK(read_text(file) == "new");
    }

    TEST_CASE("a write that fails names the file and leaves nothing behind") {
        const TemporaryFolder folder;
        const fs::path occupied = folder.path() / "summary.json";
        fs::create_directories(occupied / "inside");
        CHECK_THROWS_AS(write_durably(occupied, "text"), IoError);
        CHECK(entries(folder.path()) == 1);
        const fs::path nowhere = folder.path() / "missing" / "file";
        CHECK_THROWS_AS(write_durably(nowhere, "text"), IoError);
    }

    TEST_CASE("threads that replace one file never fail, and it is always whole") {
        const TemporaryFolder folder;
        const fs::path file = folder.path() / "file";
        write_durably(file, std::string(5000, 'a'));
        std::atomic<int> defects{0};
        const auto work = [&](char letter) {
            for (int i = 0; i < 100; ++i) {
                try {
                    write_durably(file, std::string(5000, letter));
                } catch (const IoError&) {
                    ++defects;
                }
                const std::string text = read_text(file);
                if (text.size() != 5000 || text != std::string(5000, text[0]))
                    ++defects;
            }
        };
        {
            const std::jthread one(work, 'a');
            const std::jthread other(work, 'b');
        }
        CHECK(defects == 0);
        CHECK(entries(folder.path()) == 1);
    }

    TEST_CASE("the temporary file of a writer that was killed goes with the next write, and no other file") {
        const TemporaryFolder folder;
        for (const char* name : {"file.123-0.tmp", "file.123.tmp", "file.old-0.tmp", "file.tmp", "other.123-0.tmp"})
            test::write_text(folder.path() / name, "half");
        write_durably(folder.path() / "file", "whole");
        CHECK_FALSE(fs::exists(folder.path() / "file.123-0.tmp"));
        CHECK(entries(folder.path()) == 5);
    }

    TEST_CASE("folders are made with all that is missing above them") {
        const TemporaryFolder folder;
        const fs::path deep = folder.path() / "a" / "b" / "c";
        create_folders(deep);
        CHECK(fs::is_directory(deep));
        CHECK_NOTHROW(create_folders(deep));
        CHECK_NOTHROW(create_folders(folder.path() / "d" / ""));
        write_durably(folder.path() / "occupied", "");
        CHECK_THROWS_AS(create_folders(folder.path() / "occupied"), IoError);
        CHECK_THROWS_AS(create_folders(folder.path() / "occupied" / "below"), IoError);
    }
}
