// Matrices in panels, and the rows that meet them.
//
// Legend: N outputs, K inputs, G groups of inputs that share a scale, E experts; a panel is 32
// outputs. An output's value is  sum over groups of scale * (codes . x - zero * sum(x)) + bias.
// All that belongs to an expert follows the expert before it.
#pragma once
#include "common.h"

static const long PANEL = 32, ROWS = 12;

enum Codes { PLAIN, EIGHT, FOUR, INT8 };
enum Scale { UNSCALED, FP32, BF16, FP16 };
enum Zero { NO_ZERO, ONE, EACH };
enum Shared { AS_IS, TENSOR, TOKEN, GROUP };  // what shares a scale of the inputs

// Filled by native/matrix.py, field by field in this order.
struct Matrix {
    const void* codes;        // see the kernel of each kind
    const bf16* table;        // EIGHT: values of the codes 0 to 127; FOUR: of 0 to 15, twice
    const void* scales;       // [E][N/32][G][32]
    const bf16* zeros;        // the same, where zero is EACH
    const float* bias;        // [E][N], padded to panels, or null
    const int32_t* order;     // [E][K]: stored input j is the layer's input order[j], or null
    const float* input_scales;  // [E]: of static inputs, or null
    int64_t outputs, inputs, group, kind, scale, zero;
    int64_t shared, input_group, mantissa, least;  // what inputs are rounded to, see inputs.cpp
    int64_t power;  // where the scale of inputs is a power of two: the type's largest exponent
    float largest;  // of the inputs' type

    long panels() const { return (outputs + PANEL - 1) / PANEL; }
    long groups() const { return (inputs + group - 1) / group; }
    long width() const { return kind == INT8 ? (inputs + 3) / 4 * 4 : inputs; }
    long panel_bytes() const {
        const long bytes = PANEL * width();
        return kind == PLAIN ? 2 * bytes : kind == FOUR ? bytes / 2 : bytes;
    }
    long scale_groups() const {  // columns of the scales of inputs, 0 where they have none
        if (shared == AS_IS || (shared == GROUP && power)) return 0;
        return shared == GROUP ? (inputs + input_group - 1) / input_group : 1;
    }
};

// Rows as a matrix's kernel takes them: [R][width] in bf16, or for INT8 in int8.
struct Rows {
    const void* x;
    const int32_t* totals;  // [R]: INT8: sums of codes
    const float* sums;    // [R][G] of x, where the matrix has zeros
    const float* scales;  // [R][scale_groups]: what a result is multiplied by, or null
};

// Where the rows of E experts begin in R rows, [E + 1]. A linear layer is one expert.
struct Experts {
    const int64_t* offsets;
    long count;

    long rows() const { return offsets[count]; }
};

struct Space;  // memory that a call needs, see inputs.cpp

// x [T][K] in bf16 (half) or fp32 -> rows for `matrix`. tokens: of each row, null for one to one.
Rows prepare_rows(const Matrix& matrix, const void* x, int half, const int32_t* tokens,
                  const Experts& experts, Space& space);

// y [R][N] in bf16 (half) or fp32.
void multiply(const Matrix& matrix, const Rows& rows, const Experts& experts, void* y, int half);
