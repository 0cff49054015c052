/*
 * vilbert_pretraining.c: hidden words, hidden regions, and whether text and image belong together.
 *
 * Lu et al., NeurIPS 2019, section 3.2, with the reductions of the authors' code: a mean over
 * hidden words, a divergence summed over classes and averaged over hidden regions, cross entropy of
 * the alignment (0 aligned, 1 not). Deviations: without a hidden region the loss is 0 (there: NaN).
 */
#include "models/vilbert.h"

/* A hidden region keeps its feature in one of ten cases. */
#define SHARE_ZEROED 0.9
#define SHARE_EXCHANGED 0.5

void mmf_vilbert_heads_build(mmf_builder *b, const mmf_config *config, mmf_vilbert *m)
{
    mmf_vilbert_heads *const h = &m->heads;
    const int64_t wanted = mmf_config_int(config, "v_target_size"),
                  given = m->regions.input->companions[MMF_COMPANION_TARGET];
    h->n_targets = wanted ? wanted : given;
    if (wanted > 0 && given > 0 && wanted != given)
        mmf_builder_fail(b, MMF_SHAPE, "vilbert: v_target_size is %lld, but %s.target has %lld",
                         (long long)wanted, m->regions.input->name, (long long)given);
    mmf_builder_for_losses(b, true);
    h->words = mmf_word_head_build(b, &m->t, m->embeddings.words.weight);
    mmf_builder_enter(b, "cls");
    h->alignment = mmf_bert_linear_build(b, "bi_seq_relationship", m->bi_width, 2);
    if (h->n_targets > 0) {
        mmf_builder_enter(b, "imagePredictions");
        mmf_builder_enter(b, "transform");
        /* As released: of the text, whatever v_hidden_act says. */
        h->image_transform =
            mmf_transform_build(b, "dense", "LayerNorm", m->v.width, m->v.eps, m->t.activation);
        mmf_builder_leave(b);
        h->image_decoder = mmf_bert_linear_build(b, "decoder", m->v.width, h->n_targets);
        mmf_builder_leave(b);
    }
    mmf_builder_leave(b);
    mmf_builder_for_losses(b, false);
    h->masking = mmf_masking_read(b, config, m->t.vocab);
}

static mmf_tensor *image_logits(mmf_tape *tape, const mmf_vilbert_heads *h, mmf_tensor *x)
{
    return mmf_linear_run(tape, &h->image_decoder, mmf_transform_run(tape, &h->image_transform, x),
                          MMF_ACT_NONE);
}

/* KL(target || softmax(y)) summed over classes, averaged over the rows (n); 0 without rows.
 * @param target (B R', C) */
static mmf_tensor *region_loss(mmf_tape *tape, mmf_tensor *logits, mmf_tensor *target,
                               const mmf_tensor *rows)
{
    if (!rows)
        return mmf_full(tape, 1, (int64_t[]){1}, 0);
    mmf_tensor *const log_p = mmf_log_softmax(tape, logits, NULL, MMF_EMPTY_ZERO);
    return mmf_kl_loss(tape, log_p, mmf_index_select(tape, target, rows));
}

/* Without the first region, which stands for all: (B, R - 1, ...). */
static mmf_tensor *behind_first(mmf_tape *tape, mmf_tensor *x, int64_t n_regions)
{
    return x && x->shape[1] == n_regions ? mmf_slice(tape, x, 1, 1, n_regions - 1) : x;
}

/* ---- What the data hide ------------------------------------------------------------------ */

static void put_losses(mmf_tape *tape, const mmf_vilbert *m, const mmf_named *in,
                       const mmf_vilbert_states *s, mmf_tensor *words, mmf_tensor *regions,
                       mmf_tensor *alignment, const mmf_region_set *set, mmf_named *out)
{
    mmf_tensor *const labels = mmf_named_part(in, m->text, "label"),
                      *const which = mmf_named_part(in, m->regions.input->name, "label"),
                      *const label = mmf_named_get(in, "label");
    mmf_tensor *losses[3];
    int n = 0;
    if (labels) {
        const mmf_tensor *const rows = mmf_labelled_rows(tape, labels);
        mmf_tensor *const y = rows ? mmf_index_select(tape, mmf_as_rows(tape, words), rows) : NULL;
        losses[n] = mmf_label_loss(tape, y, labels, rows);
        mmf_named_put(tape, out, "loss.text", losses[n++]);
    }
    if (which && set->target && regions) {
        const int64_t r = s->vision->shape[1];
        mmf_tensor *const y = mmf_as_rows(tape, behind_first(tape, regions, r));
        mmf_tensor *const target = mmf_as_rows(tape, behind_first(tape, set->target, r));
        const mmf_tensor *const rows =
            mmf_rows_where(tape, mmf_affine(tape, mmf_token_mask(tape, which, 1), -1, 1));
        losses[n] = region_loss(tape, rows ? mmf_index_select(tape, y, rows) : NULL, target, rows);
        mmf_named_put(tape, out, "loss.vision", losses[n++]);
    }
    if (label && label->is_int) {
        losses[n] = mmf_cross_entropy(tape, alignment, label, NULL, 0);
        mmf_named_put(tape, out, "loss.alignment", losses[n++]);
    }
    if (n > 0)
        mmf_named_put(tape, out, "loss", mmf_sum_losses(tape, losses, n));
}

void mmf_vilbert_show_heads(mmf_tape *tape, const mmf_vilbert *m, const mmf_named *in,
                            const mmf_vilbert_states *s, const mmf_pair *pair, mmf_named *out)
{
    const mmf_vilbert_heads *const h = &m->heads;
    mmf_tensor *const words = mmf_word_head_run(tape, &h->words, s->text);
    mmf_tensor *const regions = h->image_decoder.weight ? image_logits(tape, h, s->vision) : NULL;
    mmf_tensor *const alignment = mmf_linear_run(tape, &h->alignment, s->joint, MMF_ACT_NONE);
    mmf_named_put(tape, out, "sequence.text", mmf_masked_rows(tape, s->text, pair->keys));
    mmf_named_put(tape, out, "sequence.vision",
                  mmf_masked_rows(tape, s->vision, pair->regions.mask));
    mmf_named_put(tape, out, "pooled.text", s->pooled_text);
    mmf_named_put(tape, out, "pooled.vision", s->pooled_vision);
    mmf_named_put(tape, out, "logits.text", mmf_masked_rows(tape, words, pair->keys));
    if (regions)
        mmf_named_put(tape, out, "logits.vision",
                      mmf_masked_rows(tape, regions, pair->regions.mask));
    mmf_named_put(tape, out, "logits.alignment", alignment);
    put_losses(tape, m, in, s, words, regions, alignment, &pair->regions, out);
}

/* ---- What a training step hides ---------------------------------------------------------- */

/* 1 where a region is to be found out: (B, R), without the one that stands for all. */
static mmf_tensor *hide_regions(mmf_tape *tape, const mmf_vilbert *m, mmf_region_set *s)
{
    const int64_t rows = s->x->shape[0], n = s->x->shape[1];
    mmf_tensor *valid = s->mask;
    if (!m->regions.adds_global) {
        mmf_tensor *const others = mmf_causal_mask(tape, 1, n, 0); /* the first alone */
        mmf_tensor *const behind = mmf_affine(tape, others, -1, 1);
        valid = valid ? mmf_mul(tape, valid, behind)
                      : mmf_expand(tape, behind, 2, (int64_t[]){rows, n});
    }
    mmf_tensor *const hidden = mmf_mask_steps(tape, rows, n, valid, m->heads.masking.rate, false);
    mmf_tensor *const zeroed = mmf_mask_steps(tape, rows, n, hidden, SHARE_ZEROED, false);
    s->x = mmf_masked_rows(tape, s->x, mmf_affine(tape, zeroed, -1, 1));
    return hidden;
}

void mmf_vilbert_pretrain(mmf_tape *tape, const mmf_vilbert *m, const mmf_named *in, mmf_named *out)
{
    const mmf_vilbert_heads *const h = &m->heads;
    mmf_pair pair = mmf_pair_of(tape, m->text, &m->regions, in);
    mmf_region_set *const set = &pair.regions;
    if (!pair.tokens || !set->x)
        return;
    mmf_tensor *moved = NULL, *labels = NULL, *hidden = NULL;
    const mmf_tensor *const from =
        mmf_exchange(tape, pair.tokens->shape[0], SHARE_EXCHANGED, &moved);
    *set = mmf_regions_of_rows(tape, set, from);
    pair.tokens = mmf_mask_tokens(tape, pair.tokens, pair.keys, &h->masking, &labels);
    if (h->image_decoder.weight && set->target)
        hidden = hide_regions(tape, m, set);
    mmf_regions_add_global(tape, &m->regions, set);
    const mmf_vilbert_states s = mmf_vilbert_run(tape, m, &pair);
    const mmf_tensor *const rows = mmf_labelled_rows(tape, labels);
    mmf_tensor *const words = rows ? mmf_index_select(tape, mmf_as_rows(tape, s.text), rows) : NULL;
    mmf_tensor *const word_logits = rows ? mmf_word_head_run(tape, &h->words, words) : NULL;
    mmf_named_put(tape, out, "loss.text", mmf_label_loss(tape, word_logits, labels, rows));
    mmf_tensor *const alignment = mmf_linear_run(tape, &h->alignment, s.joint, MMF_ACT_NONE);
    mmf_named_put(tape, out, "loss.alignment",
                  mmf_cross_entropy(tape, alignment, mmf_whole_numbers(tape, moved), NULL, 0));
    if (!hidden)
        return;
    const mmf_tensor *const regions = mmf_rows_where(tape, hidden);
    mmf_tensor *const states =
        m->regions.adds_global ? behind_first(tape, s.vision, m->regions.n) : s.vision;
    mmf_tensor *const found =
        regions ? mmf_index_select(tape, mmf_as_rows(tape, states), regions) : NULL;
    mmf_named_put(tape, out, "loss.vision",
                  region_loss(tape, regions ? image_logits(tape, h, found) : NULL,
                              mmf_as_rows(tape, set->target), regions));
}
