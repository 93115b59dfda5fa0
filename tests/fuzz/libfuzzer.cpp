// A target as libFuzzer wants it. A corpus folder that is empty is filled with the target's seeds first.
#include "tests/fuzz/target.hpp"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

namespace fs = std::filesystem;

void write_seeds(const fs::path& folder) {
    int number = 0;
    for (const dither::fuzz::Bytes& seed : dither::fuzz::seeds())
        std::ofstream(folder / ("seed-" + std::to_string(number++)), std::ios::binary)
            .write(reinterpret_cast<const char*>(seed.data()), static_cast<std::streamsize>(seed.size()));
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
    for (int i = 1; i < *argc; ++i)
        if (const fs::path folder = (*argv)[i]; fs::is_directory(folder) && fs::is_empty(folder))
            write_seeds(folder);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    dither::fuzz::run({reinterpret_cast<const std::byte*>(data), size});
    return 0;
}
