// Memory for large tables that are read at random: in huge pages where the system has them, since otherwise the
// processor misses the page's address as often as the row.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace groundup {

template <typename T>
struct LargeAllocator {
    using value_type = T;
    LargeAllocator() = default;
    template <typename U>
    LargeAllocator(const LargeAllocator<U>&) {}

    T* allocate(size_t count) {
        constexpr size_t kHugePage = size_t{1} << 21;
        const size_t size = count * sizeof(T), align = size < 2 * kHugePage ? 64 : kHugePage;
        void* memory = std::aligned_alloc(align, (size + align - 1) / align * align);
        if (!memory) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
        if (align == kHugePage) madvise(memory, size, MADV_HUGEPAGE);
#endif
        return static_cast<T*>(memory);
    }
    void deallocate(T* memory, size_t) { std::free(memory); }
    bool operator==(const LargeAllocator&) const { return true; }
    bool operator!=(const LargeAllocator&) const { return false; }
};

struct FreeMemory {
    void operator()(void* memory) const { std::free(memory); }
};

// Not initialised.
template <typename T>
using LargeArray = std::unique_ptr<T[], FreeMemory>;

template <typename T>
LargeArray<T> make_large_array(size_t count) {
    return LargeArray<T>(LargeAllocator<T>().allocate(count));
}

template <typename T>
using LargeVector = std::vector<T, LargeAllocator<T>>;

}  // namespace groundup
