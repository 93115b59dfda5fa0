// An estimate of the energy of inference on a chip of its own.
//
// From the table of Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014 (45 nm, 0.9 V),
// pJ:
//
//     add        int8 0.03   int32 0.1   fp16 0.4   fp32 0.9        read of 64 bits   8 KiB 10    32 KiB 20
//     multiply   int8 0.2    int32 3.1   fp16 1.1   fp32 3.7        from memory of    1 MiB 100   DRAM 1300..2600
//
// Widths between are interpolated: integers of b_w and b_a bits multiply for 0.2 * b_w * b_a / 64 (an array
// multiplier's cells; 32 x 32 gives 3.2 where the table has 3.1) and are added to sums of 32 bits for 0.1; a float of
// up to 16 bits multiplies with another for fp16's 1.1 and is added in fp32 for 0.9. Operands of unlike kinds are
// multiplied as the wider kind: an integer beside fp32 as fp32. What the estimate leaves out: activations in memory,
// control, leakage. It ranks designs of one technology and is no measurement.
#pragma once

#include <cstddef>

namespace dither {

/// What a multiplier takes.
struct OperandFormat {
    int bits = 32;        ///< 2..16, or 32: fp32
    bool integer = true;  ///< codes; false: a float of these bits

    bool operator==(const OperandFormat&) const = default;
};

/// One multiply-accumulate, in pJ: fp32 4.6, int8 0.3.
double mac_energy_pj(const OperandFormat& weights, const OperandFormat& activations);

/// Reading `bytes` bytes once from the smallest memory of the table that holds them (DRAM: the middle of the table's
/// range), in pJ.
double read_energy_pj(double bytes);

}  // namespace dither
