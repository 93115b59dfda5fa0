// Runs a target without libFuzzer: on its seeds, on some thousand mutations of them, the same in every run, or on the
// files that are named, and those in folders that are, such as what libFuzzer has found. With --seeds FOLDER it writes
// its seeds there.
#include "core/rng.hpp"
#include "tests/fuzz/seeds.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string_view>

namespace {

using dither::Stream;
using dither::fuzz::Bytes;

constexpr std::uint32_t kMutations = 3000;

void overwrite(Bytes& bytes, Stream& stream) {
    constexpr std::uint32_t kTelling[]{0x00, 0x01, 0x7f, 0x80, 0xff};
    for (std::uint32_t left = 1 + stream.below(4); left > 0 && !bytes.empty(); --left) {
        std::byte& byte = bytes[stream.below(static_cast<std::uint32_t>(bytes.size()))];
        byte = static_cast<std::byte>(stream.below(2) == 0 ? kTelling[stream.below(5)] : stream());
    }
}

/// Changes bytes, flips a bit, cuts off, repeats a piece, or continues as another seed does.
Bytes mutated(const std::vector<Bytes>& seeds, Stream& stream) {
    const auto count = static_cast<std::uint32_t>(seeds.size());
    Bytes bytes = seeds[stream.below(count)];
    const auto size = static_cast<std::uint32_t>(bytes.size());
    const std::uint32_t place = stream.below(size + 1);
    switch (stream.below(6)) {
        case 0:
            bytes.resize(place);
            break;
        case 1: {
            const Bytes piece(bytes.begin() + place, bytes.begin() + std::min(size, place + 1 + stream.below(8)));
            bytes.insert(bytes.begin() + stream.below(size + 1), piece.begin(), piece.end());
            break;
        }
        case 2: {
            const Bytes& other = seeds[stream.below(count)];
            bytes.resize(place);
            bytes.insert(bytes.end(), other.begin() + std::min<std::size_t>(place, other.size()), other.end());
            break;
        }
        case 3:
            if (place < size)
                bytes[place] ^= std::byte{1} << stream.below(8);
            break;
        default:
            overwrite(bytes, stream);
    }
    return bytes;
}

void run_or_say(std::span<const std::byte> bytes, const std::string& which) {
    try {
        dither::fuzz::run(bytes);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", which.c_str(), error.what());
        throw;
    }
}

void run_files(const std::filesystem::path& path) {
    if (!std::filesystem::is_directory(path))
        return run_or_say(dither::fuzz::read_bytes(path), path);
    for (const auto& file : dither::fuzz::files_in(path))
        run_files(file);
}

void run_mutations() {
    const std::vector<Bytes> seeds = dither::fuzz::seeds();
    for (std::size_t i = 0; i < seeds.size(); ++i)
        run_or_say(seeds[i], "seed " + std::to_string(i));
    for (std::uint32_t trial = 0; trial < kMutations; ++trial) {
        Stream stream({.seed = 1, .step = trial});
        Bytes bytes = mutated(seeds, stream);
        while (stream.below(3) == 0)
            overwrite(bytes, stream);
        run_or_say(bytes, "mutation " + std::to_string(trial));
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc == 3 && std::string_view(argv[1]) == "--seeds") {
            dither::fuzz::write_seeds(argv[2]);
            return 0;
        }
        for (int i = 1; i < argc; ++i)
            run_files(argv[i]);
        if (argc == 1)
            run_mutations();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
