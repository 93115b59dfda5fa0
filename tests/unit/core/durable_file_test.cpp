#include "core/durable_file.hpp"

#include "core/error.hpp"
#include "tests/unit/temporary_folder.hpp"

#include <doctest/doctest.h>

using namespace dither;
using test::read_text;
using test::TemporaryFolder;

namespace fs = std::filesystem;

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
        CHECK_FALSE(fs::exists(folder.path() / "summary.json.tmp"));
        const fs::path nowhere = folder.path() / "missing" / "file";
        CHECK_THROWS_AS(write_durably(nowhere, "text"), IoError);
    }
}
