#include "kernels.hpp"

#include <algorithm>
#include <cstring>

// Everything above is compiled for any processor, the instantiations below for theirs: standard headers must not
// stand behind the pragmas, or the linker might keep their vectorised functions for all.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define GROUNDUP_X86 1
#endif

namespace groundup {

namespace portable {
constexpr const char* kName = "portable";
#include "kernels.inc"
}  // namespace portable

#ifdef GROUNDUP_X86
#pragma GCC push_options
#pragma GCC target("avx2,bmi,bmi2,lzcnt,popcnt")
#define GROUNDUP_AVX2 1
namespace avx2 {
constexpr const char* kName = "avx2";
#include "kernels.inc"
}  // namespace avx2
#undef GROUNDUP_AVX2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,bmi,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")
#define GROUNDUP_AVX512 1
namespace avx512 {
constexpr const char* kName = "avx512";
#include "kernels.inc"
}  // namespace avx512
#undef GROUNDUP_AVX512
#pragma GCC pop_options
#endif

const Kernels* kernels(const char* name) {
    if (!std::strcmp(name, "portable")) return &portable::kKernels;
#ifdef GROUNDUP_X86
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                          __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("lzcnt");
    if (has_avx2 && !std::strcmp(name, "avx2")) return &avx2::kKernels;
    if (has_avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi2") && !std::strcmp(name, "avx512"))
        return &avx512::kKernels;
#endif
    return nullptr;
}

const Kernels& best_kernels() {
    for (const char* name : {"avx512", "avx2"})
        if (const Kernels* found = kernels(name)) return *found;
    return portable::kKernels;
}

}  // namespace groundup
