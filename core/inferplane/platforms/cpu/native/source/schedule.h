// Cuts products into work for the threads: groups of panels of one expert, over all its rows.
#pragma once
#include <omp.h>

#include <vector>

#include "matrix.h"

static const long CACHE = 384 * 1024;  // bytes of panels that stay in the second-level cache

struct Work {
    long expert, first, last, begin, end;  // panels first to last, rows begin to end
};

// Panels that one piece takes. Few rows are bound by reading the matrix: a panel or a few at a time,
// so that a slower core takes fewer. Many rows: as many as stay in the cache while all rows pass.
static inline long together(long rows, long panels, long cached_bytes) {
    const long share = panels / (8 * omp_get_max_threads()), cached = CACHE / cached_bytes;
    const long most = rows > ROWS ? (cached > 0 ? cached : 1) : 4;
    return share < 1 ? 1 : share < most ? share : most;
}

template <class Run>
static void for_each_piece(const Matrix& w, const Experts& experts, long cached_bytes, Run run) {
    const long panels = w.panels(), rows = experts.rows();
    if (experts.count == 1) {
        const long size = together(rows, panels, cached_bytes);
#pragma omp parallel for schedule(dynamic, 1)
        for (long p = 0; p < panels; p += size)
            run(Work{0, p, p + size < panels ? p + size : panels, 0, rows});
        return;
    }
    long active = 0;
    for (long e = 0; e < experts.count; e++) active += experts.offsets[e] < experts.offsets[e + 1];
    static thread_local std::vector<Work> pieces;
    pieces.clear();
    for (long e = 0; e < experts.count; e++) {
        const long begin = experts.offsets[e], end = experts.offsets[e + 1];
        if (begin == end) continue;
        const long size = together(end - begin, active * panels, cached_bytes);
        for (long p = 0; p < panels; p += size)
            pieces.push_back({e, p, p + size < panels ? p + size : panels, begin, end});
    }
    const Work* work = pieces.data();
    const long count = (long)pieces.size();
#pragma omp parallel for schedule(dynamic, 1)
    for (long i = 0; i < count; i++) run(work[i]);
}
