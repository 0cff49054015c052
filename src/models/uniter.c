/*
 * uniter.c: one transformer over the words of a text and the regions of an image.
 *
 * Chen et al., ECCV 2020. Three layer norms on the image side; text and regions are put behind each
 * other without the padding between them. Answers come through `vqa_output` on the pooled state;
 * losses are the task's means.
 */
#include "models/uniter.h"

#include <string.h>

#include "models/parts.h"

#define BOX_WIDTH 7 /* corners, width, height, area */
#define IMAGE_TYPE 1

static const mmf_option options[] = {
    MMF_BERT_OPTIONS,
    MMF_ENCODER_OPTION,
    {"head", NULL, MMF_OPTION_TEXT, 0, 0, NULL, "",
     "tasks: answers; pretraining: the heads that --task pretraining trains, to be looked at; "
     "default: answers, if the task has some"},
    {"num_answer", "num_labels", MMF_OPTION_INT, 0, 1000000, "-", "0", "outputs; 0: the task's"},
    {"img_label_dim", NULL, MMF_OPTION_INT, 0, 1000000, "-", "0",
     "classes of regions in pre-training (paper: 1601, the first is background); 0: those of "
     "<regions>.target"},
    MMF_PRETRAINING_OPTIONS,
    {"mrc", NULL, MMF_OPTION_TEXT, 0, 0, "kl|class", "kl",
     "pre-training: regions are given a distribution over classes, or the likeliest class"},
    {"wra_weight", "ot_weight", MMF_OPTION_REAL, 0, 100, "-", "0.1",
     "pre-training: weight of the alignment of words and regions by transport"},
    {"wra_beta", NULL, MMF_OPTION_REAL, 1e-3, 100, "-", "0.5", "its step"},
    {"wra_iterations", NULL, MMF_OPTION_INT, 1, 1000, "-", "50", "its iterations"},
    {0},
};

typedef struct uniter_model {
    mmf_uniter stream;
    mmf_transform hidden;
    mmf_linear_layer answers;
    bool is_regression, shows_heads, pretrains;
} uniter_model;

/* ---- Building ---------------------------------------------------------------------------- */

/* A configuration that names no task is that of a model to be pre-trained. */
static bool shows_heads(mmf_builder *b, const mmf_config *config)
{
    const char *const head = mmf_config_text(config, "head");
    if (*head && strcmp(head, "tasks") != 0 && strcmp(head, "pretraining") != 0)
        mmf_builder_fail(b, MMF_ARG, "uniter: head is \"%s\", not tasks or pretraining", head);
    if (*head)
        return strcmp(head, "pretraining") == 0;
    return !mmf_is_regression(config) && mmf_is_value(config) &&
           mmf_config_int(config, "num_answer") == 0;
}

static void build_image(mmf_builder *b, mmf_uniter *m)
{
    const int64_t d = m->bert.sizes.width, features = m->regions.width;
    const double eps = m->bert.sizes.eps;
    mmf_builder_enter(b, "uniter.img_embeddings");
    m->image = mmf_bert_linear_build(b, "img_linear", features, d);
    m->image_norm = mmf_layer_norm_build(b, "img_layer_norm", d, eps);
    m->position_norm = mmf_layer_norm_build(b, "pos_layer_norm", d, eps);
    m->position = mmf_bert_linear_build(b, "pos_linear", BOX_WIDTH, d);
    m->mask_embedding = mmf_bert_table_build(b, "mask_embedding", 2, features, 0).weight;
    m->norm = mmf_layer_norm_build(b, "LayerNorm", d, eps);
    mmf_builder_leave(b);
}

static void build_answers(mmf_builder *b, const mmf_config *config, uniter_model *model)
{
    const mmf_bert_sizes *const s = &model->stream.bert.sizes;
    const int64_t wide = 2 * s->width;
    mmf_builder_enter(b, "vqa_output");
    model->hidden.dense = mmf_bert_linear_build(b, "0", s->width, wide);
    model->hidden.norm = mmf_layer_norm_build(b, "2", wide, s->eps);
    model->answers = mmf_bert_linear_build(b, "3", wide, mmf_n_answers(b, config, "num_answer"));
    mmf_builder_leave(b);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    uniter_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    const mmf_input_schema *const text = mmf_bert_text(inputs), *const image =
                                                                    mmf_regions_input(inputs);
    if (!image)
        return mmf_builder_fail(b, MMF_SHAPE, "uniter: %s", mmf_regions_refusal(inputs));
    mmf_uniter *const m = &model->stream;
    const mmf_bert_sizes sizes = mmf_bert_sizes_read(b, config, text);
    if (sizes.types <= IMAGE_TYPE)
        mmf_builder_fail(b, MMF_ARG, "uniter: type_vocab_size is %lld; words and regions are two",
                         (long long)sizes.types);
    m->text = text->name;
    m->n_words = text->shape[0];
    m->regions = mmf_regions_build(b, config, image, sizes.width, BOX_WIDTH, false);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    m->bert = mmf_bert_build(b, "uniter", &sizes, true);
    build_image(b, m);
    model->pretrains = mmf_is_pretraining(config);
    model->shows_heads = shows_heads(b, config);
    mmf_uniter_heads_build(b, config, m);
    if (!model->shows_heads && !model->pretrains)
        build_answers(b, config, model);
    model->is_regression = mmf_is_regression(config);
    *self = model;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

/* LN(LN(W_f (f + m)) + LN(W_p p) + type 1); hidden features are zeros, and m stands in. */
static mmf_tensor *embed_regions(mmf_tape *tape, const mmf_uniter *m, const mmf_pair *pair,
                                 mmf_tensor *hidden)
{
    mmf_tensor *f = pair->regions.x;
    if (hidden && f) {
        mmf_tensor *const flags =
            mmf_reshape(tape, hidden, 3, (int64_t[]){f->shape[0], f->shape[1], 1});
        mmf_tensor *const shown = mmf_affine(tape, flags, -1, 1);
        mmf_tensor *const stand_in =
            mmf_mul(tape, flags, mmf_slice(tape, m->mask_embedding, 0, 1, 1));
        f = mmf_add(tape, mmf_mul(tape, f, shown), stand_in);
    }
    mmf_tensor *const image =
        mmf_layer_norm_run(tape, &m->image_norm, mmf_linear_run(tape, &m->image, f, MMF_ACT_NONE));
    mmf_tensor *const place =
        mmf_layer_norm_run(tape, &m->position_norm,
                           mmf_linear_run(tape, &m->position, pair->regions.box, MMF_ACT_NONE));
    mmf_tensor *const type = mmf_slice(tape, m->bert.embeddings.types, 0, IMAGE_TYPE, 1);
    mmf_tensor *const x = mmf_add(tape, mmf_add(tape, image, place), type);
    return mmf_dropout(tape, mmf_layer_norm_run(tape, &m->norm, x), m->bert.sizes.dropout);
}

mmf_uniter_states mmf_uniter_run(mmf_tape *tape, const mmf_uniter *m, const mmf_pair *pair,
                                 mmf_tensor *hidden, bool apart)
{
    mmf_uniter_states s = {0};
    mmf_tensor *const words =
        mmf_bert_words_of(tape, &m->bert.embeddings, pair->tokens, pair->present);
    const mmf_steps both[] = {
        {mmf_bert_embed(tape, &m->bert.embeddings, words, pair->segments, 0), pair->keys},
        {embed_regions(tape, m, pair, hidden), pair->regions.mask}};
    const mmf_steps all = mmf_steps_join(tape, both, 2);
    if (!all.x)
        return s;
    const int64_t rows = all.x->shape[0], n = all.x->shape[1], d = all.x->shape[2];
    mmf_compaction c = {0};
    mmf_tensor *x = all.x;
    if (all.mask) {
        c = mmf_compact(tape, all.mask);
        x = mmf_index_select(tape, mmf_reshape(tape, x, 2, (int64_t[]){rows * n, d}), c.gather);
    }
    x = mmf_bert_encode(tape, &m->bert, x, c.mask);
    s.sequence = x;
    s.mask = c.mask;
    s.pooled = mmf_bert_pool(tape, &m->bert, x);
    if (!apart || !x)
        return s;
    if (all.mask)
        x = mmf_index_select(tape, mmf_as_rows(tape, x), c.scatter);
    s.text = mmf_slice(tape, x, 1, 0, m->n_words);
    s.vision = mmf_slice(tape, x, 1, m->n_words, m->regions.n);
    return s;
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const uniter_model *const model = self;
    const mmf_uniter *const m = &model->stream;
    if (model->pretrains) {
        mmf_uniter_pretrain(tape, m, in, step, out);
        return;
    }
    if (model->shows_heads) {
        mmf_uniter_show_heads(tape, m, in, out);
        return;
    }
    const mmf_pair pair = mmf_pair_of(tape, m->text, &m->regions, in);
    const mmf_uniter_states s = mmf_uniter_run(tape, m, &pair, NULL, false);
    mmf_tensor *const pooled = mmf_dropout(tape, s.pooled, m->bert.sizes.dropout);
    mmf_named_put(tape, out, "feature_fusion", pooled);
    mmf_put_result(tape, out, model->is_regression,
                   mmf_linear_run(tape, &model->answers,
                                  mmf_transform_run(tape, &model->hidden, pooled), MMF_ACT_NONE));
}

const mmf_def mmf_model_uniter = {
    .name = "uniter",
    .title = "Universal image-text representation of one stream",
    .paper = "Chen, Li, Yu, El Kholy, Ahmed, Gan, Cheng, Liu, UNITER: Universal image-text "
             "representation learning, ECCV 2020, arXiv:1909.11740",
    .equations = "BERT over [LN(word + position + type 0); LN(LN(W_f f) + LN(W_p p) + type 1)]; "
                 "y = W2 LN(gelu(W1 tanh(W_p x_0))); losses are the task's means",
    .missing = "its words or regions are left out; of an absent text words of zeros stay",
    .timing = "early",
    .structure = "attention",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_TWO_ONLY | MMF_MISSING_OK | MMF_ANY_TASK | MMF_PRETRAINS,
    .companions =
        1u << MMF_COMPANION_BOX | 1u << MMF_COMPANION_SEGMENTS | 1u << MMF_COMPANION_TARGET,
    .options = options,
    .build = build,
    .run = run,
    .refuses = mmf_regions_refusal,
};
