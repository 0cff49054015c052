/*
 * mcan.c: deep modular co-attention: words attend to words, regions to regions and to words.
 *
 * Yu, Yu, Cui, Tao, Tian, CVPR 2019, with the names of the authors' code: its layer norm divides by
 * the unbiased deviation plus 1e-6, masked scores are -1e9 (a row without a key becomes uniform),
 * the LSTM runs over padding. The first stream is the modality of tokens, else the one called text,
 * else the first; tokens are words (0 is padding), other kinds are steps in their place. The other
 * stream is one of regions (rows of zeros are padding), or the steps of its kind.
 */
#include <string.h>

#include "models/parts.h"
#include "nn/builder.h"
#include "nn/projected_attention.h"

#define NORM_EPS 1e-6

static const mmf_option options[] = {
    MMF_ENCODER_OPTION,
    {"hidden_size", NULL, MMF_OPTION_INT, 2, 8192, NULL, "128",
     "width of both streams (paper: 512)"},
    {"multi_head", NULL, MMF_OPTION_INT, 1, 256, NULL, "4", "heads (paper: 8)"},
    {"ff_size", NULL, MMF_OPTION_INT, 1, 65536, NULL, "512",
     "width of the hidden layer after attention (paper: 2048)"},
    {"layer", NULL, MMF_OPTION_INT, 1, 64, NULL, "2",
     "layers of the encoder and of the decoder (paper: 6)"},
    {"flat_mlp_size", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128",
     "hidden width of the attention that reduces a stream (paper: 512)"},
    {"flat_glimpses", NULL, MMF_OPTION_INT, 1, 64, NULL, "1", "weighted means of a stream"},
    {"flat_out_size", NULL, MMF_OPTION_INT, 2, 16384, NULL, "256",
     "width of the fused vector (paper: 1024)"},
    {"word_embed_size", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128",
     "width of words, or of the steps in their place (paper: 300)"},
    {"token_size", NULL, MMF_OPTION_INT, 0, 100000000, NULL, "0",
     "words of the vocabulary; 0: the data's"},
    {"answer_size", NULL, MMF_OPTION_INT, 0, 1000000, NULL, "0", "outputs; 0: the task's"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.1", "everywhere"},
    {0},
};

typedef struct deviation_layer {
    mmf_tensor *a_2, *b_2;
} deviation_layer;

typedef struct attention_part {
    mmf_linear_layer v, k, q, merge;
    int64_t n_heads;
    double dropout;
} attention_part;

typedef struct hidden_part {
    mmf_linear_layer fc, out;
    double dropout;
} hidden_part;

/* SA (one attention, two norms) or SGA (two, three). */
typedef struct block {
    attention_part attention[2];
    hidden_part ffn;
    deviation_layer norm[3];
} block;

typedef struct flat {
    hidden_part mlp;
    mmf_linear_layer merge;
} flat;

typedef struct mcan_model {
    const mmf_input_schema *text, *image;
    mmf_embedding_layer embedding;
    mmf_steps_encoder text_steps, image_steps;
    bool has_words, has_regions; /* the paper's tokens and regions, through layers of their own */
    mmf_rnn_layer lstm;
    mmf_linear_layer image_linear;
    int64_t n_layers;
    block *encoder, *decoder;
    flat flat_text, flat_image;
    deviation_layer norm;
    mmf_linear_layer proj;
    double dropout;
    bool is_regression;
} mcan_model;

/* ---- Building ---------------------------------------------------------------------------- */

static deviation_layer build_norm(mmf_builder *b, const char *name, int64_t width)
{
    deviation_layer n = {0};
    mmf_builder_enter(b, name);
    n.a_2 = mmf_builder_param(b, "a_2", MMF_PARAM_TRAINED, mmf_init_constant(1), 1, &width);
    n.b_2 = mmf_builder_param(b, "b_2", MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &width);
    mmf_builder_leave(b);
    return n;
}

static attention_part build_attention(mmf_builder *b, const mmf_config *config, const char *name)
{
    const int64_t d = mmf_config_int(config, "hidden_size");
    attention_part a = {.n_heads = mmf_config_int(config, "multi_head"),
                        .dropout = mmf_config_real(config, "dropout")};
    if (d % a.n_heads != 0)
        mmf_builder_fail(b, MMF_ARG, "mcan: hidden_size %lld is not a multiple of %lld heads",
                         (long long)d, (long long)a.n_heads);
    mmf_builder_enter(b, name);
    a.v = mmf_linear_build(b, "linear_v", d, d, true);
    a.k = mmf_linear_build(b, "linear_k", d, d, true);
    a.q = mmf_linear_build(b, "linear_q", d, d, true);
    a.merge = mmf_linear_build(b, "linear_merge", d, d, true);
    mmf_builder_leave(b);
    return a;
}

static hidden_part build_hidden(mmf_builder *b, const mmf_config *config, int64_t inner,
                                int64_t outputs)
{
    const int64_t d = mmf_config_int(config, "hidden_size");
    hidden_part h = {.dropout = mmf_config_real(config, "dropout")};
    h.fc = mmf_linear_build(b, "mlp.fc.linear", d, inner, true);
    h.out = mmf_linear_build(b, "mlp.linear", inner, outputs, true);
    return h;
}

static block build_block(mmf_builder *b, const mmf_config *config, const char *name, int n_attend)
{
    const int64_t d = mmf_config_int(config, "hidden_size");
    block x = {0};
    mmf_builder_enter(b, name);
    for (int i = 0; i < n_attend; i++)
        x.attention[i] = build_attention(
            b, config, n_attend == 1 ? "mhatt" : mmf_builder_text(b, "mhatt%d", i + 1));
    mmf_builder_enter(b, "ffn");
    x.ffn = build_hidden(b, config, mmf_config_int(config, "ff_size"), d);
    mmf_builder_leave(b);
    for (int i = 0; i <= n_attend; i++)
        x.norm[i] = build_norm(b, mmf_builder_text(b, "norm%d", i + 1), d);
    mmf_builder_leave(b);
    return x;
}

static flat build_flat(mmf_builder *b, const mmf_config *config, const char *name)
{
    const int64_t glimpses = mmf_config_int(config, "flat_glimpses");
    flat f = {0};
    mmf_builder_enter(b, name);
    f.mlp = build_hidden(b, config, mmf_config_int(config, "flat_mlp_size"), glimpses);
    f.merge = mmf_linear_build(b, "linear_merge", glimpses * mmf_config_int(config, "hidden_size"),
                               mmf_config_int(config, "flat_out_size"), true);
    mmf_builder_leave(b);
    return f;
}

static void build_streams(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                          mcan_model *model)
{
    const int64_t d = mmf_config_int(config, "hidden_size");
    const int64_t words = mmf_config_int(config, "word_embed_size");
    int64_t n_words = mmf_config_int(config, "token_size");
    const mmf_rnn_options lstm = {.inputs = words, .hidden = d, .n_layers = 1};
    mmf_stream_order(inputs, &model->text, &model->image);
    model->has_words = model->text->kind == MMF_TOKENS && !mmf_steps_spec(b, config, model->text);
    model->has_regions =
        model->image->kind == MMF_SEQUENCE && !mmf_steps_spec(b, config, model->image);
    if (model->has_words) {
        n_words = n_words ? n_words : model->text->vocab_size;
        mmf_builder_check_words(b, "token_size", n_words, n_words, model->text);
        model->embedding = mmf_embedding_build(b, "embedding", n_words, words, -1);
    } else {
        model->text_steps = mmf_steps_build(b, config, model->text->name, model->text, words, 0);
    }
    model->lstm = mmf_rnn_build(b, "lstm", &lstm);
    if (model->has_regions)
        model->image_linear =
            mmf_linear_build(b, "img_feat_linear", model->image->shape[1], d, true);
    else
        model->image_steps = mmf_steps_build(b, config, model->image->name, model->image, d, 0);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    mcan_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    if (inputs->count != 2)
        return mmf_builder_fail(b, MMF_SHAPE, "mcan takes two modalities");
    const int64_t outputs = mmf_n_answers(b, config, "answer_size");
    const int64_t fused = mmf_config_int(config, "flat_out_size");
    model->n_layers = mmf_config_int(config, "layer");
    model->dropout = mmf_config_real(config, "dropout");
    model->is_regression = mmf_is_regression(config);
    model->encoder = mmf_builder_alloc(b, (size_t)model->n_layers * sizeof *model->encoder);
    model->decoder = mmf_builder_alloc(b, (size_t)model->n_layers * sizeof *model->decoder);
    build_streams(b, config, inputs, model);
    mmf_builder_enter(b, "backbone");
    for (int64_t l = 0; mmf_builder_status(b) == MMF_OK && l < model->n_layers; l++) {
        const long long at = (long long)l;
        model->encoder[l] = build_block(b, config, mmf_builder_text(b, "enc_list.%lld", at), 1);
        model->decoder[l] = build_block(b, config, mmf_builder_text(b, "dec_list.%lld", at), 2);
    }
    mmf_builder_leave(b);
    model->flat_image = build_flat(b, config, "attflat_img");
    model->flat_text = build_flat(b, config, "attflat_lang");
    model->norm = build_norm(b, "proj_norm", fused);
    model->proj = mmf_linear_build(b, "proj", fused, outputs, true);
    *self = model;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

static mmf_tensor *norm(mmf_tape *tape, const deviation_layer *n, mmf_tensor *x)
{
    return mmf_deviation_norm(tape, x, n->a_2, n->b_2, NORM_EPS);
}

static mmf_tensor *hidden(mmf_tape *tape, const hidden_part *h, mmf_tensor *x)
{
    x = mmf_dropout(tape, mmf_linear_run(tape, &h->fc, x, MMF_ACT_RELU), h->dropout);
    return mmf_linear_run(tape, &h->out, x, MMF_ACT_NONE);
}

/* LN(x + Att(x, source)) */
static mmf_tensor *attend(mmf_tape *tape, const attention_part *a, const deviation_layer *n,
                          mmf_tensor *x, const mmf_steps *source)
{
    const mmf_heads heads = {a->n_heads, mmf_attention_mask(tape, source->mask, NULL),
                             MMF_EMPTY_UNIFORM, a->dropout};
    mmf_tensor *const k = mmf_linear_run(tape, &a->k, source->x, MMF_ACT_NONE);
    mmf_tensor *const v = mmf_linear_run(tape, &a->v, source->x, MMF_ACT_NONE);
    mmf_tensor *const y = mmf_attend_projected(tape, &a->q, &a->merge, x, k, v, &heads, NULL);
    return norm(tape, n, mmf_add(tape, x, mmf_dropout(tape, y, a->dropout)));
}

static mmf_tensor *feed(mmf_tape *tape, const block *x, const deviation_layer *n, mmf_tensor *y)
{
    mmf_tensor *const added = mmf_dropout(tape, hidden(tape, &x->ffn, y), x->ffn.dropout);
    return norm(tape, n, mmf_add(tape, y, added));
}

/* Weighted means of the stream, side by side, through a linear layer. */
static mmf_tensor *reduced(mmf_tape *tape, const flat *f, const mmf_steps *s, const char *name,
                           mmf_named *out)
{
    if (!s->x)
        return NULL;
    const int64_t width = s->x->shape[2], rows = s->x->shape[0], n_steps = s->x->shape[1];
    mmf_tensor *const scores = mmf_transpose(tape, hidden(tape, &f->mlp, s->x), 1, 2);
    mmf_tensor *const mask =
        s->mask ? mmf_reshape(tape, s->mask, 3, (int64_t[]){rows, 1, n_steps}) : NULL;
    mmf_tensor *const a = mmf_softmax(tape, scores, mask, MMF_EMPTY_UNIFORM); /* (B, G, T) */
    mmf_tensor *const means = mmf_matmul(tape, a, s->x, false, false);
    mmf_named_putf(tape, out, a, "%s.attention", name);
    mmf_named_axes(out, "BGT");
    if (!means)
        return NULL;
    const int64_t flat_width = means->shape[1] * width;
    return mmf_linear_run(tape, &f->merge,
                          mmf_reshape(tape, means, 2, (int64_t[]){rows, flat_width}), MMF_ACT_NONE);
}

/* States of the LSTM over words; masked where a word is padding. */
static mmf_steps text_stream(mmf_tape *tape, const mcan_model *model, const mmf_named *in)
{
    mmf_tensor *const x = mmf_named_get(in, model->text->name);
    mmf_steps s = {0};
    if (model->has_words) {
        s.x = mmf_embedding_run(tape, &model->embedding, x);
        s.mask = mmf_key_mask(tape, in, model->text->name, model->text->shape[0]);
        s.x = mmf_steps_masked(tape, &s);
        mmf_tensor *const words = mmf_token_mask(tape, x, 0);
        s.mask = s.mask ? mmf_mul(tape, s.mask, words) : words;
    } else {
        s = mmf_steps_run(tape, &model->text_steps, in);
    }
    s.x = mmf_dropout(tape, s.x, model->dropout);
    s.x = mmf_rnn_run(tape, &model->lstm, s.x, NULL, false).sequence;
    return s;
}

static mmf_steps image_stream(mmf_tape *tape, const mcan_model *model, const mmf_named *in)
{
    if (!model->has_regions)
        return mmf_steps_run(tape, &model->image_steps, in);
    mmf_steps s = {.x = mmf_named_get(in, model->image->name),
                   .mask = mmf_key_mask(tape, in, model->image->name, model->image->shape[0])};
    s.x = mmf_steps_masked(tape, &s);
    s.mask = mmf_region_mask(tape, s.x);
    s.x = mmf_linear_run(tape, &model->image_linear, s.x, MMF_ACT_NONE);
    return s;
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mcan_model *const model = self;
    mmf_steps x = text_stream(tape, model, in), y = image_stream(tape, model, in);
    for (int64_t l = 0; l < model->n_layers; l++) {
        const block *const sa = &model->encoder[l];
        x.x = attend(tape, &sa->attention[0], &sa->norm[0], x.x, &x);
        x.x = feed(tape, sa, &sa->norm[1], x.x);
    }
    for (int64_t l = 0; l < model->n_layers; l++) {
        const block *const sga = &model->decoder[l];
        y.x = attend(tape, &sga->attention[0], &sga->norm[0], y.x, &y);
        y.x = attend(tape, &sga->attention[1], &sga->norm[1], y.x, &x);
        y.x = feed(tape, sga, &sga->norm[2], y.x);
    }
    mmf_tensor *const z_x = reduced(tape, &model->flat_text, &x, model->text->name, out);
    mmf_tensor *const z_y = reduced(tape, &model->flat_image, &y, model->image->name, out);
    mmf_tensor *const z = norm(tape, &model->norm, mmf_add(tape, z_x, z_y));
    mmf_tensor *const logits = mmf_linear_run(tape, &model->proj, z, MMF_ACT_NONE);
    mmf_named_putf(tape, out, z_x, "pooled.%s", model->text->name);
    mmf_named_putf(tape, out, z_y, "pooled.%s", model->image->name);
    mmf_named_put(tape, out, "feature_fusion", z);
    mmf_put_result(tape, out, model->is_regression, logits);
    /* Every answer by itself, as the reference has it; the task's loss reads the logits. */
    if (!model->is_regression)
        mmf_named_put(tape, out, "probability", mmf_sigmoid(tape, logits));
}

const mmf_def mmf_model_mcan = {
    .name = "mcan",
    .title = "Deep modular co-attention network",
    .paper = "Yu, Yu, Cui, Tao, Tian, Deep modular co-attention networks for visual question "
             "answering, CVPR 2019, arXiv:1906.10770",
    .equations = "X: LN(X + Att(X, X)), LN(X + FF); Y: LN(Y + Att(Y, Y)), LN(Y + Att(Y, X)), "
                 "LN(Y + FF); W LN(sum_t a_t X_t + sum_r b_r Y_r)",
    .missing = "its steps are zeros and masked; attention over nothing is uniform, as in the "
               "reference",
    .timing = "intermediate",
    .structure = "attention",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_TWO_ONLY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
