// What several tests of the aggregator need: a small schema, a folder that vanishes, a job.
#pragma once

#include "core/config.hpp"
#include "core/model/schema.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

namespace dither::test {

inline LayerSpec layer(std::string name, std::size_t offset, std::int64_t count) {
    return {.name = std::move(name),
            .offset = offset,
            .count = static_cast<std::size_t>(count),
            .tensors = {{"weight", Shape{count}, offset}},
            .macs = static_cast<double>(count)};
}

/// fc1: 5 parameters, fc2: 3.
inline const Schema& small_schema() {
    static const Schema schema({layer("fc1", 0, 5), layer("fc2", 5, 3)});
    return schema;
}

/// A new folder, removed with everything in it.
class TemporaryFolder {
public:
    TemporaryFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "dither-test-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr)
            throw std::runtime_error("cannot make a temporary folder");
        path_ = name;
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

inline std::string read_text(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_text(const std::filesystem::path& file, const std::string& text) {
    std::ofstream(file, std::ios::binary) << text;
}

}  // namespace dither::test
