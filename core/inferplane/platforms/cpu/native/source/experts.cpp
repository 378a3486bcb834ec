// A mixture of experts: tokens sorted by expert, both projections as products over all active
// experts at once, the gated activation between them, and each token's weighted sum.
//
// Legend: T tokens, E experts a token, X experts, C hidden, I intermediate, R pairs of a token and
// an expert. What lies between the projections is fp32.
#if defined(__AVX512BF16__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
#include <cmath>

#include "matrix.h"
#include "space.h"

static const long SERIAL = 16 * 1024;  // elements below which one thread is faster

enum Kind { SILU, GELU, GELU_TANH, SWIGLUOAI };

static inline f16x clamp(f16x v, float low, float high) {  // a NaN stays one
    v = v < low ? v * 0 + low : v;
    return v > high ? v * 0 + high : v;
}

static inline f16x gate(f16x g, f16x up, int kind, float limit) {
    if (limit) {
        g = clamp(g, -INFINITY, limit);
        up = clamp(up, -limit, limit);
    }
    if (kind == SILU) return g * sigmoid16(g) * up;
    if (kind == SWIGLUOAI) return g * sigmoid16(1.702f * g) * (up + 1);
    if (kind == GELU_TANH) {  // tanh(u) = 2 sigmoid(2u) - 1
        const f16x u = 0.7978845608028654f * (g + 0.044715f * g * g * g);
        return g * sigmoid16(2 * u) * up;
    }
    for (int i = 0; i < 16; i++) g[i] *= 0.5f * (1 + std::erf(g[i] * 0.7071067811865476f));
    return g * up;
}

// x [R, 2I] -> y [R, I]
static void gates(const float* x, float* y, long R, long I, int kind, float limit) {
#pragma omp parallel for if (R * I > SERIAL)
    for (long r = 0; r < R; r++) {
        const float *g = x + 2 * r * I, *up = g + I;
        long i = 0;
        for (; i + 16 <= I; i += 16)
            store(y + r * I + i, gate(load(g + i), load(up + i), kind, limit));
        if (i == I) continue;
        float a[16] = {}, b[16] = {};
        std::memcpy(a, g + i, (I - i) * 4);
        std::memcpy(b, up + i, (I - i) * 4);
        store(a, gate(load(a), load(b), kind, limit));
        std::memcpy(y + r * I + i, a, (I - i) * 4);
    }
}

template <typename T>
static void join(const float* rows, const int32_t* at, const float* weights, T* y, long tokens,
                 long E, long C) {
#pragma omp parallel for if (tokens * E * C > SERIAL)
    for (long t = 0; t < tokens; t++) {
        long c = 0;
        for (; c + 16 <= C; c += 16) {
            f16x sum = {};
            for (long e = t * E; e < t * E + E; e++)
                if (at[e] >= 0) sum += weights[e] * load(rows + at[e] * C + c);
            store(y + t * C + c, sum);
        }
        for (; c < C; c++) {
            float sum = 0;
            for (long e = t * E; e < t * E + E; e++)
                if (at[e] >= 0) sum += weights[e] * rows[at[e] * C + c];
            put(y + t * C + c, sum);
        }
    }
}

struct Room {
    Space first, second;
    Buffer offsets, tokens, at, hidden, gated, out;
};

// x [T, C] and y [T, C] in bf16 (half) or fp32; weights fp32 and chosen int32, [T, E]. An expert
// that is not below `count` and above -1 adds nothing.
extern "C" void ip_experts(const Matrix* gate_up, const Matrix* down, const void* x,
                           const float* weights, const int32_t* chosen, void* y, long tokens,
                           long E, long count, int kind, float limit, int half) {
    static thread_local Room room;
    const long C = gate_up->inputs, I = down->inputs, pairs = tokens * E;
    int64_t* offsets = room.offsets.get<int64_t>(count + 1);
    int32_t *at = room.at.get<int32_t>(pairs), *row_tokens = room.tokens.get<int32_t>(pairs);
    std::memset(offsets, 0, (count + 1) * sizeof(int64_t));
    for (long i = 0; i < pairs; i++)
        if (chosen[i] >= 0 && chosen[i] < count) offsets[chosen[i] + 1]++;
    for (long e = 0; e < count; e++) offsets[e + 1] += offsets[e];
    for (long i = 0; i < pairs; i++) {  // offsets move to the ends: each is where the next begins
        at[i] = -1;
        if (chosen[i] < 0 || chosen[i] >= count) continue;
        at[i] = (int32_t)offsets[chosen[i]]++;
        row_tokens[at[i]] = (int32_t)(i / E);
    }
    for (long e = count; e > 0; e--) offsets[e] = offsets[e - 1];
    offsets[0] = 0;
    const Experts experts = {offsets, count};
    const long R = experts.rows();
    float* hidden = room.hidden.get<float>(R * 2 * I);
    float* gated = room.gated.get<float>(R * I);
    float* out = room.out.get<float>(R * C);
    multiply(*gate_up, prepare_rows(*gate_up, x, half, row_tokens, experts, room.first), experts,
             hidden, 0);
    gates(hidden, gated, R, I, kind, limit);
    multiply(*down, prepare_rows(*down, gated, 0, nullptr, experts, room.second), experts, out, 0);
    if (half)
        join(out, at, weights, (bf16*)y, tokens, E, C);
    else
        join(out, at, weights, (float*)y, tokens, E, C);
}
#endif
