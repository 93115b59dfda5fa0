// The arithmetic of integer products, compiled once for each instruction set. As in core/detail/kernels.hpp, this
// header and the source behind it stay free of the standard library's templates and of inline functions that other
// sources share.
#pragma once

#include <cstdint>

namespace dither::detail {

/// A matrix product whose operands are read through lists of offsets, so that a convolution needs no patches:
///
///     out[outputs[r] + n] (+)= sum over groups g, elements e of
///                              (base[rows[r] + groups[g] + e] - excess[r]) * packed(g, e, n)
///
/// A group is as many consecutive values as one instruction multiplies and adds up (MultiplyKernels::group).
template <typename Row, typename Packed>
struct IntegerTask {
    const Row* base;
    std::int64_t row_count;
    const std::int64_t* rows;
    std::int64_t group_count;
    const std::int64_t* groups;
    const Packed* packed;   ///< by pack()
    std::int64_t channels;  ///< of the packed operand: n = 0 .. channels - 1
    std::int32_t* out;
    const std::int64_t* outputs;  ///< of each row
    bool accumulate;              ///< +=, not =
    /// Of each row, and the packed operand's sums for each channel, by pack(). Null where rows are `centred`.
    const std::int32_t* excess;
    const std::int32_t* channel_sums;
};

/// How to pack an operand: packed(g, e, n) = from[sources[i] + n * channel_stride] * 2^shifts[i] with i = g * group +
/// e, and 0 where the source is negative.
struct IntegerPacking {
    const std::int8_t* from;
    std::int64_t group_count;
    const std::int64_t* sources;
    std::int64_t channels;
    std::int64_t channel_stride;
    const std::uint8_t* shifts;  ///< null: none
};

/// Values that kernels may read beyond the end of what they are given.
inline constexpr std::int64_t kIntegerSlack = 64;

/// Some live (non-zero) values of a gradient whose windows have one sum.
struct LiveList {
    std::int32_t begin;  ///< in the offsets and values
    std::int32_t count;  ///< even
    std::int64_t out;    ///< where its sum goes
};

/// Sums over the live values of a gradient alone, each of which multiplies a window. For every list:
///
///     out[list.out + to[v] + lane] (+)= sum over its i of values[i] * base[offsets[i] + from[v] + place(lane)]
///
/// where `place` is a permutation within a vector of IntegerLiveKernels::width values.
struct IntegerLiveSum {
    const std::int16_t* base;
    const std::int32_t* offsets;
    const std::int16_t* values;
    std::int64_t list_count;
    const LiveList* lists;
    std::int64_t vectors;
    const std::int64_t* from;
    std::int32_t* out;
    const std::int64_t* to;
    bool accumulate;  ///< +=, not =
};

/// What list_rows may write beyond its live values.
inline constexpr std::int64_t kLiveSlack = 8;

struct IntegerLiveKernels {
    std::int64_t width;  ///< 0: there are none

    std::int64_t (*count_live)(std::int64_t count, const std::int8_t* values);
    /// Lists the non-zero values of each row with their offsets, and one zero more where their number is odd. Sets each
    /// list's place and length. `offsets` is read up to kLiveSlack beyond its end.   values: [rows, columns]
    void (*list_rows)(std::int64_t rows, std::int64_t columns, const std::int8_t* values, const std::int32_t* offsets,
                      std::int32_t* live_offsets, std::int16_t* live_values, LiveList* lists);
    void (*sum)(const IntegerLiveSum& task);
    /// to = from^T, its rows filled up with zeros to a multiple of eight.   from: [rows, columns], columns % 8 == 0
    void (*transpose)(std::int64_t rows, std::int64_t columns, const std::int8_t* from, std::int8_t* to);
    /// A vector of weights in the order that makes sum() give its results in order: to[place(i)] = from[i * stride],
    /// the rest of whole vectors 0.
    void (*pack)(std::int64_t count, const std::int8_t* from, std::int64_t stride, std::int16_t* to);
    /// dw[i, channel] += sums[channel, place(i)]   sums: [channels, pitch], dw: [count, channels], channels % 8 == 0
    void (*add_transposed)(std::int64_t count, std::int64_t channels, const std::int32_t* sums, std::int64_t pitch,
                           std::int32_t* dw);
};

/// Products of rows and packed operands of some type. No kernel allocates.
template <typename Row, typename Packed>
struct MultiplyKernels {
    using RowValue = Row;
    using PackedValue = Packed;
    static constexpr bool kCentred = sizeof(Row) == 2;

    std::int64_t group;
    std::int64_t panel;  ///< packed operands hold whole panels of so many channels

    void (*multiply)(const IntegerTask<Row, Packed>& task);
    /// Channel n of the packed operand meets channel n of the rows: base[rows[r] + groups[g] + n * group + e].
    void (*multiply_channels)(const IntegerTask<Row, Packed>& task);
    /// Writes [panels][group_count][panel][group], and, unless rows are `centred`, [panels][panel] sums.
    void (*pack)(const IntegerPacking& packing, Packed* packed, std::int32_t* channel_sums);
    /// Rows of unsigned codes: centred, or as they are.
    void (*load_codes)(std::int64_t count, const std::uint8_t* from, std::int32_t zero_point, Row* to);
    /// Rows of signed codes: as they are, or plus kByteExcess.
    void (*load_signed)(std::int64_t count, const std::int8_t* from, Row* to);
    /// Groups of values that are not neighbours: to[i * group + e] = from[i + e * distance].
    void (*interleave)(std::int64_t count, const Row* from, std::int64_t distance, Row* to);
};

inline constexpr std::int32_t kByteExcess = 128;

/// Of 16 bits: rows are centred, codes less their zero point.
using WordKernels = MultiplyKernels<std::int16_t, std::int16_t>;
/// Of 8: rows are codes, which exceed their meaning by the zero point, or signed codes plus kByteExcess.
using ByteKernels = MultiplyKernels<std::uint8_t, std::int8_t>;

/// What an instruction set has.
struct IntegerKernels {
    const char* instruction_set;
    const WordKernels* words;
    const ByteKernels* bytes;  ///< null where there are none
    const IntegerLiveKernels* live;
};

}  // namespace dither::detail
