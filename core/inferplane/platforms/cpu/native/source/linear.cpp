// y = x W^T + b over panels of bf16 values, or of codes of them (8 or 4 bits), with fp32 sums.
//
// For processors with AVX512-BF16; codes also want AVX512-VBMI. See tile.h for the panels.
//
// A tile is up to 12 rows by one panel: 24 sums stay in registers. Few rows are bound by reading
// W: codes become values in registers, and each panel is read from memory once. Many rows are
// bound by arithmetic: codes of a panel become values once, in the cache, for all rows.
#if defined(__AVX512BF16__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
#include "schedule.h"
#include "space.h"
#include "tile.h"

typedef void (*Tile)(const Piece&);

namespace {
template <class Code>
struct Tiles {
    static constexpr Tile one[ROWS + 1] = {
        nullptr,           tile<Code, 1, 1>,  tile<Code, 2, 1>,  tile<Code, 3, 1>, tile<Code, 4, 1>,
        tile<Code, 5, 1>,  tile<Code, 6, 1>,  tile<Code, 7, 1>,  tile<Code, 8, 1>, tile<Code, 9, 1>,
        tile<Code, 10, 1>, tile<Code, 11, 1>, tile<Code, 12, 1>,
    };
    static constexpr Tile wide[3] = {nullptr, tile<Code, 1, 4>, tile<Code, 2, 2>};
};
}  // namespace

// Rows of one piece of work in tiles of about the same size; few rows take several panels at once.
template <class Code>
static void cover(const Matrix& w, const Rows& rows, const Work& work, const char* codes, void* y,
                  int half, long most) {
    const long count = work.end - work.begin, tiles = (count + most - 1) / most;
    const long size = Code::at(nullptr, w.inputs) - (const char*)0;
    for (long t = 0; t < tiles; t++) {
        const long begin = t * count / tiles, m = (t + 1) * count / tiles - begin;
        const long wide = m == 1 ? 4 : m == 2 ? 2 : 1;
        for (long p = work.first; p < work.last;) {
            const Piece piece = {&w, &rows, work.expert, p, work.begin + begin,
                                 codes + (p - work.first) * size, y, half};
            const bool together = wide > 1 && work.last - p >= wide;
            (together ? Tiles<Code>::wide[m] : Tiles<Code>::one[m])(piece);
            p += together ? wide : 1;
        }
    }
}

template <class Code>
static void decode(const Matrix& w, const char* panel, bf16* values) {
    const Code code(w.table);
    for (long k = 0; k < w.inputs; k += Code::STEP) {
        __m512i v[Code::STEP];
        code.load(Code::at(panel, k), v);
        prefetch<Code::BYTES, 1>(Code::at(panel, k));
        for (int i = 0; i < Code::STEP; i++) _mm512_storeu_si512(values + k * PANEL + 32 * i, v[i]);
    }
}

template <class Code>
static void run(const Matrix& w, const Rows& rows, const Work& work, void* y, int half) {
    const char* codes =
        (const char*)w.codes + (work.expert * w.panels() + work.first) * w.panel_bytes();
    const long twice = 2 * Code::MOST;
    if (work.end - work.begin <= twice) {
        cover<Code>(w, rows, work, codes, y, half, Code::MOST);
        return;
    }
    static thread_local Buffer buffer;
    const long size = w.inputs * PANEL;
    bf16* values = buffer.get<bf16>((work.last - work.first) * size);
    for (long p = 0; p < work.last - work.first; p++)
        decode<Code>(w, codes + p * w.panel_bytes(), values + p * size);
    cover<Plain>(w, rows, work, (const char*)values, y, half, ROWS);
}

void multiply_int8(const Matrix& w, const Rows& rows, const Experts& experts, void* y, int half);

void multiply(const Matrix& w, const Rows& rows, const Experts& experts, void* y, int half) {
    if (w.kind == INT8) return multiply_int8(w, rows, experts, y, half);
    for_each_piece(w, experts, w.inputs * PANEL * 2, [&](const Work& work) {
        if (w.kind == EIGHT)
            run<Eight>(w, rows, work, y, half);
        else if (w.kind == FOUR)
            run<Four>(w, rows, work, y, half);
        else
            cover<Plain>(w, rows, work,
                         (const char*)w.codes +
                             (work.expert * w.panels() + work.first) * w.panel_bytes(),
                         y, half, ROWS);
    });
}
#endif
