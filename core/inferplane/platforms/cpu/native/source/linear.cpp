// y = x W^T + b in bf16 with fp32 sums, for processors with AVX512-BF16.
//
// Legend: M rows of x, K inputs, N outputs. The weight is packed once into panels of 32 outputs:
// [N/32][K/2][32][2], so that one instruction multiplies a pair of inputs with 16 outputs, and a
// panel streams from memory in order. N is padded with zeros; K must be even.
//
// A tile is up to 12 rows by one panel: 24 sums stay in registers. Few rows are bound by reading
// W, and each panel is read from memory once; many rows are bound by arithmetic, and a group of
// panels stays in the second-level cache while all rows pass over it.
#include <immintrin.h>
#include <omp.h>
#include <sys/mman.h>

#include "common.h"

static const long PANEL = 32, ROWS = 12, CACHE = 384 * 1024;

template <int M>
static inline void tile(const bf16* x, long ldx, const bf16* w, const bf16* bias, bf16* y,
                        long ldy, long K, long columns) {
    __m512 low[M], high[M];
    for (int m = 0; m < M; m++) low[m] = high[m] = _mm512_setzero_ps();
    for (long k = 0; k < K; k += 2) {
        __m512bh a = (__m512bh)_mm512_loadu_si512(w + k * PANEL);
        __m512bh b = (__m512bh)_mm512_loadu_si512(w + k * PANEL + 32);
#pragma GCC unroll 12
        for (int m = 0; m < M; m++) {
            int32_t pair;
            std::memcpy(&pair, x + m * ldx + k, 4);
            __m512bh v = (__m512bh)_mm512_set1_epi32(pair);
            low[m] = _mm512_dpbf16_ps(low[m], a, v);
            high[m] = _mm512_dpbf16_ps(high[m], b, v);
        }
    }
    for (int m = 0; m < M; m++) {
        f16x first, second;
        std::memcpy(&first, &low[m], 64);
        std::memcpy(&second, &high[m], 64);
        bf16 row[PANEL];
        if (bias) {
            bf16 b[PANEL] = {};
            std::memcpy(b, bias, columns * 2);
            first += load(b);
            second += load(b + 16);
        }
        store(row, first);
        store(row + 16, second);
        if (columns == PANEL)
            std::memcpy(y + m * ldy, row, PANEL * 2);
        else
            std::memcpy(y + m * ldy, row, columns * 2);
    }
}

typedef void (*Tile)(const bf16*, long, const bf16*, const bf16*, bf16*, long, long, long);
static const Tile TILES[ROWS + 1] = {nullptr, tile<1>, tile<2>,  tile<3>,  tile<4>,
                                     tile<5>, tile<6>, tile<7>,  tile<8>,  tile<9>,
                                     tile<10>, tile<11>, tile<12>};

extern "C" void ip_linear(const bf16* x, const bf16* w, const bf16* bias, bf16* y, long M, long N,
                          long K) {
    const long panels = (N + PANEL - 1) / PANEL, tiles = (M + ROWS - 1) / ROWS;
    const long cached = CACHE / (K * PANEL * 2);
    // few rows: a panel or two at a time, so that a slower core takes fewer
    const long share = panels / (8 * omp_get_max_threads());
    const long most = tiles > 1 ? (cached > 0 ? cached : 1) : 4;
    const long group = share < 1 ? 1 : share < most ? share : most;
    const long groups = (panels + group - 1) / group;
#pragma omp parallel for schedule(dynamic, 1)
    for (long g = 0; g < groups; g++) {
        const long last = (g + 1) * group < panels ? (g + 1) * group : panels;
        for (long t = 0; t < tiles; t++) {
            const long begin = t * M / tiles, end = (t + 1) * M / tiles;
            for (long p = g * group; p < last; p++) {
                const long n = p * PANEL;
                TILES[end - begin](x + begin * K, K, w + p * K * PANEL, bias ? bias + n : nullptr,
                                   y + begin * N + n, N, K, N - n < PANEL ? N - n : PANEL);
            }
        }
    }
}

// w [N, K] -> packed [ceil(N/32)][K/2][32][2]
extern "C" void ip_pack(const bf16* w, bf16* packed, long N, long K) {
    const long panels = (N + PANEL - 1) / PANEL;
#pragma omp parallel for schedule(static)
    for (long p = 0; p < panels; p++)
        for (long k = 0; k < K; k += 2)
            for (long c = 0; c < PANEL; c++) {
                uint32_t pair = 0;
                if (p * PANEL + c < N) std::memcpy(&pair, w + (p * PANEL + c) * K + k, 4);
                std::memcpy(packed + p * K * PANEL + k * PANEL + 2 * c, &pair, 4);
            }
}

// Asks for pages of 2 MiB: a decode step reads all weights, and misses fewer translations then.
// collapse: also where the memory is in use already. Only advice: nothing fails without it.
extern "C" void ip_huge_pages(void* data, long bytes, int collapse) {
    const uintptr_t huge = 2 << 20, first = ((uintptr_t)data + huge - 1) / huge * huge;
    const uintptr_t last = ((uintptr_t)data + bytes) / huge * huge;
    if (last <= first) return;
    madvise((void*)first, last - first, MADV_HUGEPAGE);
    if (collapse) madvise((void*)first, last - first, 25 /* MADV_COLLAPSE, Linux 6.1 */);
}
