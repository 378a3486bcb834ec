// Memory that calls reuse. A buffer grows to the largest call and is kept: fresh memory would cost
// a page fault every 4 KiB.
#pragma once
#include <cstdint>
#include <cstdlib>

struct Buffer {
    void* memory = nullptr;
    size_t size = 0;

    // At least so many bytes, 64-byte aligned, 64 bytes to spare; what was there may be gone.
    template <typename T>
    T* get(size_t count) {
        const size_t wanted = (count * sizeof(T) + 127) / 64 * 64;
        if (wanted > size) {
            std::free(memory);
            memory = std::aligned_alloc(64, wanted);
            if (!memory) std::abort();
            size = wanted;
        }
        return (T*)memory;
    }
    ~Buffer() { std::free(memory); }
};

struct Space {
    Buffer x, sums, scales;
};
