// Rows of inputs as the kernels take them: gathered, reordered, rounded to a type of few bits.
//
// Legend: R rows, K inputs, T tokens. A row of few bits is codes times a scale; codes are exact in
// bf16 and, of integers, in 8 bits. Rounding to a type of `mantissa` bits whose least
// exponent is `least`: the step between neighbours at x is 2^(max(exponent of x, least) - mantissa).
// An integer type has steps of one everywhere. Ties go to the even neighbour.
#if defined(__AVX512BF16__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
#include <immintrin.h>

#include <cmath>
#include <limits>

#include "matrix.h"
#include "space.h"

static const long SERIAL = 16 * 1024;  // elements below which one thread is faster

static inline __m512 wide(const float* p) { return _mm512_loadu_ps(p); }

static inline __m512 wide(const bf16* p) {
    const __m256i half = _mm256_loadu_si256((const __m256i*)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

// x [K] -> fp32 [K], zeros up to a multiple of 16
template <typename T>
static void spread(const T* x, const int32_t* order, long K, float* row) {
    long k = 0;
    if (!order)
        for (; k + 16 <= K; k += 16) _mm512_storeu_ps(row + k, wide(x + k));
    for (; k < K; k++) row[k] = one(x + (order ? order[k] : k));
    for (; k % 16; k++) row[k] = 0;
}

// The largest magnitude; a NaN where there is one.
static float peak(const float* row, long first, long last) {
    __m512 most = _mm512_setzero_ps();
    __mmask16 bad = 0;
    for (long k = first; k < last; k += 16) {
        const __mmask16 mask = last - k < 16 ? (1 << (last - k)) - 1 : 0xffff;
        const __m512 v = _mm512_maskz_loadu_ps(mask, row + k);
        bad |= _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        most = _mm512_max_ps(most, _mm512_abs_ps(v));
    }
    return bad ? std::numeric_limits<float>::quiet_NaN() : _mm512_reduce_max_ps(most);
}

static float scale_of(const Matrix& w, float most) {
    if (!w.power) return (most < 1e-12f ? 1e-12f : most) / w.largest;
    if (most != most) return most;
    // the OCP rule: the exponent of the largest magnitude less that of the type's largest value
    const int exponent = std::ilogb(std::fmax(most, 0x1p-126f)) - (int)w.power;
    return std::ldexp(1.0f, exponent < -127 ? -127 : exponent > 127 ? 127 : exponent);
}

// Codes in place of the row's values.
static void round_row(const Matrix& w, float* row, long first, long last, float scale) {
    const __m512 divisor = _mm512_set1_ps(scale), high = _mm512_set1_ps(w.largest);
    const __m512 low = _mm512_set1_ps(-w.largest), least = _mm512_set1_ps((float)w.least);
    const __m512 bits = _mm512_set1_ps((float)w.mantissa);
    for (long k = first; k < last; k += 16) {
        const __mmask16 mask = last - k < 16 ? (1 << (last - k)) - 1 : 0xffff;
        __m512 v = _mm512_div_ps(_mm512_maskz_loadu_ps(mask, row + k), divisor);
        v = _mm512_max_ps(low, _mm512_min_ps(high, v));  // a NaN stays one
        const __m512 step = _mm512_sub_ps(_mm512_max_ps(_mm512_getexp_ps(v), least), bits);
        v = _mm512_scalef_ps(v, _mm512_sub_ps(_mm512_setzero_ps(), step));
        v = _mm512_scalef_ps(_mm512_roundscale_ps(v, 8), step);
        _mm512_mask_storeu_ps(row + k, mask, v);
    }
}

static void put_half(const float* row, long K, bf16* to) {
    for (long k = 0; k < K; k += 16) {
        const __mmask16 mask = K - k < 16 ? (1 << (K - k)) - 1 : 0xffff;
        const __m256bh half = _mm512_cvtneps_pbh(_mm512_loadu_ps(row + k));
        _mm256_mask_storeu_epi16(to + k, mask, (__m256i)half);
    }
}

static int32_t put_bytes(const float* row, long K, long width, int8_t* to) {
    __m512i sum = _mm512_setzero_si512();
    for (long k = 0; k < width; k += 16) {
        const __mmask16 mask = width - k < 16 ? (1 << (width - k)) - 1 : 0xffff;
        const __mmask16 there = K - k >= 16 ? 0xffff : K > k ? (1 << (K - k)) - 1 : 0;
        const __m512i code = _mm512_cvtps_epi32(_mm512_maskz_loadu_ps(there, row + k));
        sum = _mm512_add_epi32(sum, code);
        _mm_mask_storeu_epi8(to + k, mask, _mm512_cvtepi32_epi8(code));
    }
    return _mm512_reduce_add_epi32(sum);
}

// Of each group of inputs.
static void add_up(const bf16* x, long K, long group, float* sums) {
    for (long first = 0; first < K; first += group) {
        const long last = first + group < K ? first + group : K;
        __m512 sum = _mm512_setzero_ps();
        long k = first;
        for (; k + 16 <= last; k += 16) sum = _mm512_add_ps(sum, wide(x + k));
        float rest = 0;
        for (; k < last; k++) rest += one(x + k);
        *sums++ = _mm512_reduce_add_ps(sum) + rest;
    }
}

struct Call {
    const Matrix* w;
    bf16* x;
    int8_t* bytes;
    int32_t* totals;
    float *sums, *scales;
};

template <typename T>
static void one_row(const Call& call, const T* x, long row, long expert) {
    static thread_local Buffer buffer;
    const Matrix& w = *call.w;
    const long K = w.inputs, width = w.width();
    float* values = buffer.get<float>(K + 16);
    const int32_t* order = w.order ? w.order + expert * K : nullptr;
    spread(x, order, K, values);
    if (w.shared == GROUP) {
        const long groups = (K + w.input_group - 1) / w.input_group;
        for (long g = 0; g < groups; g++) {
            const long first = g * w.input_group;
            const long last = first + w.input_group < K ? first + w.input_group : K;
            const float scale = scale_of(w, peak(values, first, last));
            round_row(w, values, first, last, scale);
            if (w.power)  // exact: a power of two
                for (long k = first; k < last; k++) values[k] *= scale;
            else
                call.scales[row * groups + g] = scale;
        }
    } else if (w.shared != AS_IS) {
        const float most = peak(values, 0, K);
        float scale = w.input_scales ? w.input_scales[expert] : call.scales[row];
        if (!w.input_scales && w.shared == TOKEN) scale = scale_of(w, most);
        round_row(w, values, 0, K, scale);
        call.scales[row] = most == most ? scale : most;
    }
    if (call.bytes) {
        call.totals[row] = put_bytes(values, K, width, call.bytes + row * width);
        return;
    }
    put_half(values, K, call.x + row * K);
    if (call.sums) add_up(call.x + row * K, K, w.group, call.sums + row * w.groups());
}

// One scale for all rows of an expert, before any is rounded.
template <typename T>
static void scale_all(const Matrix& w, const T* x, const int32_t* tokens, const Experts& experts,
                      float* scales) {
    static thread_local Buffer buffer;
    float* values = buffer.get<float>(w.inputs + 16);
    for (long e = 0; e < experts.count; e++) {
        float most = 0;
        for (long r = experts.offsets[e]; r < experts.offsets[e + 1]; r++) {
            spread(x + (tokens ? tokens[r] : r) * w.inputs, nullptr, w.inputs, values);
            const float own = peak(values, 0, w.inputs);
            most = own > most || own != own ? own : most;
            if (most != most) break;
        }
        for (long r = experts.offsets[e]; r < experts.offsets[e + 1]; r++)
            scales[r] = scale_of(w, most);
    }
}

template <typename T>
static Rows prepare(const Matrix& w, const T* x, const int32_t* tokens, const Experts& experts,
                    Space& space) {
    const long rows = experts.rows(), K = w.inputs, groups = w.groups();
    const bool bytes = w.kind == INT8, plain = w.shared == AS_IS && !w.order && !tokens;
    Call call = {&w};
    if (w.zero) call.sums = space.sums.get<float>(rows * groups);
    if (w.scale_groups()) call.scales = space.scales.get<float>(rows * w.scale_groups());
    if (plain && sizeof(T) == sizeof(bf16)) {  // the rows are what the kernel takes
#pragma omp parallel for if (call.sums && rows * K > SERIAL)
        for (long r = 0; r < (call.sums ? rows : 0); r++)
            add_up((const bf16*)x + r * K, K, w.group, call.sums + r * groups);
        return {x, nullptr, call.sums, nullptr};
    }
    if (bytes) {
        call.bytes = space.x.get<int8_t>(rows * w.width());
        call.totals = space.sums.get<int32_t>(rows);
    } else
        call.x = space.x.get<bf16>(rows * K);
    if (w.shared == TENSOR && !w.input_scales) scale_all(w, x, tokens, experts, call.scales);
#pragma omp parallel for if (rows * K > SERIAL)
    for (long r = 0; r < rows; r++) {
        long e = 0;  // its expert
        for (long low = 0, high = experts.count; low < high;) {
            e = (low + high) / 2;
            if (r < experts.offsets[e])
                high = e;
            else if (r >= experts.offsets[e + 1])
                low = e + 1;
            else
                break;
        }
        one_row(call, x + (tokens ? tokens[r] : r) * K, r, e);
    }
    const void* made = bytes ? (const void*)call.bytes : call.x;
    return {made, call.totals, call.sums, call.scales};
}

Rows prepare_rows(const Matrix& w, const void* x, int half, const int32_t* tokens,
                  const Experts& experts, Space& space) {
    if (half) return prepare(w, (const bf16*)x, tokens, experts, space);
    return prepare(w, (const float*)x, tokens, experts, space);
}

// One matrix: x [T, K] and y [T, N] in bf16 (half) or fp32.
extern "C" void ip_multiply(const Matrix* matrix, const void* x, void* y, long tokens, int half) {
    static thread_local Space space;
    const int64_t offsets[2] = {0, tokens};
    const Experts experts = {offsets, 1};
    multiply(*matrix, prepare_rows(*matrix, x, half, nullptr, experts, space), experts, y, half);
}
#endif
