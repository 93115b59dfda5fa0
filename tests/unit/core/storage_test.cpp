#include "core/storage.hpp"

#include "core/error.hpp"
#include "tests/unit/temporary_folder.hpp"

#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <string>

#include <sys/resource.h>

using namespace dither;
using test::read_text;
using test::TemporaryFolder;

namespace fs = std::filesystem;

namespace {

std::ptrdiff_t entries(const fs::path& folder) {
    return std::distance(fs::directory_iterator(folder), fs::directory_iterator());
}

/// While it lives, no file of this process can be longer: as if the disk were full.
class SmallDisk {
public:
    explicit SmallDisk(rlim_t bytes) : heard_(std::signal(SIGXFSZ, SIG_IGN)) {
        ::getrlimit(RLIMIT_FSIZE, &before_);
        const rlimit small{bytes, before_.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &small);
    }
    SmallDisk(const SmallDisk&) = delete;
    SmallDisk& operator=(const SmallDisk&) = delete;
    ~SmallDisk() {
        ::setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, heard_);
    }

private:
    rlimit before_{};
    void (*heard_)(int);
};

}  // namespace

TEST_SUITE("core/storage") {
    TEST_CASE("a file is what was put in its place last, and there is nothing where nothing was put") {
        const TemporaryFolder folder;
        const auto storage = make_folder_storage(folder.path());
        CHECK_FALSE(storage->exists("file"));
        CHECK_FALSE(storage->read("file").has_value());
        CHECK(storage->read_part("file", 0, 10).empty());
        storage->replace("file", "old and longer");
        storage->replace("file", [](const ByteSink& sink) {
            sink("new");
            sink(" text");
        });
        CHECK(storage->exists("file"));
        CHECK(storage->read("file") == "new text");
        CHECK(entries(folder.path()) == 1);
    }

    TEST_CASE("a part of a file is as much of it as there is") {
        const TemporaryFolder folder;
        const auto storage = make_folder_storage(folder.path());
        storage->replace("file", "0123456789");
        CHECK(storage->read_part("file", 0, 3) == "012");
        CHECK(storage->read_part("file", 8, 5) == "89");
        CHECK(storage->read_part("file", 10, 5).empty());
        CHECK(storage->read_part("file", 1000, 5).empty());
        CHECK(storage->read_part("file", 2, std::string::npos) == "23456789");
    }

    TEST_CASE("a file whose writer fails half-way is as it was, and nothing is left behind") {
        const TemporaryFolder folder;
        const auto storage = make_folder_storage(folder.path());
        storage->replace("file", "whole");
        CHECK_THROWS_AS(storage->replace("file",
                                         [](const ByteSink& sink) {
                                             sink("half");
                                             throw std::runtime_error("no more");
                                         }),
                        std::runtime_error);
        {
            const SmallDisk full(64);
            CHECK_THROWS_AS(storage->replace("file", std::string(100, 'x')), DiskFull);
        }
        CHECK(storage->read("file") == "whole");
        CHECK(entries(folder.path()) == 1);
    }

    TEST_CASE("a file that grows goes on where it ended, whoever opens it") {
        const TemporaryFolder folder;
        const auto storage = make_folder_storage(folder.path());
        storage->open_append("log")->append("one ");
        const auto file = storage->open_append("log");
        CHECK(file->size() == 4);
        file->append("two");
        file->sync();
        CHECK(file->size() == 7);
        CHECK(read_text(folder.path() / "log") == "one two");
        file->truncate(3);
        CHECK(file->size() == 3);
        file->append("!");
        CHECK(storage->read("log") == "one!");
    }

    TEST_CASE("what a full disk does not take is not there, and the file can be used on") {
        const TemporaryFolder folder;
        const auto storage = make_folder_storage(folder.path());
        const auto file = storage->open_append("log");
        file->append("before");
        {
            const SmallDisk full(64);
            CHECK_THROWS_WITH_AS(file->append(std::string(100, 'x')), doctest::Contains("log: cannot write"), DiskFull);
        }
        CHECK(file->size() == 6);
        CHECK(storage->read("log") == "before");
        file->append(", after");
        file->sync();
        CHECK(storage->read("log") == "before, after");
    }

    TEST_CASE("a device without space left is a full disk") {
        const TemporaryFolder folder;
        fs::create_symlink("/dev/full", folder.path() / "log");
        CHECK_THROWS_AS(make_folder_storage(folder.path())->open_append("log")->append("x"), DiskFull);
    }

    TEST_CASE("failures name the file") {
        const TemporaryFolder folder;
        fs::create_directory(folder.path() / "occupied");
        const auto storage = make_folder_storage(folder.path());
        CHECK_THROWS_WITH_AS(storage->open_append("occupied"), doctest::Contains("occupied: cannot open"), IoError);
        CHECK_THROWS_WITH_AS(storage->read("occupied"), doctest::Contains("occupied: cannot"), IoError);
        CHECK_THROWS_AS(storage->replace("occupied", "x"), IoError);
        CHECK_THROWS_AS(storage->read("../file"), PreconditionError);
    }
}
