// Numbers of 16 at a time, out of bf16 or fp32 memory. Legend: see the kernel files.
#pragma once
#include <cstdint>
#include <cstring>

typedef uint16_t bf16;
typedef float f16x __attribute__((vector_size(64)));  // 16 floats
typedef uint32_t u16x __attribute__((vector_size(64)));
typedef int32_t i16x __attribute__((vector_size(64)));
typedef uint16_t h16x __attribute__((vector_size(32)));

static inline f16x load(const float* p) {
    f16x v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

static inline f16x load(const bf16* p) {
    h16x half;
    std::memcpy(&half, p, sizeof half);
    u16x wide = __builtin_convertvector(half, u16x) << 16;
    f16x v;
    std::memcpy(&v, &wide, sizeof v);
    return v;
}

static inline void store(float* p, f16x v) { std::memcpy(p, &v, sizeof v); }

// Rounds to the nearest, ties to even; a NaN stays a NaN.
static inline void store(bf16* p, f16x v) {
    u16x bits;
    std::memcpy(&bits, &v, sizeof bits);
    u16x rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    i16x number = v == v;
    u16x nan = (bits >> 16) | 0x40;
    u16x mask = (u16x)number;
    h16x half = __builtin_convertvector((rounded & mask) | (nan & ~mask), h16x);
    std::memcpy(p, &half, sizeof half);
}

static inline float one(const float* p) { return *p; }

static inline float one(const bf16* p) {
    uint32_t bits = (uint32_t)*p << 16;
    float v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
}

static inline void put(float* p, float v) { *p = v; }

static inline void put(bf16* p, float v) {
    f16x all = {};
    all[0] = v;
    bf16 row[16];
    store(row, all);
    *p = row[0];
}

static inline float sum(f16x v) {
    typedef float f8x __attribute__((vector_size(32)));
    typedef float f4x __attribute__((vector_size(16)));
    f8x a, b;
    std::memcpy(&a, &v, 32);
    std::memcpy(&b, (char*)&v + 32, 32);
    a += b;
    f4x c, d;
    std::memcpy(&c, &a, 16);
    std::memcpy(&d, (char*)&a + 16, 16);
    c += d;
    return (c[0] + c[2]) + (c[1] + c[3]);
}

// e^x for x <= 0 (88 at most). Below -87 it is 0. Relative error under 2e-7.
// Method: 2^n times a polynomial of degree 6 on the remainder (Cephes expf).
static inline f16x exp16(f16x x) {
    i16x tiny = x < -87.0f;
    u16x keep = ~(u16x)tiny;
    u16x xb;
    std::memcpy(&xb, &x, sizeof xb);
    xb &= keep;  // 0 where the result is dropped, so that no exponent runs over
    std::memcpy(&x, &xb, sizeof x);
    f16x scaled = x * 1.44269504088896341f;
    const f16x magic = {12582912.f, 12582912.f, 12582912.f, 12582912.f, 12582912.f, 12582912.f,
                        12582912.f, 12582912.f, 12582912.f, 12582912.f, 12582912.f, 12582912.f,
                        12582912.f, 12582912.f, 12582912.f, 12582912.f};
    f16x n = (scaled + magic) - magic;  // rounds to an integer
    f16x r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    f16x y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    i16x power = (__builtin_convertvector(n, i16x) + 127) << 23;
    f16x two;
    std::memcpy(&two, &power, sizeof two);
    y *= two;
    u16x yb;
    std::memcpy(&yb, &y, sizeof yb);
    yb &= keep;
    std::memcpy(&y, &yb, sizeof y);
    return y;
}

// 1 / (1 + e^-x)
static inline f16x sigmoid16(f16x x) {
    const i16x positive = x > 0;
    u16x mask = (u16x)positive, bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits |= 0x80000000u;  // -|x|
    f16x negative;
    std::memcpy(&negative, &bits, sizeof negative);
    const f16x e = exp16(negative), one = e * 0 + 1;
    u16x a, b;  // 1 / (1 + e) for x > 0, else e / (1 + e)
    std::memcpy(&a, &one, sizeof a);
    std::memcpy(&b, &e, sizeof b);
    a = (a & mask) | (b & ~mask);
    f16x top;
    std::memcpy(&top, &a, sizeof top);
    return top / (1 + e);
}
