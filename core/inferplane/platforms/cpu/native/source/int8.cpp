// Products of 8-bit integers (AVX512-VNNI): exact in 32 bits, scaled once.
//
// A panel is [K/4][32][4]. One instruction multiplies four unsigned with four signed numbers, so
// weights hold code + 128, and 128 times the sum of a row's codes is taken off at the start.
#if defined(__AVX512BF16__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
#include "schedule.h"
#include "tile.h"

// sum += w . four for 16 outputs. In assembler: GCC 12 copies every sum of the intrinsic's type.
static inline i16x multiply_add(i16x sum, i16x w, const int8_t* four) {
    typedef int32_t __attribute__((may_alias, aligned(1))) any32;
    asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*(const any32*)four));
    return sum;
}

static inline i16x weights16(const char* p) { return (i16x)_mm512_loadu_si512(p); }

template <int M, int P>
static void tile8(const Piece& piece) {
    const Matrix& w = *piece.matrix;
    const long K = w.width(), first = piece.expert * w.panels() + piece.panel;
    const int8_t* x = (const int8_t*)piece.rows->x + piece.row * K;
    i16x sums[P][M][2];
#pragma GCC unroll 12
    for (int m = 0; m < M; m++) {
        const i16x start = (i16x){} - 128 * piece.rows->totals[piece.row + m];
#pragma GCC unroll 4
        for (int p = 0; p < P; p++) sums[p][m][0] = sums[p][m][1] = start;
    }
    for (long k = 0; k < K; k += 4) {
        i16x v[P][2];
#pragma GCC unroll 4
        for (int p = 0; p < P; p++) {
            const char* from = piece.codes + (p * K + k) * PANEL;
            v[p][0] = weights16(from);
            v[p][1] = weights16(from + 64);
            prefetch<128, P>(from);
        }
#pragma GCC unroll 12
        for (int m = 0; m < M; m++)
#pragma GCC unroll 4
            for (int p = 0; p < P; p++)
#pragma GCC unroll 2
                for (int h = 0; h < 2; h++)
                    sums[p][m][h] = multiply_add(sums[p][m][h], v[p][h], x + m * K + k);
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
        const long n = (piece.panel + p) * PANEL, columns = w.outputs - n;
        const long at = (first + p) * PANEL;
#pragma GCC unroll 12
        for (int m = 0; m < M; m++) {
            const __m512 scale = _mm512_set1_ps(piece.rows->scales[piece.row + m]);
            const __m512 none = _mm512_setzero_ps();
            __m512 both[2];
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                const __m512 bias = w.bias ? _mm512_loadu_ps(w.bias + at + 16 * h) : none;
                const __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps((__m512i)sums[p][m][h]), scale);
                both[h] = _mm512_fmadd_ps(sum, scales16(w.scales, at + 16 * h, w.scale), bias);
            }
            put_row(piece.y, (piece.row + m) * w.outputs + n, both[0], both[1],
                    columns < PANEL ? columns : PANEL, piece.half);
        }
    }
}

typedef void (*Tile8)(const Piece&);
static const Tile8 SINGLE[ROWS + 1] = {
    nullptr,      tile8<1, 1>, tile8<2, 1>, tile8<3, 1>,  tile8<4, 1>,  tile8<5, 1>,  tile8<6, 1>,
    tile8<7, 1>,  tile8<8, 1>, tile8<9, 1>, tile8<10, 1>, tile8<11, 1>, tile8<12, 1>,
};
static const Tile8 WIDE[3] = {nullptr, tile8<1, 4>, tile8<2, 2>};

void multiply_int8(const Matrix& w, const Rows& rows, const Experts& experts, void* y, int half) {
    for_each_piece(w, experts, w.panel_bytes(), [&](const Work& work) {
        const char* codes =
            (const char*)w.codes + (work.expert * w.panels() + work.first) * w.panel_bytes();
        const long count = work.end - work.begin, tiles = (count + ROWS - 1) / ROWS;
        for (long t = 0; t < tiles; t++) {
            const long begin = t * count / tiles, m = (t + 1) * count / tiles - begin;
            const long wide = m == 1 ? 4 : m == 2 ? 2 : 1;
            for (long p = work.first; p < work.last;) {
                const Piece piece = {&w, &rows, work.expert, p, work.begin + begin,
                                     codes + (p - work.first) * w.panel_bytes(), y, half};
                const bool together = wide > 1 && work.last - p >= wide;
                (together ? WIDE[m] : SINGLE[m])(piece);
                p += together ? wide : 1;
            }
        }
    });
}
#endif
