// Products of a few rows with panels of codes, in bf16 with fp32 sums.
//
// A panel holds pairs of inputs, so that one instruction multiplies a pair with 16 outputs:
// PLAIN  bf16, [K/2][32][2]
// EIGHT  a sign and 7 bits that index a table of 128 bf16 values: [K/2][64], arranged so that
//        interleaving the values' low and high bytes gives the outputs in order
// FOUR   four bits that index a table of 16 bf16 values: words [K/4][16][2], whose four codes are
//        outputs 0-15 and 16-31 of one pair of inputs, then of the next
//
// Every kind of code and any number of rows and panels adds up in the same order, so a row's
// result does not depend on the rows beside it.
#pragma once
#include <immintrin.h>

#include "matrix.h"

// Fetches what a stream of codes comes to soon: with many rows beside it, and instructions between
// its loads, the processor's own prefetching is too late. STREAMS: read at the same time.
template <int BYTES, int STREAMS>
static inline void prefetch(const char* p) {
    for (int i = 0; i < BYTES; i += 64)
        _mm_prefetch(p + (STREAMS > 1 ? 2048 : 4096) + i, _MM_HINT_T0);
}

struct Plain {
    static const int STEP = 2, MOST = ROWS, BYTES = 128;
    explicit Plain(const bf16*) {}
    static const char* at(const char* panel, long k) { return panel + k * PANEL * 2; }
    void load(const char* p, __m512i* w) const {
        w[0] = _mm512_loadu_si512(p);
        w[1] = _mm512_loadu_si512(p + 64);
    }
};

struct Eight {
    static const int STEP = 2, MOST = 8, BYTES = 64;
    __m512i low[2], high[2];
    explicit Eight(const bf16* table) {
        alignas(64) uint8_t bytes[2][128];
        for (long i = 0; i < 128; i++) {
            bytes[0][i] = table[i] & 255;
            bytes[1][i] = table[i] >> 8;
        }
        for (long i = 0; i < 2; i++) {
            low[i] = _mm512_load_si512(bytes[0] + 64 * i);
            high[i] = _mm512_load_si512(bytes[1] + 64 * i);
        }
    }
    static const char* at(const char* panel, long k) { return panel + k * PANEL; }
    void load(const char* p, __m512i* w) const {
        const __m512i code = _mm512_loadu_si512(p);
        const __m512i a = _mm512_permutex2var_epi8(low[0], code, low[1]);
        __m512i b = _mm512_permutex2var_epi8(high[0], code, high[1]);
        b = _mm512_ternarylogic_epi32(b, code, _mm512_set1_epi8((char)128), 0xf8);  // b | c & sign
        w[0] = _mm512_unpacklo_epi8(a, b);
        w[1] = _mm512_unpackhi_epi8(a, b);
    }
};

struct Four {
    static const int STEP = 4, MOST = ROWS, BYTES = 64;
    __m512i table;
    explicit Four(const bf16* values) { table = _mm512_loadu_si512(values); }
    static const char* at(const char* panel, long k) { return panel + k * PANEL / 2; }
    void load(const char* p, __m512i* w) const {
        const __m512i code = _mm512_loadu_si512(p);  // the table repeats: bit 4 does not matter
        w[0] = _mm512_permutexvar_epi16(code, table);
        w[1] = _mm512_permutexvar_epi16(_mm512_srli_epi16(code, 4), table);
        w[2] = _mm512_permutexvar_epi16(_mm512_srli_epi16(code, 8), table);
        w[3] = _mm512_permutexvar_epi16(_mm512_srli_epi16(code, 12), table);
    }
};

static inline __m512 numbers16(const bf16* p) {
    const __m256i half = _mm256_loadu_si256((const __m256i*)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static inline __m512 scales16(const void* p, long at, long kind) {
    if (kind == FP32) return _mm512_loadu_ps((const float*)p + at);
    if (kind == BF16) return numbers16((const bf16*)p + at);
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)((const bf16*)p + at)));
}

static inline void put_row(void* y, long at, __m512 low, __m512 high, long columns, int half) {
    f16x both[2];
    std::memcpy(&both[0], &low, 64);
    std::memcpy(&both[1], &high, 64);
    if (half) {
        bf16 row[PANEL];
        store(row, both[0]);
        store(row + 16, both[1]);
        std::memcpy((bf16*)y + at, row, columns == PANEL ? PANEL * 2 : columns * 2);
    } else {
        std::memcpy((float*)y + at, both, columns == PANEL ? PANEL * 4 : columns * 4);
    }
}

// One piece of work: `P` panels from `panel` on, whose codes begin at `codes`, over `M` rows.
struct Piece {
    const Matrix* matrix;
    const Rows* rows;
    long expert, panel, row;
    const char* codes;
    void* y;
    int half;
};

template <class Code, int M, int P>
static void tile(const Piece& piece) {
    const Matrix& w = *piece.matrix;
    const Rows& rows = *piece.rows;
    const Code code(w.table);
    const long K = w.inputs, groups = w.groups(), size = Code::at(nullptr, K) - (const char*)0;
    const long scaled = w.scale_groups(), first = piece.expert * w.panels() + piece.panel;
    const bf16* x = (const bf16*)rows.x + piece.row * K;
    __m512 total[P][M][2];
#pragma GCC unroll 4
    for (int p = 0; p < P; p++)
#pragma GCC unroll 12
        for (int m = 0; m < M; m++) total[p][m][0] = total[p][m][1] = _mm512_setzero_ps();
    for (long g = 0; g < groups; g++) {
        __m512 sums[P][M][2];
#pragma GCC unroll 4
        for (int p = 0; p < P; p++)
#pragma GCC unroll 12
            for (int m = 0; m < M; m++) sums[p][m][0] = sums[p][m][1] = _mm512_setzero_ps();
        const long last = (g + 1) * w.group < K ? (g + 1) * w.group : K;
        for (long k = g * w.group; k < last; k += Code::STEP) {
            __m512i v[P][Code::STEP];
#pragma GCC unroll 4
            for (int p = 0; p < P; p++) {
                const char* from = Code::at(piece.codes + p * size, k);
                code.load(from, v[p]);
                prefetch<Code::BYTES, P>(from);
            }
#pragma GCC unroll 2
            for (int j = 0; j < Code::STEP; j += 2)
#pragma GCC unroll 12
                for (int m = 0; m < M; m++) {
                    int32_t pair;
                    std::memcpy(&pair, x + m * K + k + j, 4);
                    const __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
                    for (int p = 0; p < P; p++)
#pragma GCC unroll 2
                        for (int h = 0; h < 2; h++)
                            sums[p][m][h] =
                                _mm512_dpbf16_ps(sums[p][m][h], (__m512bh)v[p][j + h], both);
                }
        }
#pragma GCC unroll 4
        for (int p = 0; p < P; p++)
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++) {
                const long at = ((first + p) * groups + g) * PANEL + 16 * h;
                const __m512 one = _mm512_set1_ps(1.0f);
                const __m512 scale = w.scale ? scales16(w.scales, at, w.scale) : one;
                const __m512 zero = w.zero == EACH ? numbers16(w.zeros + at) : one;
#pragma GCC unroll 12
                for (int m = 0; m < M; m++) {
                    __m512 sum = sums[p][m][h];
                    if (w.zero)
                        sum = _mm512_fnmadd_ps(
                            zero, _mm512_set1_ps(rows.sums[(piece.row + m) * groups + g]), sum);
                    if (scaled > 1)
                        sum = _mm512_mul_ps(
                            sum, _mm512_set1_ps(rows.scales[(piece.row + m) * scaled + g]));
                    total[p][m][h] = _mm512_fmadd_ps(sum, scale, total[p][m][h]);
                }
            }
    }
    for (int p = 0; p < P; p++) {
        const long n = (piece.panel + p) * PANEL, columns = w.outputs - n;
        const __m512 none = _mm512_setzero_ps();
        const float* bias = w.bias ? w.bias + (first + p) * PANEL : nullptr;
        const __m512 biases[2] = {bias ? _mm512_loadu_ps(bias) : none,
                                  bias ? _mm512_loadu_ps(bias + 16) : none};
        for (int m = 0; m < M; m++) {
            const __m512 scale = _mm512_set1_ps(scaled == 1 ? rows.scales[piece.row + m] : 1.0f);
            const __m512 low = _mm512_fmadd_ps(total[p][m][0], scale, biases[0]);
            const __m512 high = _mm512_fmadd_ps(total[p][m][1], scale, biases[1]);
            put_row(piece.y, (piece.row + m) * w.outputs + n, low, high,
                    columns < PANEL ? columns : PANEL, piece.half);
        }
    }
}
