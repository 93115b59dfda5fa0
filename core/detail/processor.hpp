// Which of the levels that kernels are compiled for this processor has. Private to core.
#pragma once

#ifdef DITHER_X86_KERNELS
namespace dither::detail {

/// x86-64-v3, as far as kernels use it.
inline bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2");
}

/// x86-64-v4.
inline bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}

inline bool has_avx512_vnni() {
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

}  // namespace dither::detail
#endif
