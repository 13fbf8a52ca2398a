// Sixteen floats at a time. Rows are padded with zeros to whole lanes, which every update leaves zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#define GROUNDUP_INLINE inline __attribute__((always_inline))
// The loader picks the code for this processor, where compiler and system can do that.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__gnu_linux__)
#define GROUNDUP_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define GROUNDUP_CLONES
#endif

namespace groundup {

constexpr size_t kLanes = 16;

typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
typedef float HalfLanes __attribute__((vector_size(kLanes / 2 * sizeof(float))));

GROUNDUP_INLINE void load(Lanes& lanes, const float* from) { std::memcpy(&lanes, from, sizeof(Lanes)); }
GROUNDUP_INLINE void store(float* to, const Lanes& lanes) { std::memcpy(to, &lanes, sizeof(Lanes)); }

GROUNDUP_INLINE float sum(const Lanes& lanes) {
    HalfLanes low, high;
    std::memcpy(&low, &lanes, sizeof(low));
    std::memcpy(&high, reinterpret_cast<const char*>(&lanes) + sizeof(low), sizeof(high));
    low += high;
    return ((low[0] + low[4]) + (low[1] + low[5])) + ((low[2] + low[6]) + (low[3] + low[7]));
}

GROUNDUP_INLINE float dot(const float* left, const float* right, size_t stride) {
    Lanes total{}, a, b;
    for (size_t i = 0; i < stride; i += kLanes) {
        load(a, left + i);
        load(b, right + i);
        total += a * b;
    }
    return sum(total);
}

// to += factor * from
GROUNDUP_INLINE void add(float* to, float factor, const float* from, size_t stride) {
    Lanes a, b;
    for (size_t i = 0; i < stride; i += kLanes) {
        load(a, to + i);
        load(b, from + i);
        store(to + i, a + factor * b);
    }
}

}  // namespace groundup
