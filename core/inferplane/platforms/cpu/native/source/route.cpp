// Chooses experts for tokens: scores, the best groups, the best experts in them, weights.
//
// Legend: T tokens, X experts, E chosen ones. Ties go to the lower expert; a NaN is never chosen before a number.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "common.h"

struct Routing {  // of native/moe.py, in this order
    int64_t experts, top, groups, top_groups, shared, sigmoid, sum_of_two, renormalize;
    float scaling;
};

template <typename T>
static void scores(const T* logits, long X, bool sigmoid, float* to) {
    float most = -INFINITY, total = 0;
    for (long x = 0; x < X; x++) {
        to[x] = one(logits + x);
        most = to[x] > most ? to[x] : most;
    }
    for (long x = 0; x < X; x += 16) {
        f16x v = load(to + x);
        store(to + x, sigmoid ? sigmoid16(v) : exp16(v - most));
    }
    if (sigmoid) return;
    for (long x = 0; x < X; x++) total += to[x];
    for (long x = 0; x < X; x++) to[x] /= total;
}

// The place of the largest, which becomes a NaN and so is not found again; -1 where all are.
static long take(float* from, long count) {
    long best = -1;
    for (long i = 0; i < count; i++)
        if (from[i] == from[i] && (best < 0 || from[i] > from[best])) best = i;
    if (best >= 0) from[best] = NAN;
    return best;
}

static void keep_best_groups(const Routing& r, float* choice, float* group,
                             std::vector<char>& kept) {
    std::fill(kept.begin(), kept.end(), 0);
    const long size = r.experts / r.groups;
    for (long g = 0; g < r.groups; g++) {
        float first = -INFINITY, second = -INFINITY;
        for (long i = g * size; i < (g + 1) * size; i++) {
            const float v = choice[i];
            second = v > first ? first : v > second ? v : second;
            first = v > first ? v : first;
        }
        group[g] = r.sum_of_two ? first + second : first;
    }
    for (long i = 0; i < r.top_groups; i++) {
        const long best = take(group, r.groups);
        if (best >= 0) kept[best] = 1;
    }
    for (long x = 0; x < r.experts; x++)
        if (!kept[x / size]) choice[x] = -INFINITY;
}

template <typename T>
static void route(const Routing& r, const T* logits, const float* bias, float* weights,
                  int32_t* experts, long tokens) {
    const long X = r.experts, E = r.top + r.shared, padded = (X + 15) / 16 * 16;
#pragma omp parallel if (tokens * X > 8192)
    {
        std::vector<float> memory(2 * padded + r.groups);
        std::vector<char> kept(r.groups);
        float *score = memory.data(), *choice = score + padded, *group = choice + padded;
#pragma omp for
        for (long t = 0; t < tokens; t++) {
            scores(logits + t * X, X, r.sigmoid, score);
            for (long x = 0; x < X; x++) choice[x] = bias ? score[x] + bias[x] : score[x];
            if (r.groups) keep_best_groups(r, choice, group, kept);
            float total = 1e-20f, *w = weights + t * E;
            int32_t* chosen = experts + t * E;
            for (long e = 0; e < r.top; e++) {
                const long found = take(choice, X);
                chosen[e] = (int32_t)(found < 0 ? e : found);  // of NaNs: any
                w[e] = score[chosen[e]];
                total += w[e];
            }
            for (long e = 0; e < r.top; e++) w[e] = (r.renormalize ? w[e] / total : w[e]) * r.scaling;
            for (long e = r.top; e < E; e++) {
                chosen[e] = (int32_t)(X + e - r.top);
                w[e] = 1;
            }
        }
    }
}

// logits [T, X] in bf16 (half) or fp32, bias fp32 [X] or null -> weights, experts [T, E + shared].
extern "C" void ip_route(const Routing* r, const void* logits, const float* bias, float* weights,
                         int32_t* experts, long tokens, int half) {
    if (half)
        route(*r, (const bf16*)logits, bias, weights, experts, tokens);
    else
        route(*r, (const float*)logits, bias, weights, experts, tokens);
}
