// Weights into panels, once. Legend: E experts, N outputs, K inputs; see tile.h and int8.cpp.
#include <omp.h>
#include <sys/mman.h>

#include "matrix.h"

// w bf16 [E][N][K]
static void plain(const bf16* w, bf16* to, long N, long K, long first) {
    for (long k = 0; k < K; k += 2)
        for (long c = 0; c < PANEL; c++) {
            uint32_t pair = 0;
            if (first + c < N) std::memcpy(&pair, w + (first + c) * K + k, 4);
            std::memcpy(to + k * PANEL + 2 * c, &pair, 4);
        }
}

// w uint8 [E][N][K]; map: what each byte becomes
static void eight(const uint8_t* w, uint8_t* to, long N, long K, long first, const uint8_t* map) {
    for (long k = 0; k < K; k += 2)
        for (long i = 0; i < 64; i++) {
            const long lane = i / 16, at = i % 8, word = 8 * lane + at;
            const long n = first + (i % 16 < 8 ? 0 : 16) + word / 2;
            to[k * PANEL + i] = n < N ? map[w[n * K + k + word % 2]] : 0;
        }
}

// w uint8 [E][N][K/2], input 2j low
static void four(const uint8_t* w, uint16_t* to, long N, long K, long first) {
    const long bytes = K / 2;
    for (long k = 0; k < K; k += 4)
        for (long c = 0; c < 16; c++) {
            const long low = first + c, high = low + 16, at = k / 2;
            const uint8_t *a = w + low * bytes + at, *b = w + high * bytes + at;
            const uint16_t a0 = low < N ? a[0] : 0, a1 = low < N ? a[1] : 0;
            const uint16_t b0 = high < N ? b[0] : 0, b1 = high < N ? b[1] : 0;
            uint16_t* pair = to + k * 8 + 2 * c;
            pair[0] = (a0 & 15) | (b0 & 15) << 4 | (a1 & 15) << 8 | (b1 & 15) << 12;
            pair[1] = a0 >> 4 | b0 >> 4 << 4 | a1 >> 4 << 8 | b1 >> 4 << 12;
        }
}

// w int8 [E][N][K]; each is kept plus 128
static void int8(const int8_t* w, uint8_t* to, long N, long K, long first) {
    for (long k = 0; k < K; k += 4)
        for (long c = 0; c < PANEL; c++)
            for (long i = 0; i < 4; i++) {
                const bool there = first + c < N && k + i < K;
                to[k * PANEL + 4 * c + i] = 128 + (there ? w[(first + c) * K + k + i] : 0);
            }
}

// w [experts][N][K] as each kind says -> the panels of `matrix`.
extern "C" void ip_pack(const Matrix* matrix, const void* w, const uint8_t* map, long experts) {
    const long N = matrix->outputs, K = matrix->inputs, panels = matrix->panels();
    const long bits = matrix->kind == PLAIN ? 16 : matrix->kind == FOUR ? 4 : 8;
#pragma omp parallel for schedule(static)
    for (long i = 0; i < experts * panels; i++) {
        const uint8_t* from = (const uint8_t*)w + i / panels * (N * K * bits / 8);
        void* to = (char*)matrix->codes + i * matrix->panel_bytes();
        const long first = i % panels * PANEL;
        if (matrix->kind == PLAIN)
            plain((const bf16*)from, (bf16*)to, N, K, first);
        else if (matrix->kind == EIGHT)
            eight(from, (uint8_t*)to, N, K, first, map);
        else if (matrix->kind == FOUR)
            four(from, (uint16_t*)to, N, K, first);
        else
            int8((const int8_t*)from, (uint8_t*)to, N, K, first);
    }
}

// Asks for pages of 2 MiB: a decode step reads all weights, and misses fewer translations then.
// Only advice: nothing fails without it.
extern "C" void ip_huge_pages(void* data, long bytes) {
    const uintptr_t huge = 2 << 20, first = ((uintptr_t)data + huge - 1) / huge * huge;
    const uintptr_t last = ((uintptr_t)data + bytes) / huge * huge;
    if (last > first) madvise((void*)first, last - first, MADV_HUGEPAGE);
}
