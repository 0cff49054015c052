/*
 * corrupt.c: what pre-training hides and exchanges: random draws that depend on (seed, step, site),
 * as those of dropout do. Nothing here has a gradient.
 */
#include "tensor/tape.h"

#include <string.h>

/* Of the hidden tokens so many become the token that stands for a hidden one, so many any other;
 * the rest stay what they are (Devlin et al., NAACL 2019, section 3.1). */
#define SHARE_REPLACED 0.8
#define SHARE_RANDOM 0.1

static mmf_rng rng_of_site(mmf_tape *tape)
{
    return mmf_rng_make(tape->pass.seed,
                        mmf_rng_stream("corrupt") + (tape->pass.step << 16) + tape->n_sites++);
}

static bool is_special(const mmf_masking *how, int64_t token)
{
    for (size_t i = 0; i < how->n_special; i++) {
        if (how->special[i] == token)
            return true;
    }
    return false;
}

static int64_t replacement(mmf_rng *rng, const mmf_masking *how, int64_t token)
{
    const double draw = mmf_rng_uniform(rng);
    const int64_t other = how->vocab > 1 ? 1 + (int64_t)mmf_rng_below(rng, (uint64_t)how->vocab - 1)
                                         : how->mask_token;
    if (draw < SHARE_REPLACED)
        return how->mask_token;
    return draw < SHARE_REPLACED + SHARE_RANDOM ? other : token;
}

mmf_tensor *mmf_mask_tokens(mmf_tape *tape, const mmf_tensor *tokens, const mmf_tensor *valid,
                            const mmf_masking *how, mmf_tensor **labels)
{
    static const char op[] = "mask_tokens";
    *labels = NULL;
    if (!tokens)
        return mmf_tape__missing(tape, op);
    if (!tokens->is_int || tokens->n_dims != 2 || (valid && valid->count != tokens->count))
        return mmf_tape__fail(tape, MMF_SHAPE, op, "takes integer tokens (B, T), a mask a token");
    const size_t bytes = ((size_t)tokens->count + 1) * sizeof(int64_t);
    int64_t *const kept = mmf_tape__alloc(tape, bytes), *const label = mmf_tape__alloc(tape, bytes);
    mmf_rng rng = rng_of_site(tape);
    for (int64_t b = 0; kept && label && b < tokens->shape[0]; b++) {
        int64_t first = -1, n_hidden = 0;
        for (int64_t t = 0; t < tokens->shape[1]; t++) {
            const int64_t i = b * tokens->shape[1] + t, token = tokens->ints[i];
            const bool hidable = (!valid || valid->data[i] > 0) && !is_special(how, token);
            const bool hidden = mmf_rng_uniform(&rng) < how->rate && hidable;
            const int64_t other = replacement(&rng, how, token);
            kept[i] = hidden ? other : token;
            label[i] = hidden ? token : -1;
            first = first < 0 && hidable ? i : first;
            n_hidden += hidden;
        }
        if (how->at_least_one && n_hidden == 0 && first >= 0) {
            label[first] = tokens->ints[first];
            kept[first] = how->mask_token;
        }
    }
    if (!kept || !label)
        return NULL;
    *labels = mmf_input_ints(tape, label, 2, tokens->shape);
    return mmf_input_ints(tape, kept, 2, tokens->shape);
}

mmf_tensor *mmf_mask_steps(mmf_tape *tape, int64_t n_rows, int64_t n_steps, const mmf_tensor *valid,
                           double rate, bool at_least_one)
{
    static const char op[] = "mask_steps";
    if (valid && valid->count != n_rows * n_steps)
        return mmf_tape__fail(tape, MMF_SHAPE, op, "takes a mask a step");
    mmf_tensor *const flags = mmf_full(tape, 2, (int64_t[]){n_rows, n_steps}, 0);
    mmf_rng rng = rng_of_site(tape);
    for (int64_t b = 0; flags && b < n_rows; b++) {
        int64_t first = -1, n_hidden = 0;
        for (int64_t t = 0; t < n_steps; t++) {
            const int64_t i = b * n_steps + t;
            const bool hidable = !valid || valid->data[i] > 0;
            const bool hidden = mmf_rng_uniform(&rng) < rate && hidable;
            flags->data[i] = hidden;
            first = first < 0 && hidable ? i : first;
            n_hidden += hidden;
        }
        if (at_least_one && n_hidden == 0 && first >= 0)
            flags->data[first] = 1;
    }
    return flags;
}

mmf_tensor *mmf_exchange(mmf_tape *tape, int64_t n_rows, double rate, mmf_tensor **moved)
{
    int64_t *const from = mmf_tape__alloc(tape, ((size_t)n_rows + 1) * sizeof *from);
    mmf_rng rng = rng_of_site(tape);
    *moved = mmf_full(tape, 1, &n_rows, 0);
    for (int64_t b = 0; from && *moved && b < n_rows; b++) {
        from[b] = b;
        const bool moves = mmf_rng_uniform(&rng) < rate && n_rows > 1;
        const int64_t step = n_rows > 1 ? (int64_t)mmf_rng_below(&rng, (uint64_t)n_rows - 1) : 0;
        if (!moves)
            continue;
        from[b] = (b + 1 + step) % n_rows;
        (*moved)->data[b] = 1;
    }
    return from && *moved ? mmf_input_ints(tape, from, 1, &n_rows) : NULL;
}
