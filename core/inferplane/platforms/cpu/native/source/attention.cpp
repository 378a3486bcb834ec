// Paged attention of single new tokens (decode). Online softmax, fp32 inside.
//
// Legend: B rows with one new token each, H query heads, K kv heads, G = H/K, D head size (a
// multiple of 16, 256 at most), G at most 16, P page. The cache is [slot][2][K][D], keys then values.
//
// One piece of work is one row, one kv head and one part of the context. Pieces of one head follow
// each other, so that pages which rows share are still in the second-level cache for the next row.
#include <omp.h>

#include <cmath>

#include "common.h"

static const long BLOCK = 32, MOST_GROUPS = 16, MOST = 256;

struct Work {
    const int32_t *table, *first, *last, *tokens;  // [B][width], [B], [B], [B]
    long rows, width, page, heads, kv_heads, size, parts;
    float scale;
    const float* sinks;  // [H]: logits that take probability, or null

    float sink(long head, float most) const { return sinks ? std::exp(sinks[head] - most) : 0; }
};

// A part's sums: for each g the largest score, the sum of weights, and the weighted values [size].
// D is the head size where it is known when compiled, or 0.
template <typename T, long G, long D>
static void attend(const T* q, const T* cache, const Work& w, long row, long head, long begin,
                   long end, float* most, float* total, float* values) {
    const long size = D ? D : w.size, step = 2 * w.kv_heads * size;
    const T *keys = cache + head * size, *vals = keys + w.kv_heads * size;
    const int32_t* table = w.table + row * w.width;
    f16x sums[G][(D ? D : MOST) / 16];
    alignas(64) float queries[G][D ? D : MOST];
    for (long g = 0; g < G; g++) {
        most[g] = -INFINITY;
        total[g] = 0;
        for (long d = 0; d < size; d += 16) {
            store(&queries[g][d], load(q + g * size + d) * w.scale);
            sums[g][d / 16] = (f16x){};
        }
    }
    for (long at = begin; at < end;) {
        const long offset = at % w.page, slot = table[at / w.page] * w.page + offset;
        long count = end - at < BLOCK ? end - at : BLOCK;
        if (count > w.page - offset) count = w.page - offset;
        alignas(64) float scores[G][BLOCK];
        for (long t = 0; t < count; t++) {
            const T* k = keys + (slot + t) * step;
            f16x dots[G] = {};
            for (long d = 0; d < size; d += 16) {
                const f16x x = load(k + d);
                for (long g = 0; g < G; g++) dots[g] += x * load(&queries[g][d]);
            }
            for (long g = 0; g < G; g++) scores[g][t] = sum(dots[g]);
        }
        for (long g = 0; g < G; g++) {
            float high = most[g];
            for (long t = 0; t < count; t++) high = scores[g][t] > high ? scores[g][t] : high;
            for (long t = count; t < BLOCK; t++) scores[g][t] = -INFINITY;
            const float shrink = std::exp(most[g] - high);
            f16x weights = {};
            for (long t = 0; t < BLOCK; t += 16) {
                const f16x p = exp16(load(&scores[g][t]) - high);
                store(&scores[g][t], p);
                weights += p;
            }
            total[g] = total[g] * shrink + sum(weights);
            most[g] = high;
            for (long d = 0; d < size / 16; d++) sums[g][d] *= shrink;
        }
        for (long t = 0; t < count; t++) {
            const T* v = vals + (slot + t) * step;
            for (long d = 0; d < size / 16; d++) {
                const f16x x = load(v + 16 * d);
                for (long g = 0; g < G; g++) sums[g][d] += x * scores[g][t];
            }
        }
        at += count;
    }
    for (long g = 0; g < G; g++)
        for (long d = 0; d < size / 16; d++) store(values + g * size + 16 * d, sums[g][d]);
}

// All query heads of one kv head, up to four at a time: they share what is read.
template <typename T, long D>
static void attend_all(const T* q, const T* cache, const Work& w, long row, long head, long begin,
                       long end, float* most, float* total, float* values) {
    const long groups = w.heads / w.kv_heads;
    for (long g = 0; g < groups;) {
        const T* from = q + g * w.size;
        float* to = values + g * w.size;
        if (groups - g >= 4) {
            attend<T, 4, D>(from, cache, w, row, head, begin, end, most + g, total + g, to);
            g += 4;
        } else if (groups - g >= 2) {
            attend<T, 2, D>(from, cache, w, row, head, begin, end, most + g, total + g, to);
            g += 2;
        } else {
            attend<T, 1, D>(from, cache, w, row, head, begin, end, most + g, total + g, to);
            g += 1;
        }
    }
}

// Joins the parts of one head of one row: weights are scaled to the largest score of all.
template <typename T>
static void join(const float* parts, long count, long stride, long D, T* out, const Work& w,
                 long head) {
    float most = -INFINITY, total = 0;
    for (long i = 0; i < count; i++) most = std::fmax(most, parts[i * stride]);
    for (long i = 0; i < count; i++)
        total += parts[i * stride + 1] * std::exp(parts[i * stride] - most);
    total += w.sink(head, most);
    for (long d = 0; d < D; d += 16) {
        f16x all = {};
        for (long i = 0; i < count; i++)
            all += load(parts + i * stride + 2 + d) * std::exp(parts[i * stride] - most);
        store(out + d, all / total);
    }
}

// q [.., H, D] with `stride` elements a token, out [.., H, D] contiguous; scratch fp32
// [B][H][parts][D + 2].
template <typename T, long D>
static void decode(const T* q, long stride, const T* cache, T* out, float* scratch, const Work& w) {
    const long groups = w.heads / w.kv_heads, size = w.size, record = size + 2;
#pragma omp parallel for schedule(dynamic, 1)
    for (long i = 0; i < w.kv_heads * w.rows * w.parts; i++) {
        const long part = i % w.parts, row = i / w.parts % w.rows, head = i / w.parts / w.rows;
        const long first = w.first[row], length = w.last[row] - first;
        const long begin = first + length * part / w.parts;
        const long end = first + length * (part + 1) / w.parts;
        float most[MOST_GROUPS], total[MOST_GROUPS];
        alignas(64) float values[MOST_GROUPS * MOST];
        attend_all<T, D>(q + w.tokens[row] * stride + head * groups * size, cache, w, row, head,
                         begin, end, most, total, values);
        for (long g = 0; g < groups; g++) {
            const long h = head * groups + g;
            if (w.parts == 1) {
                T* to = out + (w.tokens[row] * w.heads + h) * size;
                const float all = total[g] + w.sink(h, most[g]);
                for (long d = 0; d < size; d += 16)
                    store(to + d, load(values + g * size + d) / all);
            } else {
                float* to = scratch + ((row * w.heads + h) * w.parts + part) * record;
                to[0] = most[g];
                to[1] = total[g];
                std::memcpy(to + 2, values + g * size, size * sizeof(float));
            }
        }
    }
    if (w.parts == 1) return;
#pragma omp parallel for schedule(static)
    for (long i = 0; i < w.rows * w.heads; i++)
        join(scratch + i * w.parts * record, w.parts, record, size,
             out + (w.tokens[i / w.heads] * w.heads + i % w.heads) * size, w, i % w.heads);
}

template <typename T>
static void by_size(const T* q, long stride, const T* cache, T* out, float* scratch, const Work& w) {
    if (w.size == 64)
        decode<T, 64>(q, stride, cache, out, scratch, w);
    else if (w.size == 128)
        decode<T, 128>(q, stride, cache, out, scratch, w);
    else
        decode<T, 0>(q, stride, cache, out, scratch, w);
}

// tokens: each row's position in q and out; first, last: the context it reads. sinks: fp32 [H] or
// null.
extern "C" void ip_decode(const void* q, long stride, const void* cache, void* out,
                          const float* sinks, float* scratch, const int32_t* table,
                          const int32_t* tokens, const int32_t* first, const int32_t* last,
                          long rows, long width, long page, long heads, long kv_heads, long size,
                          long parts, float scale, int half) {
    const Work w = {table, first, last,     tokens, rows,  width,
                    page,  heads, kv_heads, size,   parts, scale, sinks};
    if (half)
        by_size((const bf16*)q, stride, (const bf16*)cache, (bf16*)out, scratch, w);
    else
        by_size((const float*)q, stride, (const float*)cache, (float*)out, scratch, w);
}
