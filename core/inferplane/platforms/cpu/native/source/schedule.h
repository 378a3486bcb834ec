// Cuts products into work for the threads: groups of panels of one expert, over all its rows.
#pragma once
#include <omp.h>

#include <vector>

#include "matrix.h"

static const long CACHE = 384 * 1024;  // bytes of panels that stay in the second-level cache

struct Work {
    long expert, first, last, begin, end;  // panels first to last, rows begin to end
};

// Few rows are bound by reading the matrix: a panel or two at a time, so that a slower core takes
// fewer. Many rows: as many panels as stay in the cache while all rows pass over them.
static std::vector<Work> pieces(const Matrix& w, const Experts& experts, long cached_bytes) {
    long active = 0;
    for (long e = 0; e < experts.count; e++) active += experts.offsets[e] < experts.offsets[e + 1];
    const long panels = w.panels(), cached = CACHE / cached_bytes;
    const long share = active * panels / (8 * omp_get_max_threads());
    std::vector<Work> found;
    for (long e = 0; e < experts.count; e++) {
        const long begin = experts.offsets[e], end = experts.offsets[e + 1];
        if (begin == end) continue;
        const long most = end - begin > ROWS ? (cached > 0 ? cached : 1) : 4;
        const long size = share < 1 ? 1 : share < most ? share : most;
        for (long p = 0; p < panels; p += size)
            found.push_back({e, p, p + size < panels ? p + size : panels, begin, end});
    }
    return found;
}

template <class Run>
static void for_each_piece(const Matrix& w, const Experts& experts, long cached_bytes, Run run) {
    const std::vector<Work> work = pieces(w, experts, cached_bytes);
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t i = 0; i < work.size(); i++) run(work[i]);
}
