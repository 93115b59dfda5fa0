// A target as libFuzzer wants it. With --seeds FOLDER it writes its seeds there and ends.
#include "tests/fuzz/seeds.hpp"

#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
    if (*argc != 3 || std::string_view((*argv)[1]) != "--seeds")
        return 0;
    dither::fuzz::write_seeds((*argv)[2]);
    std::exit(0);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    dither::fuzz::run({reinterpret_cast<const std::byte*>(data), size});
    return 0;
}
