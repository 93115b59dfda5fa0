// Files of residuals, sealed by the digest that their bytes demand, and as they are.
#include "core/error.hpp"
#include "node/detail/residual_file.hpp"
#include "node/residual_store.hpp"
#include "tests/fuzz/target.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <string>

namespace dither::fuzz {
namespace {

constexpr std::uint32_t kClient = 7;
constexpr std::uint32_t kCounted = 3;

void read(std::span<const std::byte> file) {
    std::array<float, 3> residual{};
    try {
        detail::read_residual(file, kClient, kCounted, residual);
    } catch (const FormatError&) {
        return;
    }
    require(std::ranges::all_of(residual, [](float value) { return std::isfinite(value); }),
            "a residual is not finite");
}

}  // namespace

std::vector<Bytes> seeds() {
    const auto folder = std::filesystem::temp_directory_path() / ("dither-fuzz-" + std::to_string(::getpid()));
    const std::array<float, 3> before{1, 2, 3};
    const std::array<float, 3> after{-4, 5e-20F, 6};
    ResidualStore(folder, 3).save(kClient, {.round = kCounted, .values = before}, {.round = 4, .values = after});
    const Bytes file = read_bytes(folder / "client-7.residual");
    std::filesystem::remove_all(folder);
    return {file, Bytes(file.begin(), file.end() - sizeof(Sha256))};
}

void run(std::span<const std::byte> bytes) {
    read(bytes);
    read(sealed({bytes.begin(), bytes.end()}));
}

}  // namespace dither::fuzz
