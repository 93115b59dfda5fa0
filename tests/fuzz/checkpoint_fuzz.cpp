// Checkpoints as they lie on disk, and bodies of each version behind the header and the digest that their bytes demand:
// a model file may come from anywhere. What is read is written again as it is.
#include "aggregator/checkpoint.hpp"

#include "core/error.hpp"
#include "core/little_endian.hpp"
#include "tests/fuzz/target.hpp"

#include <cstdint>
#include <string_view>

namespace dither::fuzz {
namespace {

constexpr std::string_view kMagic = "DITHMDL1";
constexpr std::size_t kVersionAt = kMagic.size();
constexpr std::size_t kLengthAt = kVersionAt + sizeof(std::uint32_t);
constexpr std::size_t kHeaderBytes = kLengthAt + sizeof(std::uint64_t);

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

Checkpoint full_checkpoint() {
    Checkpoint checkpoint = sample_checkpoint();
    checkpoint.controller = {8, 1, 0.5};
    checkpoint.strategy = {1, 2};
    checkpoint.log_line = "{}";
    checkpoint.averaged = checkpoint.residual = checkpoint.model;
    checkpoint.averaged_rounds = 1;
    checkpoint.good = {.round = 1, .model = checkpoint.model, .links = {1}};
    checkpoint.history = {.reach = 1, .parts = {{.round = 2, .steps = {0.5F}, .payload = Bytes(9, std::byte{7})}}};
    checkpoint.history.parts[0].control = ControlStep{.keep = 0.5F, .gain = -1};
    checkpoint.typical_norm = 1;
    checkpoint.counted = {{1}, {2}};
    return checkpoint;
}

Bytes file_of(const Checkpoint& checkpoint) {
    Bytes file;
    write_checkpoint(checkpoint, [&](std::string_view bytes) { append(file, std::as_bytes(std::span(bytes))); });
    return file;
}

Bytes file_around(std::uint32_t version, std::span<const std::byte> body) {
    Bytes file = to_bytes(kMagic);
    file.resize(kHeaderBytes);
    store_little(version, file.data() + kVersionAt);
    store_little(std::uint64_t{body.size()}, file.data() + kLengthAt);
    append(file, body);
    return sealed(std::move(file));
}

void read(std::span<const std::byte> file) {
    try {
        Checkpoint checkpoint = read_checkpoint(as_text(file), "file");
        const bool newest = checkpoint.version == kCheckpointVersion;
        require(!newest || file_of(checkpoint) == Bytes(file.begin(), file.end()),
                "a checkpoint is not what its contents give");
    } catch (const InputError&) {
    }
}

}  // namespace

std::vector<Bytes> seeds() {
    std::vector<Bytes> seeds;
    for (const Checkpoint& checkpoint : {sample_checkpoint(), full_checkpoint()}) {
        const Bytes file = file_of(checkpoint);
        const auto body = std::span(file).subspan(kHeaderBytes, file.size() - kHeaderBytes - sizeof(Sha256));
        seeds.push_back(file);
        for (std::uint32_t version = 1; version <= kCheckpointVersion; ++version)
            seeds.push_back(with_choice(version - 1, body));
    }
    return seeds;
}

void run(std::span<const std::byte> bytes) {
    read(bytes);
    const auto [version, body] = split_choice(bytes, kCheckpointVersion);
    read(file_around(static_cast<std::uint32_t>(version) + 1, body));
}

}  // namespace dither::fuzz
