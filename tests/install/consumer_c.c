/* consumer_c.c: a user's program: makes a context, multiplies a matrix with itself, prints the
 * version. */
#include <stdio.h>

#include <mmfuse/mmfuse.h>

int main(void)
{
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.n_threads = 1;
    mmf_ctx *ctx = NULL;
    mmf_tape *tape = NULL;
    if (mmf_ctx_create(&ctx, &options) != MMF_OK || mmf_tape_create(ctx, &tape) != MMF_OK)
        return 1;
    const int64_t shape[2] = {2, 2};
    mmf_real a[4] = {1, 2, 3, 4};
    mmf_tensor *const x = mmf_input(tape, a, 2, shape);
    const mmf_tensor *const y = mmf_matmul(tape, x, x, false, false);
    const bool right = y && y->data[0] == 7 && y->data[3] == 22;
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
    if (right)
        puts(mmf_version());
    return right ? 0 : 1;
}
