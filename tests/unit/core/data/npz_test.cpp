#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "tests/unit/core/data/npy_files.hpp"

#include <doctest/doctest.h>

#ifdef DITHER_WITH_NPZ
#include <zip.h>
#endif

using dither::Bytes;
using dither::contains;
using dither::DataFolder;
using dither::DataOptions;
using dither::DataSplits;
using dither::npy;

namespace {

#ifdef DITHER_WITH_NPZ
struct Member {
    std::string name;
    Bytes bytes;
    zip_int32_t method = ZIP_CM_DEFLATE;
};

std::string write_npz(const DataFolder& folder, const std::vector<Member>& members) {
    const std::string path = folder.file("set.npz");
    zip_t* const archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, nullptr);
    REQUIRE(archive != nullptr);
    for (const Member& member : members) {
        zip_source_t* const source = zip_source_buffer(archive, member.bytes.data(), member.bytes.size(), 0);
        const zip_int64_t index = zip_file_add(archive, member.name.c_str(), source, 0);
        REQUIRE(index >= 0);
        REQUIRE(zip_set_file_compression(archive, static_cast<zip_uint64_t>(index), member.method, 0) == 0);
    }
    REQUIRE(zip_close(archive) == 0);
    return path;
}

std::vector<Member> small_set() {
    Bytes zeros(6000);
    zeros[0] = 255;
    return {{"x_train.npy", npy<std::uint8_t>("|u1", "(3, 20, 100)", zeros)},
            {"y_train.npy", npy<std::int64_t>("<i8", "(3,)", {0, 1, 2}), ZIP_CM_STORE},
            {"x_test.npy", npy<std::uint8_t>("|u1", "(1, 20, 100)", Bytes(2000, 7))},
            {"y_test.npy", npy<std::int64_t>("<i8", "(1,)", {2})}};
}
#endif

}  // namespace

TEST_SUITE("core/data/detail/npz") {
#ifdef DITHER_WITH_NPZ
    TEST_CASE("the members of a .npz file, stored or deflated, are read as the files of a folder are") {
        const DataFolder folder;
        const DataSplits data = dither::load_data({.format = "npy", .path = write_npz(folder, small_set())}, 1);
        CHECK(data.train.sample_shape() == dither::Shape{1, 20, 100, 1});
        CHECK(data.train.pixels()[0] == 255);
        CHECK(data.train.size() == 3);
        CHECK(data.test.labels()[0] == 2);
    }

    TEST_CASE("a damaged or strange archive is an error that names the member") {
        const DataFolder folder;
        const auto error_of_path = [](const std::string& path) {
            return error_of(DataOptions{.format = "npy", .path = path});
        };
        std::vector<Member> members = small_set();
        members.pop_back();
        CHECK(contains(error_of_path(write_npz(folder, members)), "expected test_y.npy or y_test.npy, found neither"));

        members = small_set();
        members[0].bytes.pop_back();
        CHECK(contains(error_of_path(write_npz(folder, members)),
                       "set.npz:x_train.npy: truncated: expected 6000 bytes after the header, found 5999"));

        const std::string path = write_npz(folder, small_set());
        Bytes bytes = dither::read_bytes(path);
        bytes[80] ^= 0x55;  // within the first member's compressed bytes
        folder.write("damaged.npz", bytes);
        CHECK(contains(error_of_path(folder.file("damaged.npz")), "damaged.npz:x_train.npy: "));
        bytes.resize(bytes.size() / 2);
        folder.write("half.npz", bytes);
        CHECK(contains(error_of_path(folder.file("half.npz")), "half.npz: "));
        if (zip_compression_method_supported(ZIP_CM_BZIP2, 1) != 0) {
            members = small_set();
            members[0].method = ZIP_CM_BZIP2;
            CHECK(contains(error_of_path(write_npz(folder, members)), "expected it stored or deflated"));
        }
    }
#else
    TEST_CASE("a build without libzip says that it reads no .npz files") {
        const DataFolder folder;
        CHECK(
            contains(error_of(DataOptions{.format = "npy", .path = folder.write("set.npz", "PK")}), "DITHER_NPZ=OFF"));
    }
#endif
}
