// Job files, which a node takes from its aggregator and dither-evaluate from a checkpoint. A job that is read says the
// same when it is written out.
#include "core/config.hpp"
#include "core/error.hpp"
#include "tests/fuzz/target.hpp"

#include <filesystem>
#include <string>

namespace dither::fuzz {
namespace {

constexpr const char* kLayers = R"([model]
name = "layers"
[[model.layers]]
kind = "conv2d"
channels = 4
[[model.layers]]
kind = "residual"
body = [{ kind = "batch_norm" }, { kind = "relu" }, { kind = "conv2d", channels = 4, kernel = 1, groups = 2 }]
[[model.layers]]
kind = "max_pool"
[[model.layers]]
kind = "linear"
)";

constexpr const char* kDevices = R"([federation]
clients = 8
cohort = 0x4
deadline = "1500ms"
devices = [{ share = 0.5, widths = [8, 32], memory = 1_000_000 }]
[[quantize.layers]]
match = "conv*"
weights = { scheme = "per_tensor_symmetric", bits = 4 }
[data]
mean = [0.1, 1e-3]
deviation = [1, +2.5]
)";

constexpr const char* kPlain = R"(job = { name = "a \"b\" \u00e9", 'seed' = 7 }  # a comment
data.path = '''
C:\x'''
[train]
optimizer = "adam"
optimizer.lr = 0.001
)";

}  // namespace

std::vector<Bytes> seeds() {
    std::vector<Bytes> seeds{to_bytes(kLayers), to_bytes(kDevices), to_bytes(kPlain), to_bytes(to_toml(Job{}))};
    for (const auto& file : files_in(std::filesystem::path(DITHER_SOURCE_DIR) / "examples", ".toml"))
        seeds.push_back(read_bytes(file));
    return seeds;
}

void run(std::span<const std::byte> bytes) {
    std::string written;
    try {
        written = to_toml(parse_job(as_text(bytes), "job"));
    } catch (const InputError&) {
        return;
    }
    const Job again = parse_job(written, "what was written");  // nothing of it may be refused
    require(to_toml(again) == written, "a job is another one when it is read again");
    identity(again);
}

}  // namespace dither::fuzz
