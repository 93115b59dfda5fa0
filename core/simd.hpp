// Run-time dispatch of hot loops.
//
// DITHER_CLONES before a non-inline, non-template function compiles it once for each x86-64 level (AVX-512, AVX2 with
// FMA, SSE2) and lets the dynamic linker pick at start-up. Elsewhere it is empty and the loop is compiled once: other
// processors, clang, and sanitizers, whose runtime is not up when the linker picks.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__) && \
    !defined(__SANITIZE_ADDRESS__)
#define DITHER_CLONES [[gnu::target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")]]
#else
#define DITHER_CLONES
#endif
