#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "tests/unit/core/data/small_files.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>
#include <algorithm>

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#include <stb/stb_image_write.h>

using dither::Bytes;
using dither::contains;
using dither::DataFolder;
using dither::DataOptions;
using dither::Dataset;
using dither::DataSplits;
using dither::load_data;

namespace {

/// [2, 3]
Bytes pgm(std::uint8_t first) {
    return {'P', '5', '\n', '#', '!', '\n', '3', ' ', '2', '\n', '2', '5', '5', '\n', first, 1, 2, 3, 4, 5};
}

void write_set(const DataFolder& folder) {
    for (const char* name : {"train/cat", "train/dog", "test/cat", "test/dog"})
        std::filesystem::create_directories(folder.file(name));
    folder.write("train/cat/0.pgm", pgm(10));
    folder.write("train/cat/1.pgm", pgm(11));
    folder.write("train/cat/2.pgm", pgm(12));
    folder.write("train/dog/a.PGM", pgm(20));
    folder.write("train/dog/notes.txt", "no image");
    folder.write("test/dog/b.pgm", pgm(30));
}

DataOptions options_of(const DataFolder& folder) {
    return {.format = "images", .path = folder.str()};
}

std::vector<int> first_pixels(const Dataset& data) {
    std::vector<int> pixels;
    for (std::size_t i = 0; i < data.pixels().size(); i += static_cast<std::size_t>(data.sample_shape().count()))
        pixels.push_back(data.pixels()[i]);
    return pixels;
}

}  // namespace

TEST_SUITE("core/data/image_folder") {
    TEST_CASE("classes are the sorted folders, and the first samples are of all classes") {
        const DataFolder folder;
        write_set(folder);
        DataOptions options = options_of(folder);
        const DataSplits data = load_data(options, 1);
        CHECK(data.train.sample_shape() == dither::Shape{1, 2, 3, 1});
        CHECK(first_pixels(data.train) == std::vector<int>{10, 20, 11, 12});
        CHECK(std::ranges::equal(data.train.labels(), std::vector<std::int32_t>{0, 1, 0, 0}));
        CHECK(data.origin.rows == std::vector<std::uint32_t>{0, 3, 1, 2});
        CHECK(data.test.labels()[0] == 1);
        CHECK(data.preparation.labels == std::vector<std::string>{"cat", "dog"});
        options.limit = 2;
        CHECK(first_pixels(load_data(options, 1).train) == std::vector<int>{10, 20});
        CHECK(load_data(options, 1).origin.count == 4);
    }

    TEST_CASE("who has images of some classes only numbers them as a preparation says") {
        const DataFolder folder;
        write_set(folder);
        std::filesystem::remove_all(folder.file("train/cat"));
        std::filesystem::remove_all(folder.file("test/cat"));
        DataOptions options = options_of(folder);
        CHECK(load_data(options, 1).train.labels()[0] == 0);
        options.labels = {"bird", "cat", "dog"};
        const DataSplits data = load_data(options, 1);
        CHECK(data.train.labels()[0] == 2);
        CHECK(data.train.classes() == 3);
        options.labels = {"cat"};
        CHECK(contains(error_of(options), "train: expected folders of the classes cat, found \"dog\""));
    }

    TEST_CASE("PNG, JPEG and BMP are read as PGM and PPM are, in color, and transparency is dropped") {
        const DataFolder folder;
        std::filesystem::create_directories(folder.file("train/x"));
        std::filesystem::create_directories(folder.file("test/x"));
        const Bytes opaque{255, 0, 0, 0, 255, 0};
        const Bytes clear{255, 0, 0, 9, 0, 255, 0, 9};
        REQUIRE(stbi_write_png(folder.file("train/x/1.png").c_str(), 2, 1, 4, clear.data(), 0) != 0);
        REQUIRE(stbi_write_bmp(folder.file("train/x/2.bmp").c_str(), 2, 1, 3, opaque.data()) != 0);
        REQUIRE(stbi_write_jpg(folder.file("train/x/3.jpeg").c_str(), 2, 1, 3, opaque.data(), 100) != 0);
        folder.write("test/x/4.ppm", std::string("P6\n2 1\n255\n") + std::string(opaque.begin(), opaque.end()));
        const DataSplits data = load_data(options_of(folder), 1);
        CHECK(data.train.sample_shape() == dither::Shape{1, 1, 2, 3});
        CHECK(std::ranges::equal(data.train.pixels().first(6), opaque));
        CHECK(std::ranges::equal(data.train.pixels().subspan(6, 6), opaque));
        for (std::size_t i = 0; i < 6; ++i)
            CHECK(std::abs(data.train.pixels()[12 + i] - opaque[i]) < 10);
        CHECK(std::ranges::equal(data.test.pixels(), opaque));
    }

    TEST_CASE("what is no image of the common size is an error that names the file") {
        const DataFolder folder;
        const auto refused = [&](const std::string& name, const Bytes& bytes, const std::string& message) {
            write_set(folder);
            folder.write(name, bytes);
            const bool as_told = contains(error_of(options_of(folder)), message);
            std::filesystem::remove(folder.file(name));
            return as_told;
        };
        Bytes pixels = pgm(1);
        pixels.pop_back();
        CHECK(
            refused("train/cat/9.pgm", pixels,
                    "train/cat/9.pgm: expected a PNG, JPEG, BMP, PGM or PPM image, found none: as many bytes follow"));
        pixels.resize(8);
        CHECK(refused("train/cat/9.pgm", pixels, "found none: the header of a PGM or PPM file has three numbers"));
        REQUIRE(stbi_write_bmp(folder.file("good.bmp").c_str(), 3, 2, 1, pixels.data()) != 0);
        Bytes bmp = dither::read_bytes(folder.file("good.bmp"));
        bmp.pop_back();
        CHECK(refused("train/cat/9.bmp", bmp, "train/cat/9.bmp: expected a PNG"));
        REQUIRE(stbi_write_jpg(folder.file("good.jpg").c_str(), 3, 2, 1, pgm(1).data(), 90) != 0);
        Bytes jpeg = dither::read_bytes(folder.file("good.jpg"));
        const Bytes tables{0xFF, 0xC4};
        const auto segment = std::ranges::search(jpeg, tables).begin();
        REQUIRE(segment != jpeg.end());
        segment[5] = 255;  // the first two of 16 counts, after marker, length and number
        segment[6] = 255;
        CHECK(refused("train/cat/9.jpg", jpeg, "found none: a Huffman table of more than 256 codes"));
        CHECK(refused("train/cat/9.jpg", {0xFF, 0xD8, 0xFF, 0xC4, 0xDB, 0, 0, 0xD6, 9, 0, 0, 0, 0, 0xD9},
                      "found none: a Huffman table of more than 256 codes"));
        CHECK(refused("train/dog/9.png", {'G', 'I', 'F'}, "train/dog/9.png: expected a PNG, JPEG"));
        CHECK(refused("test/cat/9.pgm", {}, "test/cat/9.pgm: expected a PNG"));
        const std::string other = "P5\n2 3\n255\n123456";
        CHECK(refused("train/cat/3.pgm", Bytes(other.begin(), other.end()),
                      "train/cat/3.pgm: expected an image of 2 rows, 3 columns and 1 channels, as the first one is, "
                      "found 3, 2 and 1"));
        const std::string color = "P6\n3 2\n255\n123456123456123456";
        CHECK(refused("test/cat/3.ppm", Bytes(color.begin(), color.end()), "found 2, 3 and 3"));
        const std::string deep = "P5\n1 1\n65535\n12";
        CHECK(refused("train/cat/3.pgm", Bytes(deep.begin(), deep.end()), "has values of up to 255 here"));
        const std::string huge = "P5\n65536 65536\n255\n1";
        CHECK(refused("train/cat/0.pgm", Bytes(huge.begin(), huge.end()), "train/cat/0.pgm: expected a PNG"));
    }

    TEST_CASE("a set without images, or with classes that only the test set has, is an error that names the folder") {
        const DataFolder folder;
        CHECK(contains(error_of(options_of(folder)), "/train: expected a folder that can be read"));
        std::filesystem::create_directories(folder.file("train/cat"));
        CHECK(contains(error_of(options_of(folder)), "/train: expected .png, .jpg"));
        write_set(folder);
        std::filesystem::create_directories(folder.file("test/cow"));
        CHECK(contains(error_of(options_of(folder)), "/test: expected folders of the classes cat, dog, found \"cow\""));
    }

    TEST_CASE("a damaged image is refused or read, never more") {
        const DataFolder folder;
        write_set(folder);
        std::filesystem::remove(folder.file("test/dog/b.pgm"));
        const Bytes gray(6, 100);
        REQUIRE(stbi_write_png(folder.file("good.png").c_str(), 3, 2, 1, gray.data(), 0) != 0);
        REQUIRE(stbi_write_jpg(folder.file("good.jpg").c_str(), 3, 2, 1, gray.data(), 90) != 0);
        for (const char* name : {"good.png", "good.jpg"}) {
            const Bytes good = dither::read_bytes(folder.file(name));
            CHECK(rc::check([&] {
                Bytes bytes = good;
                bytes[*rc::gen::inRange<std::size_t>(0, bytes.size())] = *rc::gen::arbitrary<std::uint8_t>();
                bytes.resize(*rc::gen::inRange<std::size_t>(0, bytes.size() + 1));
                folder.write("test/cat/c.png", bytes);
                error_of(options_of(folder));
            }));
        }
    }
}
