// Norms, activations, and what lies between the attention projection and attention.
//
// Legend: T tokens, C hidden (a multiple of 16), H query heads, K kv heads, D head size, a
// multiple of 32. Each function is written once for bf16 and fp32; sums are fp32.
#include <omp.h>

#include <cmath>

#include "common.h"

static const long SERIAL = 16 * 1024;  // elements below which one thread is faster

template <typename T>
static inline void norm(const T* x, const T* weight, T* y, long C, float eps) {
    f16x squares = {};
    for (long c = 0; c < C; c += 16) {
        const f16x v = load(x + c);
        squares += v * v;
    }
    const float scale = 1.0f / std::sqrt(sum(squares) / C + eps);
    for (long c = 0; c < C; c += 16) store(y + c, load(x + c) * scale * load(weight + c));
}

template <typename T>
static void norms(const T* x, const T* weight, T* y, long rows, long C, float eps) {
#pragma omp parallel for if (rows * C > SERIAL)
    for (long r = 0; r < rows; r++) norm(x + r * C, weight, y + r * C, C, eps);
}

template <typename T>
static void add_norms(T* x, const T* residual, const T* weight, T* y, long rows, long C,
                      float eps) {
#pragma omp parallel for if (rows * C > SERIAL)
    for (long r = 0; r < rows; r++) {
        for (long c = r * C; c < (r + 1) * C; c += 16) store(x + c, load(x + c) + load(residual + c));
        norm(x + r * C, weight, y + r * C, C, eps);
    }
}

// SiLU(gate) * up. x [T, 2N], y [T, N]
template <typename T>
static void gates(const T* x, T* y, long rows, long N) {
#pragma omp parallel for if (rows * N > SERIAL)
    for (long r = 0; r < rows; r++)
        for (long n = 0; n < N; n += 16) {
            const f16x gate = load(x + 2 * r * N + n), up = load(x + 2 * r * N + N + n);
            store(y + r * N + n, gate * sigmoid16(gate) * up);
        }
}

// Turns halves: (a, b) -> (a cos - b sin, b cos + a sin). table [D]: cosines, then sines.
template <typename T>
static inline void turn(T* x, const float* table, long D) {
    for (long d = 0; d < D / 2; d += 16) {
        const f16x a = load(x + d), b = load(x + D / 2 + d);
        const f16x c = load(table + d), s = load(table + D / 2 + d);
        store(x + d, a * c - b * s);
        store(x + D / 2 + d, b * c + a * s);
    }
}

// q/k norm (unless the weights are null), rotary, KV write. qkv [T, (H + 2K) * D] in place.
template <typename T>
static void inputs(T* qkv, T* cache, const int64_t* slots, const float* table,
                   const int64_t* positions, const T* q_weight, const T* k_weight, long tokens,
                   long heads, long kv_heads, long D, float eps) {
    const long width = (heads + 2 * kv_heads) * D;
#pragma omp parallel for if (tokens * width > SERIAL)
    for (long t = 0; t < tokens; t++) {
        T* row = qkv + t * width;
        const float* angles = table + positions[t] * D;
        for (long h = 0; h < heads + kv_heads; h++) {
            T* x = row + h * D;
            if (q_weight) norm(x, h < heads ? q_weight : k_weight, x, D, eps);
            turn(x, angles, D);
        }
        if (slots[t] >= 0)
            std::memcpy(cache + slots[t] * 2 * kv_heads * D, row + heads * D,
                        2 * kv_heads * D * sizeof(T));
    }
}

extern "C" void ip_norm(const void* x, const void* weight, void* y, long rows, long C, float eps,
                        int half) {
    if (half)
        norms((const bf16*)x, (const bf16*)weight, (bf16*)y, rows, C, eps);
    else
        norms((const float*)x, (const float*)weight, (float*)y, rows, C, eps);
}

extern "C" void ip_add_norm(void* x, const void* residual, const void* weight, void* y, long rows,
                            long C, float eps, int half) {
    if (half)
        add_norms((bf16*)x, (const bf16*)residual, (const bf16*)weight, (bf16*)y, rows, C, eps);
    else
        add_norms((float*)x, (const float*)residual, (const float*)weight, (float*)y, rows, C, eps);
}

extern "C" void ip_silu(const void* x, void* y, long rows, long N, int half) {
    if (half)
        gates((const bf16*)x, (bf16*)y, rows, N);
    else
        gates((const float*)x, (float*)y, rows, N);
}

extern "C" void ip_attention_input(void* qkv, void* cache, const int64_t* slots,
                                   const float* table, const int64_t* positions,
                                   const void* q_weight, const void* k_weight, long tokens,
                                   long heads, long kv_heads, long D, float eps, int half) {
    if (half)
        inputs((bf16*)qkv, (bf16*)cache, slots, table, positions, (const bf16*)q_weight,
               (const bf16*)k_weight, tokens, heads, kv_heads, D, eps);
    else
        inputs((float*)qkv, (float*)cache, slots, table, positions, (const float*)q_weight,
               (const float*)k_weight, tokens, heads, kv_heads, D, eps);
}
