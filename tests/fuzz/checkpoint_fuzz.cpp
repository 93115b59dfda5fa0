// Checkpoints as they lie on disk: whole and unaltered, or refused by header, length and digest. What is behind the
// digest is trusted.
#include "aggregator/checkpoint.hpp"

#include "core/error.hpp"
#include "tests/fuzz/target.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace dither::fuzz {
namespace {

namespace fs = std::filesystem;

fs::path file_in_use() {
    static const fs::path file = fs::temp_directory_path() / ("dither-fuzz-" + std::to_string(::getpid()) + ".dither");
    return file;
}

Checkpoint sample_checkpoint() {
    Checkpoint checkpoint;
    checkpoint.job = "[job]\nseed = 1\n";
    checkpoint.round = 2;
    checkpoint.model_round = 2;
    checkpoint.schema = Schema({{.name = "fc1", .count = 3, .tensors = {{"weight", Shape{3}, 0}}}});
    checkpoint.model = {1, -2, 3e-20F};
    checkpoint.plan = checkpoint.evaluated_plan = PrecisionPlan::uniform(1, 8);
    return checkpoint;
}

}  // namespace

std::vector<Bytes> seeds() {
    save_checkpoint(file_in_use(), sample_checkpoint());
    std::ifstream in(file_in_use(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    fs::remove(file_in_use());
    const auto bytes = std::as_bytes(std::span(text));
    return {Bytes(bytes.begin(), bytes.end())};
}

void run(std::span<const std::byte> bytes) {
    std::ofstream(file_in_use(), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    try {
        load_checkpoint(file_in_use());
    } catch (const InputError&) {
    }
    fs::remove(file_in_use());
}

}  // namespace dither::fuzz
