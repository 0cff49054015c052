/* compact.c: where the valid steps of sequences go when what lies between them is left out. */
#include "tensor/tape.h"

mmf_compaction mmf_compact(mmf_tape *tape, const mmf_tensor *valid)
{
    static const char op[] = "compact";
    mmf_compaction c = {0};
    if (!valid || valid->is_int || valid->n_dims != 2) {
        mmf_tape__fail(tape, MMF_SHAPE, op, "takes a mask (B, S)");
        return c;
    }
    const int64_t rows = valid->shape[0], n = valid->shape[1];
    int64_t longest = 1;
    for (int64_t b = 0; b < rows; b++) {
        int64_t count = 0;
        for (int64_t s = 0; s < n; s++)
            count += valid->data[b * n + s] > 0;
        longest = count > longest ? count : longest;
    }
    int64_t *const gather = mmf_tape__alloc(tape, ((size_t)(rows * longest) + 1) * sizeof *gather);
    int64_t *const scatter = mmf_tape__alloc(tape, ((size_t)(rows * n) + 1) * sizeof *scatter);
    mmf_tensor *const mask = mmf_full(tape, 2, (int64_t[]){rows, longest}, 0);
    for (int64_t b = 0; gather && scatter && mask && b < rows; b++) {
        int64_t place = 0;
        for (int64_t s = 0; s < n; s++) {
            const bool there = valid->data[b * n + s] > 0;
            scatter[b * n + s] = b * longest + (there ? place : 0);
            if (!there)
                continue;
            mask->data[b * longest + place] = 1;
            gather[b * longest + place++] = b * n + s;
        }
        for (; place < longest; place++) /* any row: it is masked */
            gather[b * longest + place] = b * n + place;
    }
    if (!gather || !scatter || !mask)
        return c;
    c.gather = mmf_input_ints(tape, gather, 2, (int64_t[]){rows, longest});
    c.scatter = mmf_input_ints(tape, scatter, 2, (int64_t[]){rows, n});
    c.mask = mask;
    return c;
}
