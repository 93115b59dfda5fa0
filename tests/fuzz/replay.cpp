// Runs a target without libFuzzer: on its seeds, on some thousand mutations of them, the same in every run, and on the
// files that are named, such as one that libFuzzer has found.
#include "core/rng.hpp"
#include "tests/fuzz/target.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>

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

void run_file(const std::string& name) {
    std::ifstream in(name, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    dither::fuzz::run(std::as_bytes(std::span(text)));
}

void run_mutations() {
    const std::vector<Bytes> seeds = dither::fuzz::seeds();
    for (const Bytes& seed : seeds)
        dither::fuzz::run(seed);
    for (std::uint32_t trial = 0; trial < kMutations; ++trial) {
        Stream stream({.seed = 1, .step = trial});
        Bytes bytes = mutated(seeds, stream);
        while (stream.below(3) == 0)
            overwrite(bytes, stream);
        try {
            dither::fuzz::run(bytes);
        } catch (const std::exception& error) {
            std::fprintf(stderr, "mutation %u: %s\n", trial, error.what());
            throw;
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        for (int i = 1; i < argc; ++i)
            run_file(argv[i]);
        if (argc == 1)
            run_mutations();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
