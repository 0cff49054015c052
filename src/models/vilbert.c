/*
 * vilbert.c: two transformers, one over words and one over regions, that attend to each other in
 * connection layers.
 *
 * Lu, Batra, Parikh, Lee, NeurIPS 2019. As in the authors' code: the pooled vectors go through
 * ReLU, what the image attends to comes from the text and the other way round, the projections
 * `q_dense1` and `q_dense2` are stored and not used. The first region stands for the whole image;
 * with `global_region=add` the mean of all is put there. Losses are the task's means.
 */
#include "models/vilbert.h"

#include <string.h>

#include "models/parts.h"
#include "models/question.h"
#include "nn/projected_attention.h"

#define BOX_WIDTH 5 /* corners and area */
/* ids of connections that mean "before the last layers of the text, before every image layer" */
#define AS_IN_THE_PAPER (-1)

static const mmf_option options[] = {
    MMF_BERT_OPTIONS,
    MMF_ENCODER_OPTION,
    {"v_feature_size", NULL, MMF_OPTION_INT, 0, 1000000, "-", "0",
     "features of a region; 0: those of the data"},
    {"v_hidden_size", NULL, MMF_OPTION_INT, 1, 65536, NULL, "128",
     "width of the image stream (paper: 1024)"},
    {"v_num_hidden_layers", NULL, MMF_OPTION_INT, 0, 256, NULL, "2",
     "layers of the image stream (paper: 6)"},
    {"v_num_attention_heads", NULL, MMF_OPTION_INT, 1, 1024, NULL, "4", "its heads (paper: 8)"},
    {"v_intermediate_size", NULL, MMF_OPTION_INT, 0, 1048576, NULL, "0",
     "hidden width of its layers; 0: v_hidden_size, as in the paper"},
    {"v_hidden_act", NULL, MMF_OPTION_TEXT, 0, 0, NULL, "gelu",
     "activation of its layers, as hidden_act"},
    {"v_hidden_dropout_prob", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.1",
     "on its embeddings and on what its layers add"},
    {"v_attention_probs_dropout_prob", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.1",
     "on its attention weights"},
    {"bi_hidden_size", NULL, MMF_OPTION_INT, 1, 65536, NULL, "128",
     "width of the connections and of the pooled vectors (paper: 1024)"},
    {"bi_num_attention_heads", NULL, MMF_OPTION_INT, 1, 1024, NULL, "4",
     "heads of the connections (paper: 8)"},
    {"v_biattention_id", NULL, MMF_OPTION_INTS, AS_IN_THE_PAPER, 256, "-", "-1",
     "image layers before each connection; -1: 0, 1, ..., one a layer"},
    {"t_biattention_id", NULL, MMF_OPTION_INTS, AS_IN_THE_PAPER, 256, "-", "-1",
     "text layers before each connection; -1: the last ones, one a layer"},
    {"fusion_method", NULL, MMF_OPTION_TEXT, 0, 0, "mul|sum", "mul", "how the pooled vectors meet"},
    {"global_region", NULL, MMF_OPTION_TEXT, 0, 0, "given|add", "given",
     "whether the first region stands for the whole image, or their mean is put in front; cells of "
     "images always get it"},
    {"head", NULL, MMF_OPTION_TEXT, 0, 0, NULL, "tasks",
     "tasks: answers; pretraining: the heads that --task pretraining trains, to be looked at"},
    {"num_labels", NULL, MMF_OPTION_INT, 0, 1000000, "-", "0", "outputs; 0: the task's"},
    {"classifier_dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.5",
     "between the two layers before the answers"},
    {"v_target_size", NULL, MMF_OPTION_INT, 0, 1000000, "-", "0",
     "classes of regions in pre-training (paper: 1601); 0: those of <regions>.target"},
    MMF_PRETRAINING_OPTIONS,
    {0},
};

typedef struct vilbert_model {
    mmf_vilbert streams;
    mmf_normed_linear hidden, answers;
    mmf_linear_layer logit, region_logit, word_logit;
    double dropout;
    bool is_regression, shows_heads, pretrains;
} vilbert_model;

/* ---- Building ---------------------------------------------------------------------------- */

static mmf_bert_sizes image_sizes(mmf_builder *b, const mmf_config *config)
{
    mmf_bert_sizes v = {.width = mmf_config_int(config, "v_hidden_size"),
                        .n_layers = mmf_config_int(config, "v_num_hidden_layers"),
                        .n_heads = mmf_config_int(config, "v_num_attention_heads"),
                        .inner = mmf_config_int(config, "v_intermediate_size"),
                        .eps = mmf_config_real(config, "layer_norm_eps"),
                        .dropout = mmf_config_real(config, "v_hidden_dropout_prob"),
                        .attention_dropout =
                            mmf_config_real(config, "v_attention_probs_dropout_prob"),
                        .activation = mmf_bert_activation_read(b, config, "v_hidden_act")};
    if (v.inner == 0)
        v.inner = v.width;
    return v;
}

/* ids[i]: how many layers run before connection i; they must rise and stay within n_layers. */
static int64_t *connection_ids(mmf_builder *b, const mmf_config *config, const char *option,
                               int64_t n_layers, int64_t n_default, int64_t *count)
{
    const bool chosen = mmf_config_number_at(config, option, 0) != AS_IN_THE_PAPER;
    *count = chosen ? (int64_t)mmf_config_count(config, option) : n_default;
    int64_t *const ids = mmf_builder_alloc(b, ((size_t)*count + 1) * sizeof *ids);
    for (int64_t i = 0; ids && i < *count; i++) {
        ids[i] = chosen ? (int64_t)mmf_config_number_at(config, option, (size_t)i)
                        : n_layers - n_default + i;
        if (ids[i] < (i ? ids[i - 1] : 0) || ids[i] > n_layers)
            mmf_builder_fail(b, MMF_ARG,
                             "vilbert: %s must rise from 0 to at most %lld, the number of layers; "
                             "found %lld",
                             option, (long long)n_layers, (long long)ids[i]);
    }
    return ids;
}

static void build_schedule(mmf_builder *b, const mmf_config *config, mmf_vilbert *m)
{
    int64_t n_text = 0;
    const int64_t standard = m->t.n_layers < m->v.n_layers ? m->t.n_layers : m->v.n_layers;
    m->v_ids =
        connection_ids(b, config, "v_biattention_id", m->v.n_layers, standard, &m->n_connections);
    m->t_ids = connection_ids(b, config, "t_biattention_id", m->t.n_layers, standard, &n_text);
    if (n_text != m->n_connections)
        mmf_builder_fail(b, MMF_ARG,
                         "vilbert: v_biattention_id has %lld connections, t_biattention_id %lld",
                         (long long)m->n_connections, (long long)n_text);
    if (m->bi_width % m->bi_heads != 0)
        mmf_builder_fail(b, MMF_ARG, "vilbert: bi_hidden_size %lld is not a multiple of %lld heads",
                         (long long)m->bi_width, (long long)m->bi_heads);
}

static mmf_connection build_connection(mmf_builder *b, const char *name, const mmf_vilbert *m)
{
    const int64_t v = m->v.width, t = m->t.width, bi = m->bi_width;
    mmf_connection c = {0};
    mmf_builder_enter(b, name);
    mmf_builder_enter(b, "biattention");
    c.query1 = mmf_bert_linear_build(b, "query1", v, bi);
    c.key1 = mmf_bert_linear_build(b, "key1", v, bi);
    c.value1 = mmf_bert_linear_build(b, "value1", v, bi);
    c.query2 = mmf_bert_linear_build(b, "query2", t, bi);
    c.key2 = mmf_bert_linear_build(b, "key2", t, bi);
    c.value2 = mmf_bert_linear_build(b, "value2", t, bi);
    mmf_builder_leave(b);
    mmf_builder_enter(b, "biOutput");
    c.dense1 = mmf_bert_linear_build(b, "dense1", bi, v);
    c.norm1 = mmf_layer_norm_build(b, "LayerNorm1", v, m->v.eps);
    mmf_bert_linear_build(b, "q_dense1", bi, v);
    c.dense2 = mmf_bert_linear_build(b, "dense2", bi, t);
    c.norm2 = mmf_layer_norm_build(b, "LayerNorm2", t, m->t.eps);
    mmf_bert_linear_build(b, "q_dense2", bi, t);
    mmf_builder_leave(b);
    c.v_inner = mmf_bert_inner_build(b, "v_intermediate", "v_output", &m->v);
    c.t_inner = mmf_bert_inner_build(b, "t_intermediate", "t_output", &m->t);
    mmf_builder_leave(b);
    return c;
}

static mmf_bert_layer *build_layers(mmf_builder *b, const char *name, const mmf_bert_sizes *s)
{
    mmf_bert_layer *const layers = mmf_builder_alloc(b, ((size_t)s->n_layers + 1) * sizeof *layers);
    for (int64_t l = 0; mmf_builder_status(b) == MMF_OK && l < s->n_layers; l++)
        layers[l] = mmf_bert_layer_build(b, mmf_builder_text(b, "%s.%lld", name, (long long)l), s);
    return layers;
}

static void build_streams(mmf_builder *b, const mmf_config *config, mmf_vilbert *m)
{
    mmf_builder_enter(b, "bert");
    m->embeddings = mmf_bert_embeddings_build(b, &m->t);
    mmf_builder_enter(b, "v_embeddings");
    m->image = mmf_bert_linear_build(b, "image_embeddings", m->regions.width, m->v.width);
    m->location = mmf_bert_linear_build(b, "image_location_embeddings", BOX_WIDTH, m->v.width);
    m->image_norm = mmf_layer_norm_build(b, "LayerNorm", m->v.width, m->v.eps);
    mmf_builder_leave(b);
    build_schedule(b, config, m);
    mmf_builder_enter(b, "encoder");
    m->t_layers = build_layers(b, "layer", &m->t);
    m->v_layers = build_layers(b, "v_layer", &m->v);
    m->connections = mmf_builder_alloc(b, ((size_t)m->n_connections + 1) * sizeof *m->connections);
    for (int64_t i = 0; mmf_builder_status(b) == MMF_OK && i < m->n_connections; i++)
        m->connections[i] =
            build_connection(b, mmf_builder_text(b, "c_layer.%lld", (long long)i), m);
    mmf_builder_leave(b);
    m->t_pooler = mmf_bert_linear_build(b, "t_pooler.dense", m->t.width, m->bi_width);
    m->v_pooler = mmf_bert_linear_build(b, "v_pooler.dense", m->v.width, m->bi_width);
    mmf_builder_leave(b);
}

static void build_tasks(mmf_builder *b, const mmf_config *config, vilbert_model *model)
{
    const mmf_vilbert *const m = &model->streams;
    const int64_t bi = m->bi_width;
    model->hidden = mmf_normed_linear_build(b, "vil_prediction.main.0", bi, 2 * bi);
    model->answers = mmf_normed_linear_build(b, "vil_prediction.main.3", 2 * bi,
                                             mmf_n_answers(b, config, "num_labels"));
    model->logit = mmf_bert_linear_build(b, "vil_logit", bi, 1);
    model->region_logit = mmf_bert_linear_build(b, "vision_logit", m->v.width, 1);
    model->word_logit = mmf_bert_linear_build(b, "linguisic_logit", m->t.width, 1);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    vilbert_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    const mmf_input_schema *const text = mmf_bert_text(inputs), *const image =
                                                                    mmf_regions_input(inputs);
    if (!image)
        return mmf_builder_fail(b, MMF_SHAPE, "vilbert: %s", mmf_regions_refusal(inputs));
    mmf_vilbert *const m = &model->streams;
    const int64_t wanted = mmf_config_int(config, "v_feature_size");
    const char *const head = mmf_config_text(config, "head");
    if (strcmp(head, "tasks") != 0 && strcmp(head, "pretraining") != 0)
        return mmf_builder_fail(b, MMF_ARG, "vilbert: head is \"%s\", not tasks or pretraining",
                                head);
    const bool adds = strcmp(mmf_config_text(config, "global_region"), "add") == 0;
    m->text = text->name;
    m->t = mmf_bert_sizes_read(b, config, text);
    m->v = image_sizes(b, config);
    m->bi_width = mmf_config_int(config, "bi_hidden_size");
    m->bi_heads = mmf_config_int(config, "bi_num_attention_heads");
    m->multiplies = strcmp(mmf_config_text(config, "fusion_method"), "mul") == 0;
    m->regions = mmf_regions_build(b, config, image, m->v.width, BOX_WIDTH,
                                   adds || image->kind == MMF_IMAGE);
    if (wanted > 0 && wanted != m->regions.width)
        mmf_builder_fail(b, MMF_SHAPE, "vilbert: v_feature_size is %lld, but %s has %lld features",
                         (long long)wanted, image->name, (long long)m->regions.width);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    build_streams(b, config, m);
    model->pretrains = mmf_is_pretraining(config);
    model->shows_heads = strcmp(head, "pretraining") == 0;
    mmf_vilbert_heads_build(b, config, m);
    if (!model->shows_heads && !model->pretrains)
        build_tasks(b, config, model);
    model->dropout = mmf_config_real(config, "classifier_dropout");
    model->is_regression = mmf_is_regression(config);
    *self = model;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

mmf_tensor *mmf_masked_rows(mmf_tape *tape, mmf_tensor *x, mmf_tensor *mask)
{
    const mmf_steps steps = {x, mask};
    return mmf_steps_masked(tape, &steps);
}

/* LN(W_f feature + W_l location): (B, R, D_v). */
static mmf_tensor *embed_regions(mmf_tape *tape, const mmf_vilbert *m, const mmf_region_set *s)
{
    mmf_tensor *const x = mmf_add(tape, mmf_linear_run(tape, &m->image, s->x, MMF_ACT_NONE),
                                  mmf_linear_run(tape, &m->location, s->box, MMF_ACT_NONE));
    return mmf_dropout(tape, mmf_layer_norm_run(tape, &m->image_norm, x), m->v.dropout);
}

/* LN(x + D(y)). */
static mmf_tensor *joined(mmf_tape *tape, const mmf_layer_norm_layer *norm, double dropout,
                          mmf_tensor *x, mmf_tensor *y)
{
    return mmf_layer_norm_run(tape, norm, mmf_add(tape, x, mmf_dropout(tape, y, dropout)));
}

/* y2 = W softmax(q2 k1') v1 is for the text, y1 = W softmax(q1 k2') v2 for the image. */
static void connect(mmf_tape *tape, const mmf_vilbert *m, const mmf_connection *c, mmf_tensor **v,
                    mmf_tensor **w, const mmf_tensor *v_mask, const mmf_tensor *w_mask)
{
    const mmf_heads over_v = {m->bi_heads, v_mask, MMF_EMPTY_SHIFTED, m->v.attention_dropout};
    const mmf_heads over_w = {m->bi_heads, w_mask, MMF_EMPTY_SHIFTED, m->t.attention_dropout};
    mmf_tensor *const k1 = mmf_linear_run(tape, &c->key1, *v, MMF_ACT_NONE);
    mmf_tensor *const v1 = mmf_linear_run(tape, &c->value1, *v, MMF_ACT_NONE);
    mmf_tensor *const k2 = mmf_linear_run(tape, &c->key2, *w, MMF_ACT_NONE);
    mmf_tensor *const v2 = mmf_linear_run(tape, &c->value2, *w, MMF_ACT_NONE);
    mmf_tensor *const y2 =
        mmf_attend_projected(tape, &c->query2, &c->dense2, *w, k1, v1, &over_v, NULL);
    mmf_tensor *const y1 =
        mmf_attend_projected(tape, &c->query1, &c->dense1, *v, k2, v2, &over_w, NULL);
    *v = joined(tape, &c->norm1, m->v.dropout, *v, y1);
    *w = joined(tape, &c->norm2, m->t.dropout, *w, y2);
    *v = mmf_bert_inner_run(tape, &c->v_inner, *v);
    *w = mmf_bert_inner_run(tape, &c->t_inner, *w);
}

/* Layers [first, last). */
static mmf_tensor *run_layers(mmf_tape *tape, const mmf_bert_layer *layers, int64_t first,
                              int64_t last, mmf_tensor *x, const mmf_tensor *mask)
{
    for (int64_t l = first; l < last; l++)
        x = mmf_bert_layer_run(tape, &layers[l], x, NULL, mask, NULL);
    return x;
}

mmf_vilbert_states mmf_vilbert_run(mmf_tape *tape, const mmf_vilbert *m, const mmf_pair *pair)
{
    const mmf_tensor *const w_mask = mmf_attention_mask(tape, pair->keys, NULL);
    const mmf_tensor *const v_mask = mmf_attention_mask(tape, pair->regions.mask, NULL);
    mmf_tensor *const words = mmf_bert_words_of(tape, &m->embeddings, pair->tokens, pair->present);
    mmf_tensor *w = mmf_bert_embed(tape, &m->embeddings, words, pair->segments, 0);
    mmf_tensor *v = embed_regions(tape, m, &pair->regions);
    int64_t t_done = 0, v_done = 0;
    for (int64_t i = 0; i < m->n_connections; i++) {
        v = run_layers(tape, m->v_layers, v_done, m->v_ids[i], v, v_mask);
        w = run_layers(tape, m->t_layers, t_done, m->t_ids[i], w, w_mask);
        connect(tape, m, &m->connections[i], &v, &w, v_mask, w_mask);
        v_done = m->v_ids[i];
        t_done = m->t_ids[i];
    }
    v = run_layers(tape, m->v_layers, v_done, m->v.n_layers, v, v_mask);
    w = run_layers(tape, m->t_layers, t_done, m->t.n_layers, w, w_mask);
    mmf_vilbert_states s = {.text = w, .vision = v};
    s.pooled_text = mmf_linear_run(tape, &m->t_pooler, mmf_bert_first(tape, w), MMF_ACT_RELU);
    s.pooled_vision = mmf_linear_run(tape, &m->v_pooler, mmf_bert_first(tape, v), MMF_ACT_RELU);
    s.joint = m->multiplies ? mmf_mul(tape, s.pooled_text, s.pooled_vision)
                            : mmf_add(tape, s.pooled_text, s.pooled_vision);
    s.joint = mmf_dropout(tape, s.joint, m->t.dropout);
    return s;
}

static void put_answers(mmf_tape *tape, const vilbert_model *model, const mmf_vilbert_states *s,
                        const mmf_pair *pair, mmf_named *out)
{
    const mmf_vilbert *const m = &model->streams;
    mmf_tensor *h = mmf_normed_linear_run(tape, &model->hidden, s->joint, MMF_ACT_RELU);
    h = mmf_dropout(tape, h, model->dropout);
    mmf_put_result(tape, out, model->is_regression,
                   mmf_normed_linear_run(tape, &model->answers, h, MMF_ACT_NONE));
    mmf_named_put(tape, out, "feature_fusion", s->joint);
    mmf_named_put(tape, out, "logit", mmf_linear_run(tape, &model->logit, s->joint, MMF_ACT_NONE));
    mmf_tensor *const region = mmf_linear_run(
        tape, &model->region_logit, mmf_dropout(tape, s->vision, m->t.dropout), MMF_ACT_NONE);
    mmf_tensor *const word = mmf_linear_run(tape, &model->word_logit,
                                            mmf_dropout(tape, s->text, m->t.dropout), MMF_ACT_NONE);
    mmf_named_put(tape, out, "logits.region", mmf_masked_rows(tape, region, pair->regions.mask));
    mmf_named_put(tape, out, "logits.word", mmf_masked_rows(tape, word, pair->keys));
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const vilbert_model *const model = self;
    const mmf_vilbert *const m = &model->streams;
    if (model->pretrains) {
        const mmf_tensor *const tokens = mmf_named_get(in, m->text);
        mmf_vilbert_pretrain(tape, m, in, out);
        mmf_put_loss_of_rows(tape, out, tokens ? tokens->shape[0] : 0);
        return;
    }
    mmf_pair pair = mmf_pair_of(tape, m->text, &m->regions, in);
    mmf_regions_add_global(tape, &m->regions, &pair.regions);
    const mmf_vilbert_states s = mmf_vilbert_run(tape, m, &pair);
    if (model->shows_heads)
        mmf_vilbert_show_heads(tape, m, in, &s, &pair, out);
    else
        put_answers(tape, model, &s, &pair, out);
}

const mmf_def mmf_model_vilbert = {
    .name = "vilbert",
    .title = "Vision-and-language BERT of two streams",
    .paper = "Lu, Batra, Parikh, Lee, ViLBERT: Pretraining task-agnostic visiolinguistic "
             "representations for vision-and-language tasks, NeurIPS 2019, arXiv:1908.02265",
    .equations =
        "connection: V' = LN(V + D softmax(q1 k2') v2), W' = LN(W + D softmax(q2 k1') v1), "
        "a hidden layer each; y = W2 relu(W1 (relu(P W_0) * relu(Q V_0))); losses are the "
        "task's means",
    .missing =
        "an absent image is regions of zeros, an absent text words of zeros, all attended to",
    .timing = "intermediate",
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
