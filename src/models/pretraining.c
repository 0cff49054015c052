/* pretraining.c: see pretraining.h. */
#include "models/pretraining.h"

#include <string.h>

mmf_pair mmf_pair_of(mmf_tape *tape, const char *text, const mmf_regions *regions,
                     const mmf_named *in)
{
    return (mmf_pair){.tokens = mmf_named_get(in, text),
                      .segments = mmf_named_part(in, text, "segments"),
                      .present = mmf_named_part(in, text, "present"),
                      .keys = mmf_bert_keys(tape, in, text),
                      .regions = mmf_regions_run(tape, regions, in)};
}

bool mmf_is_pretraining(const mmf_config *config)
{
    return strcmp(mmf_config_text(config, "train_mode"), "pretraining") == 0;
}

mmf_masking mmf_masking_read(mmf_builder *b, const mmf_config *config, int64_t vocab)
{
    const size_t n = mmf_config_count(config, "special_tokens");
    int64_t *const special = mmf_builder_alloc(b, (n + 1) * sizeof *special);
    for (size_t i = 0; special && i < n; i++)
        special[i] = (int64_t)mmf_config_number_at(config, "special_tokens", i);
    const mmf_masking how = {.rate = mmf_config_real(config, "mask_rate"),
                             .mask_token = mmf_config_int(config, "mask_token"),
                             .vocab = vocab,
                             .special = special,
                             .n_special = special ? n : 0};
    if (how.mask_token >= vocab)
        mmf_builder_fail(b, MMF_ARG, "mask_token is %lld, but there are %lld words",
                         (long long)how.mask_token, (long long)vocab);
    return how;
}

mmf_transform mmf_transform_build(mmf_builder *b, const char *dense, const char *norm,
                                  int64_t width, double eps, mmf_bert_activation activation)
{
    mmf_transform t = {.activation = activation};
    t.dense = mmf_bert_linear_build(b, dense, width, width);
    t.norm = mmf_layer_norm_build(b, norm, width, eps);
    return t;
}

mmf_tensor *mmf_transform_run(mmf_tape *tape, const mmf_transform *t, mmf_tensor *x)
{
    return mmf_layer_norm_run(tape, &t->norm, mmf_bert_activate(tape, &t->dense, x, t->activation));
}

mmf_word_head mmf_word_head_build(mmf_builder *b, const mmf_bert_sizes *s, mmf_tensor *words)
{
    mmf_word_head head = {.decoder.weight = words};
    mmf_builder_enter(b, "cls.predictions");
    head.decoder.bias =
        mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &s->vocab);
    mmf_builder_enter(b, "transform");
    head.transform = mmf_transform_build(b, "dense", "LayerNorm", s->width, s->eps, s->activation);
    mmf_builder_leave(b);
    mmf_builder_alias(b, "decoder.weight", words);
    mmf_builder_leave(b);
    return head;
}

mmf_tensor *mmf_word_head_run(mmf_tape *tape, const mmf_word_head *head, mmf_tensor *x)
{
    return mmf_linear_run(tape, &head->decoder, mmf_transform_run(tape, &head->transform, x),
                          MMF_ACT_NONE);
}

mmf_tensor *mmf_labelled_rows(mmf_tape *tape, const mmf_tensor *labels)
{
    return labels ? mmf_rows_where(tape, mmf_token_mask(tape, labels, -1)) : NULL;
}

mmf_tensor *mmf_as_rows(mmf_tape *tape, mmf_tensor *x)
{
    if (!x)
        return NULL;
    int64_t shape[MMF_MAX_DIMS] = {x->shape[0] * x->shape[1]};
    for (int d = 2; d < x->n_dims; d++)
        shape[d - 1] = x->shape[d];
    return mmf_reshape(tape, x, x->n_dims - 1, shape);
}

mmf_tensor *mmf_label_loss(mmf_tape *tape, mmf_tensor *logits, mmf_tensor *labels,
                           const mmf_tensor *rows)
{
    if (!rows)
        return mmf_full(tape, 1, (int64_t[]){1}, 0);
    mmf_tensor *const classes = mmf_index_select(tape, mmf_as_rows(tape, labels), rows);
    return mmf_cross_entropy(tape, logits, classes, NULL, 0);
}

mmf_tensor *mmf_sum_losses(mmf_tape *tape, mmf_tensor *const *losses, int count)
{
    mmf_tensor *sum = losses[0];
    for (int i = 1; i < count; i++)
        sum = mmf_add(tape, sum, losses[i]);
    return sum;
}

void mmf_put_loss_of_rows(mmf_tape *tape, mmf_named *out, int64_t n_rows)
{
    mmf_tensor *sum = NULL;
    for (size_t i = 0; i < out->count; i++) {
        if (strncmp(out->items[i].name, "loss.", 5) != 0)
            continue;
        mmf_tensor *const loss = mmf_reshape(tape, out->items[i].tensor, 2, (int64_t[]){1, 1});
        sum = sum ? mmf_add(tape, sum, loss) : loss;
    }
    if (sum)
        mmf_named_put(tape, out, "prediction",
                      mmf_expand(tape, mmf_detach(tape, sum), 2, (int64_t[]){n_rows, 1}));
}
