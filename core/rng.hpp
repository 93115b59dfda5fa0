// Counter-based random streams: every random number is a pure function of (seed, purpose, lane, client, round, step,
// index), so that no order of execution, thread or machine can change it.
//
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; Random123):
//     key     = (seed, purpose | lane << 8)
//     counter = (block index, step, round, client)
// The mapping is injective: two different keys never share a block. A block gives four 32-bit words.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace dither {

/// What a stream is drawn for. The numbers are part of every result: add, never renumber.
enum class Purpose : std::uint8_t {
    initialization = 1,
    partition = 2,
    sampling = 3,
    shuffle = 4,
    weight_noise = 5,
    activation_noise = 6,
    gradient_rounding = 7,
    optimizer_rounding = 8,
    uplink_rounding = 9,
    downlink_rounding = 10,
    curvature_probe = 11,
    forward_rounding = 12,
    synthetic_data = 13,
    backoff = 14,
    evaluation = 15,
    augmentation = 16,
    weight_rounding = 17,
    corruption = 18,
    device = 19,
    attack = 20,
    device_speed = 21,
    dropout = 22,
    holdout = 23,
    test = 255,
};

/// The client number of streams that belong to the aggregator or to the job as a whole.
inline constexpr std::uint32_t kServer = 0xffffffff;

struct StreamKey {
    std::uint32_t seed = 0;
    Purpose purpose = Purpose::test;
    std::uint32_t client = kServer;
    std::uint32_t round = 0;
    std::uint32_t step = 0;
    std::uint32_t lane = 0;  ///< tells tensors or layers of one step apart; below 2^24

    StreamKey with(Purpose new_purpose, std::uint32_t new_lane = 0) const;
    bool operator==(const StreamKey&) const = default;
};

/// A position in one stream. Cheap to make and to copy; satisfies std::uniform_random_bit_generator, so Boost.Random
/// distributions accept it. Not thread-safe; make one per use.
class Stream {
public:
    using result_type = std::uint32_t;

    explicit Stream(const StreamKey& key);

    static constexpr result_type min() { return 0; }
    static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }

    result_type operator()();
    /// Uniform in [0, 1), a multiple of 2^-24.
    float uniform();
    double normal();
    /// Uniform in [0, bound), without bias (Lemire 2019). bound > 0.
    std::uint32_t below(std::uint32_t bound);

    /// The bulk forms start at the next whole block of the stream and vectorize.
    void fill_words(std::span<std::uint32_t> out);
    /// The 16-bit halves of the words, the lower half first: half the cost a value.
    void fill_halfwords(std::span<std::uint16_t> out);
    /// Uniform in [0, 1), multiples of 2^-24.
    void fill_uniform(std::span<float> out);
    /// Standard normal by Box and Muller (1958).
    void fill_normal(std::span<float> out);
    /// -1 or +1 with equal chance.
    void fill_rademacher(std::span<float> out);
    /// A uniform permutation in place (Fisher-Yates, Durstenfeld 1964).
    void shuffle(std::span<std::uint32_t> items);

private:
    std::array<std::uint32_t, 4> block_at(std::uint32_t index) const;
    /// The counter of the next whole block; moves on by the blocks that so many words need.
    std::array<std::uint32_t, 4> take_blocks(std::size_t words);

    std::array<std::uint32_t, 2> key_;
    std::array<std::uint32_t, 4> counter_;  ///< counter_[0] is the next block
    std::array<std::uint32_t, 4> words_{};
    int used_ = 4;  ///< words of words_ already handed out
};

}  // namespace dither
