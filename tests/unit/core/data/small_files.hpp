// Folders of made-up data files, and what loading them gives.
#pragma once

#include "core/config.hpp"
#include "core/data/dataset.hpp"
#include "core/error.hpp"
#include "tests/unit/temporary_folder.hpp"

#include <doctest/doctest.h>
#include <zlib.h>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

namespace dither {

using Bytes = std::vector<std::uint8_t>;

/// A folder of data files.
class DataFolder : public test::TemporaryFolder {
public:
    std::string str() const { return path().string(); }
    std::string file(const std::string& name) const { return (path() / name).string(); }
    std::string write(const std::string& name, const std::string& text) const {
        std::ofstream(file(name), std::ios::binary) << text;
        return file(name);
    }
    void write(const std::string& name, const Bytes& bytes) const {
        write(name, std::string(bytes.begin(), bytes.end()));
    }
    void write_gz(const std::string& name, const Bytes& bytes) const {
        const gzFile out = gzopen(file(name).c_str(), "wb");
        REQUIRE(gzwrite(out, bytes.data(), static_cast<unsigned>(bytes.size())) == static_cast<int>(bytes.size()));
        REQUIRE(gzclose(out) == Z_OK);
    }
};

/// The message that loading gives; empty if it gives none.
inline std::string error_of(const DataOptions& options) {
    try {
        load_data(options, 1);
    } catch (const InputError& error) {
        return error.what();
    }
    return {};
}

inline Bytes read_bytes(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline bool contains(const std::string& text, const std::string& part) {
    CAPTURE(text);
    return text.find(part) != std::string::npos;
}

inline std::vector<float> inputs_of(const Dataset& data) {
    std::vector<std::uint32_t> all(data.size());
    std::iota(all.begin(), all.end(), 0U);
    Batch batch;
    data.gather(all, batch);
    return {batch.inputs.values().begin(), batch.inputs.values().end()};
}

}  // namespace dither
