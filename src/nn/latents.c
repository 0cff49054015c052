/*
 * latents.c: the layer `perceiver`: a few latent vectors read the tokens of all modalities.
 *
 * Jaegle et al., Perceiver IO, ICLR 2022 (latents after Jaegle et al., ICML 2021), with the names
 * and the order of lucidrains/perceiver-pytorch. Masked tokens are left out as keys; where all are,
 * nothing is added (there: a uniform mean). Without an input `query` the queries are learned.
 */
#include "nn/token_layer.h"
#include "nn/projected_attention.h"

#define STANDARD_LATENTS 16
#define LATENT_DEVIATION 0.02
#define QUERY "query"
/* The hidden layers have 4 times the width, twice for their gates. */
#define INNER 4

static const mmf_option options[] = {
    {"dim", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128", "width of the tokens"},
    {"latents", NULL, MMF_OPTION_INT, 0, 65536, NULL, "0",
     "latent vectors (paper: 512); 0: 16, or as many as there are tokens if these are fewer"},
    {"latent_dim", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128", "width of the latents (paper: 512)"},
    {"depth", NULL, MMF_OPTION_INT, 0, 64, NULL, "2", "layers over the latents (paper: 6)"},
    {"cross_heads", NULL, MMF_OPTION_INT, 1, 256, NULL, "1", "heads that read and that decode"},
    {"cross_dim_head", NULL, MMF_OPTION_INT, 1, 8192, NULL, "64", "width of such a head"},
    {"latent_heads", NULL, MMF_OPTION_INT, 1, 256, NULL, "4", "heads of the latents (paper: 8)"},
    {"latent_dim_head", NULL, MMF_OPTION_INT, 1, 8192, NULL, "32",
     "width of such a head (paper: 64)"},
    {"queries", NULL, MMF_OPTION_INT, 1, 65536, NULL, "1",
     "learned queries, unless there is an input called query"},
    {"queries_dim", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128", "width of the queries"},
    {"decoder_ff", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false",
     "a hidden layer after the queries have read"},
    {"weight_tie_layers", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false",
     "all layers over the latents are the first one"},
    {"classes", NULL, MMF_OPTION_INT, 1, 1000000, NULL, "1", "logits; models: those of the task"},
    {"layer_norm_eps", NULL, MMF_OPTION_REAL, 0, 1, NULL, "1e-5", "eps of the layer norms"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0",
     "on attention weights and hidden layers"},
    MMF_MODALITY_ORDER_OPTION,
    {0},
};

/* Norm, attention to a normed context or to itself. */
typedef struct reader {
    mmf_layer_norm_layer norm, norm_context; /* weight NULL: itself */
    mmf_linear_layer to_q, to_kv, to_out;
    int64_t inner, n_heads;
    double dropout;
} reader;

typedef struct gated {
    mmf_layer_norm_layer norm;
    mmf_linear_layer wide, narrow;
    int64_t inner;
    double dropout;
} gated;

typedef struct latent_layer {
    reader attention;
    gated ff;
} latent_layer;

typedef struct perceiver_layer {
    mmf_schema inputs;
    bool has_query; /* an input */
    mmf_tensor *latents, *query;
    reader cross, decoder;
    gated cross_ff, decoder_ff;
    bool has_decoder_ff, tied;
    int64_t depth;
    latent_layer *layers;
    mmf_linear_layer to_logits;
    mmf_tensor **x, **masks;
} perceiver_layer;

/* ---- Building ---------------------------------------------------------------------------- */

/* @param context  width of what is read; 0: x itself */
static reader build_reader(mmf_builder *b, const mmf_config *config, const char *name,
                           int64_t width, int64_t context, bool is_cross)
{
    const double eps = mmf_config_real(config, "layer_norm_eps");
    const int64_t n_heads = mmf_config_int(config, is_cross ? "cross_heads" : "latent_heads");
    const int64_t inner =
        n_heads * mmf_config_int(config, is_cross ? "cross_dim_head" : "latent_dim_head");
    reader r = {.inner = inner, .n_heads = n_heads, .dropout = mmf_config_real(config, "dropout")};
    mmf_builder_enter(b, name);
    r.to_q = mmf_linear_build(b, "fn.to_q", width, inner, false);
    r.to_kv = mmf_linear_build(b, "fn.to_kv", context ? context : width, 2 * inner, false);
    r.to_out = mmf_linear_build(b, "fn.to_out", inner, width, true);
    r.norm = mmf_layer_norm_build(b, "norm", width, eps);
    if (context)
        r.norm_context = mmf_layer_norm_build(b, "norm_context", context, eps);
    mmf_builder_leave(b);
    return r;
}

static gated build_gated(mmf_builder *b, const mmf_config *config, const char *name, int64_t width)
{
    gated g = {.inner = INNER * width, .dropout = mmf_config_real(config, "dropout")};
    mmf_builder_enter(b, name);
    g.wide = mmf_linear_build(b, "fn.net.0", width, 2 * g.inner, true);
    g.narrow = mmf_linear_build(b, "fn.net.2", g.inner, width, true);
    g.norm = mmf_layer_norm_build(b, "norm", width, mmf_config_real(config, "layer_norm_eps"));
    mmf_builder_leave(b);
    return g;
}

/* Tied layers have a name each. */
static void alias_layer(mmf_builder *b, const latent_layer *layer, int64_t place)
{
    mmf_builder_enter(b, mmf_builder_text(b, "layers.%lld", (long long)place));
    mmf_linear_alias(b, "0.fn.to_q", &layer->attention.to_q);
    mmf_linear_alias(b, "0.fn.to_kv", &layer->attention.to_kv);
    mmf_linear_alias(b, "0.fn.to_out", &layer->attention.to_out);
    mmf_layer_norm_alias(b, "0.norm", &layer->attention.norm);
    mmf_linear_alias(b, "1.fn.net.0", &layer->ff.wide);
    mmf_linear_alias(b, "1.fn.net.2", &layer->ff.narrow);
    mmf_layer_norm_alias(b, "1.norm", &layer->ff.norm);
    mmf_builder_leave(b);
}

static mmf_tensor *vectors(mmf_builder *b, const char *name, int64_t count, int64_t width)
{
    return mmf_builder_param(b, name, MMF_PARAM_TRAINED, mmf_init_normal(LATENT_DEVIATION), 2,
                             (int64_t[]){count, width});
}

/* A task asks one question; `verify` may ask several. */
static void check_queries(mmf_builder *b, const mmf_config *config, const mmf_input_schema *query)
{
    const int64_t n = !query               ? mmf_config_int(config, "queries")
                      : query->n_dims == 1 ? 1
                                           : query->shape[0];
    if (n != 1 && mmf_config_is_set(config, "train_mode"))
        mmf_builder_fail(
            b, MMF_ARG, "perceiver: %lld queries give as many answers, and a task has one; %s",
            (long long)n, query ? "rename the modality \"query\"" : "leave option queries out");
}

static void check_query(mmf_builder *b, const mmf_input_schema *query, int64_t width)
{
    if (query->shape[query->n_dims - 1] != width)
        mmf_builder_fail(b, MMF_SHAPE, "perceiver: queries_dim is %lld, but query has width %lld",
                         (long long)width, (long long)query->shape[query->n_dims - 1]);
}

/* More vectors than tokens that they read have nothing more to tell. */
static int64_t n_latents(const mmf_config *config, const mmf_schema *inputs)
{
    const int64_t given = mmf_config_int(config, "latents");
    int64_t n_tokens = 0;
    for (size_t m = 0; m < inputs->count; m++)
        n_tokens += inputs->inputs[m].shape[0];
    return given > 0 ? given : n_tokens < STANDARD_LATENTS ? n_tokens : STANDARD_LATENTS;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    perceiver_layer *const p = mmf_builder_alloc(b, sizeof *p);
    if (!p)
        return mmf_builder_status(b);
    const int64_t d = mmf_config_int(config, "latent_dim"), dim = mmf_config_int(config, "dim");
    const int64_t d_query = mmf_config_int(config, "queries_dim");
    const mmf_input_schema *const query = mmf_schema_find(inputs, QUERY);
    p->has_query = query != NULL;
    p->has_decoder_ff = mmf_config_bool(config, "decoder_ff");
    p->tied = mmf_config_bool(config, "weight_tie_layers");
    p->depth = mmf_config_int(config, "depth");
    p->inputs = mmf_token_inputs(b, config, inputs, QUERY, dim);
    p->x = mmf_builder_alloc(b, (p->inputs.count + 1) * sizeof(mmf_tensor *));
    p->masks = mmf_builder_alloc(b, (p->inputs.count + 1) * sizeof(mmf_tensor *));
    p->layers = mmf_builder_alloc(b, (size_t)(p->depth + 1) * sizeof *p->layers);
    check_queries(b, config, query);
    if (query)
        check_query(b, query, d_query);
    else
        p->query = vectors(b, QUERY, mmf_config_int(config, "queries"), d_query);
    p->latents = vectors(b, "latents", n_latents(config, &p->inputs), d);
    p->cross = build_reader(b, config, "cross_attend_blocks.0", d, dim, true);
    p->cross_ff = build_gated(b, config, "cross_attend_blocks.1", d);
    for (int64_t l = 0; mmf_builder_status(b) == MMF_OK && l < p->depth; l++) {
        const long long at = (long long)l;
        if (p->tied && l > 0) {
            alias_layer(b, &p->layers[0], l);
            continue;
        }
        p->layers[l].attention =
            build_reader(b, config, mmf_builder_text(b, "layers.%lld.0", at), d, 0, false);
        p->layers[l].ff = build_gated(b, config, mmf_builder_text(b, "layers.%lld.1", at), d);
    }
    p->decoder = build_reader(b, config, "decoder_cross_attn", d_query, d, true);
    if (p->has_decoder_ff)
        p->decoder_ff = build_gated(b, config, "decoder_ff", d_query);
    p->to_logits =
        mmf_linear_build(b, "to_logits", d_query, mmf_config_int(config, "classes"), true);
    mmf_builder_set_width(b, mmf_config_int(config, "classes"));
    *self = p;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

/* @param context  NULL: x itself */
static mmf_tensor *read_context(mmf_tape *tape, const reader *r, mmf_tensor *x, mmf_tensor *context,
                                const mmf_tensor *mask, mmf_tensor **weights)
{
    const mmf_heads heads = {r->n_heads, mask, MMF_EMPTY_ZERO, r->dropout};
    x = mmf_layer_norm_run(tape, &r->norm, x);
    context = context ? mmf_layer_norm_run(tape, &r->norm_context, context) : x;
    mmf_tensor *const q = mmf_linear_run(tape, &r->to_q, x, MMF_ACT_NONE);
    mmf_tensor *const kv = mmf_linear_run(tape, &r->to_kv, context, MMF_ACT_NONE);
    mmf_tensor *const k = mmf_slice(tape, kv, -1, 0, r->inner);
    mmf_tensor *const v = mmf_slice(tape, kv, -1, r->inner, r->inner);
    return mmf_linear_run(tape, &r->to_out, mmf_attend(tape, q, k, v, &heads, weights),
                          MMF_ACT_NONE);
}

/* x + W2 (a gelu(g)), [a, g] = W1 LN(x) */
static mmf_tensor *add_gated(mmf_tape *tape, const gated *g, mmf_tensor *x)
{
    mmf_tensor *const both =
        mmf_linear_run(tape, &g->wide, mmf_layer_norm_run(tape, &g->norm, x), MMF_ACT_NONE);
    mmf_tensor *const gate = mmf_gelu(tape, mmf_slice(tape, both, -1, g->inner, g->inner));
    mmf_tensor *const h = mmf_mul(tape, mmf_slice(tape, both, -1, 0, g->inner), gate);
    return mmf_add(
        tape, x, mmf_linear_run(tape, &g->narrow, mmf_dropout(tape, h, g->dropout), MMF_ACT_NONE));
}

/* Tokens of all modalities behind each other. @param mask  of the keys, NULL: all valid */
static mmf_tensor *all_tokens(mmf_tape *tape, const perceiver_layer *p, const mmf_named *in,
                              mmf_tensor **mask)
{
    bool any = false;
    for (size_t m = 0; m < p->inputs.count; m++) {
        const mmf_input_schema *const input = &p->inputs.inputs[m];
        p->x[m] = mmf_named_get(in, input->name);
        p->masks[m] = mmf_key_mask(tape, in, input->name, input->shape[0]);
        any = any || p->masks[m];
    }
    for (size_t m = 0; any && m < p->inputs.count; m++) {
        if (!p->masks[m] && p->x[m])
            p->masks[m] = mmf_full(tape, 2, p->x[m]->shape, 1);
    }
    *mask =
        any ? mmf_attention_mask(tape, mmf_concat(tape, p->masks, (int)p->inputs.count, 1), NULL)
            : NULL;
    return mmf_concat(tape, p->x, (int)p->inputs.count, 1);
}

/* (N, D) or (B, N, D) to (B, N, D). */
static mmf_tensor *for_each_row(mmf_tape *tape, mmf_tensor *x, int64_t rows)
{
    if (!x || x->n_dims == 3)
        return x;
    return mmf_expand(tape, x, 3, (int64_t[]){rows, x->shape[0], x->shape[1]});
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const perceiver_layer *const p = self;
    mmf_tensor *mask = NULL, *weights = NULL;
    mmf_tensor *const tokens = all_tokens(tape, p, in, &mask);
    if (!tokens)
        return;
    const int64_t rows = tokens->shape[0];
    mmf_tensor *z = for_each_row(tape, p->latents, rows);
    z = mmf_add(tape, z,
                read_context(tape, &p->cross, z, tokens, mask, step->looks ? &weights : NULL));
    z = add_gated(tape, &p->cross_ff, z);
    for (int64_t l = 0; l < p->depth; l++) {
        const latent_layer *const layer = &p->layers[p->tied ? 0 : l];
        z = mmf_add(tape, z, read_context(tape, &layer->attention, z, NULL, NULL, NULL));
        z = add_gated(tape, &layer->ff, z);
    }
    mmf_tensor *const query =
        for_each_row(tape, p->has_query ? mmf_named_get(in, QUERY) : p->query, rows);
    mmf_tensor *y = read_context(tape, &p->decoder, query, z, NULL, NULL);
    if (p->has_decoder_ff)
        y = add_gated(tape, &p->decoder_ff, y);
    if (weights) {
        mmf_named_put(tape, out, "attention",
                      mmf_attention_shares(tape, weights, p->x, p->inputs.count));
        mmf_named_axes(out, "BHQM");
    }
    mmf_named_put(tape, out, "latent", z);
    mmf_named_put(tape, out, "logit", mmf_linear_run(tape, &p->to_logits, y, MMF_ACT_NONE));
}

const mmf_def mmf_layer_perceiver = {
    .name = "perceiver",
    .title = "Perceiver IO over the tokens of all modalities",
    .paper = "Jaegle et al., Perceiver IO: a general architecture for structured inputs and "
             "outputs, ICLR 2022, arXiv:2107.14795; Perceiver, ICML 2021, arXiv:2103.03206",
    .equations = "Z += Att(LN Z, LN X), Z += FF(LN Z); a layer: Z += Att(LN Z), Z += FF(LN Z); "
                 "logits W Att(LN Q, LN Z); FF = W2 (a gelu(g)), [a, g] = W1 x",
    .missing = "its tokens are masked, which is the same as leaving them out",
    .timing = "intermediate",
    .structure = "attention",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_SEQUENCES | MMF_MISSING_OK,
    .options = options,
    .build = build,
    .run = run,
};
