/*
 * uniter_pretraining.c: hidden words (MLM), features and classes of hidden regions (MRFR, MRC),
 * whether text and image match (ITM), and words aligned with regions by transport (WRA).
 *
 * Chen et al., ECCV 2020, section 3.2, with the reductions of the authors' code: means over hidden
 * words; over hidden regions and features; over hidden regions and classes; ITM label 1 is a match.
 * The plan of the transport has no gradient, its costs have.
 */
#include "models/uniter.h"

#include <string.h>

#define SHARE_EXCHANGED 0.5
#define COSINE_EPS 1e-5

/* The tasks, and how often each is drawn. */
enum { ITM, MLM, MRFR, MRC, N_TASKS };
static const int shares[N_TASKS] = {[ITM] = 2, [MLM] = 2, [MRFR] = 1, [MRC] = 1};

void mmf_uniter_heads_build(mmf_builder *b, const mmf_config *config, mmf_uniter *m)
{
    mmf_uniter_heads *const h = &m->heads;
    const int64_t d = m->bert.sizes.width, features = m->regions.width;
    const double eps = m->bert.sizes.eps;
    const int64_t wanted = mmf_config_int(config, "img_label_dim"),
                  given = m->regions.input->companions[MMF_COMPANION_TARGET];
    h->n_targets = wanted ? wanted : given;
    if (wanted > 0 && given > 0 && wanted != given)
        mmf_builder_fail(b, MMF_SHAPE, "uniter: img_label_dim is %lld, but %s.target has %lld",
                         (long long)wanted, m->regions.input->name, (long long)given);
    mmf_builder_for_losses(b, true);
    h->words = mmf_word_head_build(b, &m->bert.sizes, m->bert.embeddings.words.weight);
    mmf_builder_enter(b, "feat_regress");
    mmf_builder_alias(b, "weight", m->image.weight);
    h->feature_bias =
        mmf_builder_param(b, "bias", MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &features);
    h->feature = mmf_transform_build(b, "net.0", "net.2", d, eps, MMF_BERT_GELU);
    mmf_builder_leave(b);
    if (h->n_targets > 0) {
        mmf_builder_enter(b, "region_classifier");
        h->region = mmf_transform_build(b, "net.0", "net.2", d, eps, MMF_BERT_GELU);
        h->region_classes = mmf_bert_linear_build(b, "net.3", d, h->n_targets);
        mmf_builder_leave(b);
    }
    h->matching = mmf_bert_linear_build(b, "itm_output", d, 2);
    mmf_builder_for_losses(b, false);
    h->masking = mmf_masking_read(b, config, m->bert.sizes.vocab);
    h->masking.at_least_one = true;
    h->by_class = strcmp(mmf_config_text(config, "mrc"), "class") == 0;
    h->wra_weight = mmf_config_real(config, "wra_weight");
    h->wra_beta = mmf_config_real(config, "wra_beta");
    h->wra_iterations = mmf_config_int(config, "wra_iterations");
}

/* ---- Heads ------------------------------------------------------------------------------- */

static mmf_tensor *rows_of(mmf_tape *tape, mmf_tensor *x, const mmf_tensor *rows)
{
    return rows ? mmf_index_select(tape, mmf_as_rows(tape, x), rows) : NULL;
}

static mmf_tensor *zero(mmf_tape *tape)
{
    return mmf_full(tape, 1, (int64_t[]){1}, 0);
}

/* LN(gelu(W h)) W_img + b: features of hidden regions (n, d). */
static mmf_tensor *features_of(mmf_tape *tape, const mmf_uniter *m, mmf_tensor *states)
{
    mmf_tensor *const h = mmf_transform_run(tape, &m->heads.feature, states);
    return mmf_add(tape, mmf_matmul(tape, h, m->image.weight, false, false), m->heads.feature_bias);
}

static mmf_tensor *classes_of(mmf_tape *tape, const mmf_uniter *m, mmf_tensor *states)
{
    return mmf_linear_run(tape, &m->heads.region_classes,
                          mmf_transform_run(tape, &m->heads.region, states), MMF_ACT_NONE);
}

/* The likeliest class but the first, which is background. */
static mmf_tensor *class_loss(mmf_tape *tape, mmf_tensor *logits, mmf_tensor *target)
{
    if (!target)
        return NULL;
    mmf_tensor *const first = mmf_causal_mask(tape, 1, target->shape[1], 0);
    mmf_tensor *const objects = mmf_mul(tape, target, mmf_affine(tape, first, -1, 1));
    const mmf_tensor *const classes = mmf_argmax(tape, mmf_sub(tape, objects, first));
    return mmf_cross_entropy(tape, logits, classes, NULL, 0);
}

/* KL(target || softmax(y)), averaged over regions and classes. */
static mmf_tensor *distribution_loss(mmf_tape *tape, mmf_tensor *logits, mmf_tensor *target)
{
    mmf_tensor *const log_p = mmf_log_softmax(tape, logits, NULL, MMF_EMPTY_ZERO);
    mmf_tensor *const sum = mmf_kl_loss(tape, log_p, target);
    return target ? mmf_affine(tape, sum, 1 / (double)target->shape[1], 0) : NULL;
}

/*
 * C_ji = 1 - cos(v_j, w_i), D = sum_ji C_ji T_ji with the plan T of IPOT: (B).
 * @param plan  receives T (B, R, T)
 */
static mmf_tensor *distance_of(mmf_tape *tape, const mmf_uniter *m, const mmf_uniter_states *s,
                               const mmf_pair *pair, mmf_tensor **plan)
{
    mmf_tensor *const v = mmf_l2_normalise(tape, s->vision, COSINE_EPS);
    mmf_tensor *const w = mmf_l2_normalise(tape, s->text, COSINE_EPS);
    mmf_tensor *const cost = mmf_affine(tape, mmf_matmul(tape, v, w, false, true), -1, 1);
    *plan = mmf_transport_plan(tape, cost, pair->regions.mask, pair->keys, m->heads.wra_beta,
                               m->heads.wra_iterations);
    mmf_tensor *const moved = mmf_mul(tape, cost, *plan);
    return mmf_sum(tape, mmf_sum(tape, moved, 2), 1);
}

/* (sum over matched - sum over others) / B. @param matched (B) 1 or 0 */
static mmf_tensor *alignment_loss(mmf_tape *tape, mmf_tensor *distance, mmf_tensor *matched)
{
    return mmf_mean(tape, mmf_mul(tape, distance, mmf_affine(tape, matched, 2, -1)), MMF_ALL_AXES);
}

/* ---- What the data hide ------------------------------------------------------------------ */

typedef struct loss_list {
    mmf_tensor *all[6];
    int count;
} loss_list;

static void put_loss(mmf_tape *tape, mmf_named *out, loss_list *list, const char *name,
                     mmf_tensor *shown, mmf_tensor *added)
{
    mmf_named_put(tape, out, name, shown);
    list->all[list->count++] = added;
}

/* A second pass, in which regions are hidden. */
static void show_regions(mmf_tape *tape, const mmf_uniter *m, const mmf_named *in,
                         const mmf_pair *pair, loss_list *losses, mmf_named *out)
{
    const mmf_tensor *const which = mmf_named_part(in, m->regions.input->name, "masked");
    if (!which)
        return;
    mmf_tensor *const hidden = mmf_affine(tape, mmf_token_mask(tape, which, 1), -1, 1);
    const mmf_tensor *const rows = mmf_rows_where(tape, hidden);
    const mmf_uniter_states s = mmf_uniter_run(tape, m, pair, hidden, true);
    mmf_tensor *const states = rows_of(tape, s.vision, rows);
    mmf_tensor *const found = rows ? features_of(tape, m, states) : NULL;
    if (found)
        mmf_named_put(tape, out, "mrfr", found);
    mmf_tensor *const wanted = mmf_detach(tape, pair->regions.x);
    mmf_tensor *loss = found ? mmf_mse_loss(tape, found, rows_of(tape, wanted, rows)) : zero(tape);
    put_loss(tape, out, losses, "loss.mrfr", loss, loss);
    if (!m->heads.region_classes.weight || !pair->regions.target)
        return;
    mmf_tensor *const logits = rows ? classes_of(tape, m, states) : NULL;
    mmf_tensor *const target = rows_of(tape, pair->regions.target, rows);
    if (logits)
        mmf_named_put(tape, out, "logits.mrc", logits);
    loss = logits ? class_loss(tape, logits, target) : zero(tape);
    put_loss(tape, out, losses, "loss.mrc", loss, loss);
    loss = logits ? distribution_loss(tape, logits, target) : zero(tape);
    put_loss(tape, out, losses, "loss.mrc_kl", loss, loss);
}

void mmf_uniter_show_heads(mmf_tape *tape, const mmf_uniter *m, const mmf_named *in, mmf_named *out)
{
    const mmf_pair pair = mmf_pair_of(tape, m->text, &m->regions, in);
    const mmf_uniter_states s = mmf_uniter_run(tape, m, &pair, NULL, true);
    mmf_tensor *const labels = mmf_named_part(in, m->text, "label"), *const label =
                                                                         mmf_named_get(in, "label");
    loss_list losses = {.count = 0};
    mmf_tensor *plan = NULL;
    const mmf_steps sequence = {s.sequence, s.mask};
    mmf_tensor *const matching = mmf_linear_run(tape, &m->heads.matching, s.pooled, MMF_ACT_NONE);
    mmf_tensor *const distance = distance_of(tape, m, &s, &pair, &plan);
    mmf_named_put(tape, out, "sequence", mmf_steps_masked(tape, &sequence));
    mmf_named_put(tape, out, "pooled", s.pooled);
    mmf_named_put(tape, out, "logits.itm", matching);
    mmf_named_put(tape, out, "wra.distance", distance);
    mmf_named_put(tape, out, "wra.plan", plan);
    if (labels) {
        const mmf_tensor *const rows = mmf_labelled_rows(tape, labels);
        mmf_tensor *const logits =
            rows ? mmf_word_head_run(tape, &m->heads.words, rows_of(tape, s.text, rows)) : NULL;
        if (logits)
            mmf_named_put(tape, out, "logits.mlm", logits);
        mmf_tensor *const loss = mmf_label_loss(tape, logits, labels, rows);
        put_loss(tape, out, &losses, "loss.mlm", loss, loss);
    }
    show_regions(tape, m, in, &pair, &losses, out);
    if (label && label->is_int) {
        mmf_tensor *const itm = mmf_cross_entropy(tape, matching, label, NULL, 0);
        put_loss(tape, out, &losses, "loss.itm", itm, itm);
        mmf_tensor *const matched = mmf_token_mask(tape, label, 0);
        mmf_tensor *const wra = alignment_loss(tape, distance, matched);
        put_loss(tape, out, &losses, "loss.wra", wra,
                 mmf_affine(tape, wra, m->heads.wra_weight, 0));
    }
    if (losses.count > 0)
        mmf_named_put(tape, out, "loss", mmf_sum_losses(tape, losses.all, losses.count));
}

/* ---- What a training step hides ---------------------------------------------------------- */

static void match(mmf_tape *tape, const mmf_uniter *m, const mmf_pair *given, mmf_named *out)
{
    mmf_tensor *moved = NULL, *plan = NULL;
    mmf_pair pair = *given;
    const mmf_tensor *const from =
        mmf_exchange(tape, given->tokens->shape[0], SHARE_EXCHANGED, &moved);
    pair.regions = mmf_regions_of_rows(tape, &given->regions, from);
    const mmf_uniter_states s = mmf_uniter_run(tape, m, &pair, NULL, true);
    mmf_tensor *const matched = mmf_affine(tape, moved, -1, 1);
    mmf_tensor *const logits = mmf_linear_run(tape, &m->heads.matching, s.pooled, MMF_ACT_NONE);
    mmf_named_put(tape, out, "loss.itm",
                  mmf_cross_entropy(tape, logits, mmf_whole_numbers(tape, matched), NULL, 0));
    if (m->heads.wra_weight == 0)
        return;
    mmf_tensor *const wra = alignment_loss(tape, distance_of(tape, m, &s, &pair, &plan), matched);
    mmf_named_put(tape, out, "loss.wra", mmf_affine(tape, wra, m->heads.wra_weight, 0));
}

static void find_words(mmf_tape *tape, const mmf_uniter *m, const mmf_pair *given, mmf_named *out)
{
    mmf_tensor *labels = NULL;
    mmf_pair pair = *given;
    pair.tokens = mmf_mask_tokens(tape, given->tokens, given->keys, &m->heads.masking, &labels);
    const mmf_uniter_states s = mmf_uniter_run(tape, m, &pair, NULL, true);
    const mmf_tensor *const rows = mmf_labelled_rows(tape, labels);
    mmf_tensor *const logits =
        rows ? mmf_word_head_run(tape, &m->heads.words, rows_of(tape, s.text, rows)) : NULL;
    mmf_named_put(tape, out, "loss.mlm", mmf_label_loss(tape, logits, labels, rows));
}

/* @param task  MRFR, MRC or, for both, N_TASKS */
static void find_regions(mmf_tape *tape, const mmf_uniter *m, const mmf_pair *given, int task,
                         mmf_named *out)
{
    const mmf_tensor *const x = given->regions.x;
    mmf_tensor *const hidden = mmf_mask_steps(tape, x->shape[0], x->shape[1], given->regions.mask,
                                              m->heads.masking.rate, true);
    const mmf_tensor *const rows = mmf_rows_where(tape, hidden);
    if (!rows)
        return;
    const mmf_uniter_states s = mmf_uniter_run(tape, m, given, hidden, true);
    mmf_tensor *const states = rows_of(tape, s.vision, rows);
    if (task != MRC) {
        mmf_tensor *const wanted = rows_of(tape, mmf_detach(tape, given->regions.x), rows);
        mmf_named_put(tape, out, "loss.mrfr",
                      mmf_mse_loss(tape, features_of(tape, m, states), wanted));
    }
    if (task == MRFR || !m->heads.region_classes.weight || !given->regions.target)
        return;
    mmf_tensor *const target = rows_of(tape, given->regions.target, rows);
    mmf_tensor *const logits = classes_of(tape, m, states);
    if (m->heads.by_class)
        mmf_named_put(tape, out, "loss.mrc", class_loss(tape, logits, target));
    else
        mmf_named_put(tape, out, "loss.mrc_kl", distribution_loss(tape, logits, target));
}

/* Regions that are learned themselves cannot be what is to be found out. */
static bool has_task(const mmf_uniter *m, const mmf_pair *pair, int task)
{
    if (task == MRFR)
        return m->regions.input->kind == MMF_SEQUENCE;
    return task != MRC || (m->heads.region_classes.weight && pair->regions.target);
}

static int draw_task(mmf_tape *tape, const mmf_uniter *m, const mmf_pair *pair, int64_t step)
{
    int total = 0, task = 0;
    for (int i = 0; i < N_TASKS; i++)
        total += has_task(m, pair, i) ? shares[i] : 0;
    mmf_rng rng = mmf_rng_make(mmf_tape_pass(tape)->seed,
                               mmf_rng_stream("pre-training task") + (uint64_t)step);
    int left = (int)mmf_rng_below(&rng, (uint64_t)total);
    while (!has_task(m, pair, task) || left >= shares[task]) {
        left -= has_task(m, pair, task) ? shares[task] : 0;
        task++;
    }
    return task;
}

void mmf_uniter_pretrain(mmf_tape *tape, const mmf_uniter *m, const mmf_named *in,
                         const mmf_step *step, mmf_named *out)
{
    const mmf_pair pair = mmf_pair_of(tape, m->text, &m->regions, in);
    if (!pair.tokens || !pair.regions.x)
        return;
    const int task = step->training ? draw_task(tape, m, &pair, step->step) : N_TASKS;
    if (task == ITM || task == N_TASKS)
        match(tape, m, &pair, out);
    if (task == MLM || task == N_TASKS)
        find_words(tape, m, &pair, out);
    if (task == MRFR || task == MRC || (task == N_TASKS && has_task(m, &pair, MRFR)))
        find_regions(tape, m, &pair, task, out);
    mmf_put_loss_of_rows(tape, out, pair.tokens->shape[0]);
}
