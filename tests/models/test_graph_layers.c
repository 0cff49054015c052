/*
 * test_graph_layers.c: the two forms of an adjacency agree, and graphs of utterances and of pairs
 * have the properties that they are published with.
 */
#include "models/layer_case.h"

/* ---- Sparse adjacencies ------------------------------------------------------------------ */

enum { N = 7, WIDTH = 4 };

/* Directed, weighted, one loop, one node that nothing reaches, one stored zero. */
static int64_t make_graph(mmf_real *dense, int64_t *indptr, int64_t *indices, mmf_real *data)
{
    int64_t n = 0;
    for (int64_t i = 0; i < N; i++) {
        indptr[i] = n;
        for (int64_t j = N - 1; j >= 0; j--) { /* columns in any order */
            const bool edge = i != 2 && ((i * 3 + j * 5) % 4 == 0 || (i == 1 && j == 1));
            const mmf_real w = edge && j != 6 ? (mmf_real)(0.5 + 0.25 * (double)((i + j) % 3)) : 0;
            dense[i * N + j] = w;
            if (!edge)
                continue;
            indices[n] = j;
            data[n++] = w;
        }
    }
    indptr[N] = n;
    return n;
}

/* One graph with its nodes, the adjacency dense and sparse. */
typedef struct both_forms {
    mmf_real node[N * WIDTH], dense[N * N], data[N * N];
    int64_t indptr[N + 1], indices[N * N];
    value full[2], rows[4];
} both_forms;

static void draw_both_forms(both_forms *g)
{
    const int64_t n_edges = make_graph(g->dense, g->indptr, g->indices, g->data);
    const value node = {"node", g->node, NULL, 2, {N, WIDTH}};
    draw(g->node, N * WIDTH, 4);
    g->full[0] = g->rows[0] = node;
    g->full[1] = (value){"adjacency", g->dense, NULL, 2, {N, N}};
    g->rows[1] = (value){"adjacency.indptr", NULL, g->indptr, 1, {N + 1}};
    g->rows[2] = (value){"adjacency.indices", NULL, g->indices, 1, {n_edges}};
    g->rows[3] = (value){"adjacency.data", g->data, NULL, 1, {n_edges}};
}

static void a_sparse_adjacency_is_the_dense_one(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"gcn", "{\"norm\": \"sym\"}"},
        {"gcn", "{\"norm\": \"row\", \"self_loop\": 0.5}"},
        {"gcn", "{\"norm\": \"none\", \"self_loop\": 0}"},
        {"gat", "{\"heads\": 3, \"hidden\": 2}"},
        {"gat", "{\"heads\": [2, 3], \"layers\": 2, \"classes\": 3, \"activation\": \"elu\"}"},
        {"gatv2", "{\"heads\": 2, \"hidden\": 3, \"concat\": false}"},
        {"gatv2",
         "{\"heads\": [2, 3, 2, 1], \"hidden\": 3, \"layers\": 4, \"activation\": \"relu\"}"},
        {"gatv2", "{\"heads\": 2, \"hidden\": 3, \"share_weights\": true}"}};
    mmf_ctx *const ctx = test_ctx();
    both_forms g;
    draw_both_forms(&g);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const wanted = strcmp(cases[i][0], "gcn") == 0 ? "log_probability" : "output";
        mmf_module *const a = make(ctx, cases[i][0], cases[i][1], g.full, 2);
        mmf_module *const b = make(ctx, cases[i][0], cases[i][1], g.rows, 4);
        shown da = {0}, db = {0};
        const shown ya = run(ctx, a, g.full, 2, wanted, &da);
        const shown yb = run(ctx, b, g.rows, 4, wanted, &db);
        assert_same(&ya, &yb, 1e-5);
        assert_same(&da, &db, 1e-4);
        mmf_module_free(a);
        mmf_module_free(b);
    }
    mmf_ctx_free(ctx);
}

/* A node that nothing reaches, without a loop, has the bias and nothing else, in both forms. */
static void a_node_without_edges_has_the_bias(void **state)
{
    (void)state;
    static const char *const norms[] = {"{\"layers\": 1, \"self_loop\": 0, \"norm\": \"sym\"}",
                                        "{\"layers\": 1, \"self_loop\": 0, \"norm\": \"row\"}"};
    mmf_ctx *const ctx = test_ctx();
    both_forms g;
    draw_both_forms(&g);
    for (int i = 0; i < 4; i++) {
        value *const in = i % 2 ? g.rows : g.full;
        mmf_module *const module = make(ctx, "gcn", norms[i / 2], in, i % 2 ? 4 : 2);
        mmf_real *const bias = case_tensor(module, "gc1.bias")->data;
        bias[0] = (mmf_real)log(0.2);
        bias[1] = (mmf_real)log(0.8);
        const shown y = run(ctx, module, in, i % 2 ? 4 : 2, "log_probability", NULL);
        assert_true(fabs(y.values[2 * 2] - log(0.2)) < 1e-6);
        assert_true(fabs(y.values[2 * 2 + 1] - log(0.8)) < 1e-6);
        assert_true(fabs(y.values[0] - log(0.2)) > 1e-4);
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

/* A node that nothing reaches has no degree, and in a directed graph what it sends is not divided
 * by one. */
static void a_node_that_nothing_reaches_sends_nothing(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    both_forms g;
    bool sends = false;
    draw_both_forms(&g);
    for (int i = 0; i < N; i++)
        sends = sends || g.dense[i * N + 2] > 0;
    assert_true(sends);
    for (int rows = 0; rows < 2; rows++) {
        value *const in = rows ? g.rows : g.full;
        mmf_module *const module =
            make(ctx, "gcn", "{\"self_loop\": 0, \"norm\": \"sym\"}", in, rows ? 4 : 2);
        const shown s = run(ctx, module, in, rows ? 4 : 2, "propagation", NULL);
        for (int64_t i = 0; i < s.count; i++)
            assert_true(fabs(s.values[i]) < 2);
        for (int i = 0; !rows && i < N; i++)
            assert_true(s.values[i * N + 2] == 0);
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

/* Each way in which rows can be wrong is an error that says so. */
static void damaged_rows_are_refused(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const struct {
        int64_t indptr[4], indices[3];
    } wrong[] = {{{0, 1, 2, 2}, {1, 0, 2}},  /* does not end at the number of edges */
                 {{0, 2, 1, 3}, {1, 0, 2}},  /* falls */
                 {{1, 1, 2, 3}, {1, 0, 2}},  /* does not begin at 0 */
                 {{0, 1, 2, 3}, {1, 3, 2}},  /* no such node */
                 {{0, 1, 2, 3}, {1, -1, 2}}, /* nor this */
                 {{0, 2, 2, 3}, {1, 1, 2}}}; /* one edge twice */
    mmf_real node[3 * WIDTH];
    draw(node, 3 * WIDTH, 5);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int64_t indptr[4], indices[3];
        memcpy(indptr, wrong[i].indptr, sizeof indptr);
        memcpy(indices, wrong[i].indices, sizeof indices);
        value rows[] = {{"node", node, NULL, 2, {3, WIDTH}},
                        {"adjacency.indptr", NULL, indptr, 1, {4}},
                        {"adjacency.indices", NULL, indices, 1, {3}}};
        mmf_module *const module = make(ctx, "gcn", "{}", rows, 3);
        mmf_tape *tape = NULL;
        mmf_named in = {0}, out = {0};
        test_ok(ctx, mmf_tape_create(ctx, &tape));
        mmf_tape_begin(tape, &(mmf_pass){0});
        mmf_named_put(tape, &in, "node", mmf_input(tape, node, 2, rows[0].shape));
        mmf_named_put(tape, &in, "adjacency.indptr",
                      mmf_input_ints(tape, indptr, 1, rows[1].shape));
        mmf_named_put(tape, &in, "adjacency.indices",
                      mmf_input_ints(tape, indices, 1, rows[2].shape));
        mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
        assert_true(mmf_tape_status(tape) != MMF_OK);
        assert_non_null(strstr(mmf_ctx_error(ctx), "adjacency"));
        mmf_tape_free(tape);
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

/* ---- Utterances -------------------------------------------------------------------------- */

enum { U = 5 };

/* The released code has rows for audio, vision and text in this order, whichever are there. */
static void vectors_of_modalities_go_by_name(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_real text[U * WIDTH], audio[U * WIDTH];
    int64_t speaker[] = {0, 1, 0, 1, 1};
    draw(text, U * WIDTH, 1);
    draw(audio, U * WIDTH, 2);
    const char *const json = "{\"hidden\": 3, \"layers\": 2, \"use_modal\": true}";
    value in[] = {{"text", text, NULL, 2, {U, WIDTH}},
                  {"audio", audio, NULL, 2, {U, WIDTH}},
                  {"speaker", NULL, speaker, 1, {U}}};
    mmf_module *module = make(ctx, "mmgcn", json, in, 3);
    const mmf_tensor *const rows = case_tensor(module, "graph_model.modal_embeddings.weight");
    assert_int_equal(rows->shape[0], 3);
    const shown before = run(ctx, module, in, 3, "feature", NULL);
    rows->data[WIDTH] += 1; /* vision's */
    const shown same = run(ctx, module, in, 3, "feature", NULL);
    assert_same(&before, &same, 0);
    rows->data[0] += 1; /* audio's */
    const shown other = run(ctx, module, in, 3, "feature", NULL);
    assert_true(differs(&before, &other));
    mmf_module_free(module);

    /* Speakers are added to the text: without one they have no vectors. */
    in[0].name = "depth";
    module = make(ctx, "mmgcn", json, in, 3);
    assert_int_equal(case_tensor(module, "graph_model.modal_embeddings.weight")->shape[0], 2);
    assert_null(
        mmf_params_find(mmf_module_params(module), "graph_model.speaker_embeddings.weight"));
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void utterances_are_not_changed(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_real audio[U * WIDTH], text[U * WIDTH], before[U * WIDTH];
    int64_t speaker[] = {0, 1, 0, 1, 1}, length[] = {2, 3};
    draw(audio, U * WIDTH, 1);
    draw(text, U * WIDTH, 2);
    memset(text, 0, WIDTH * sizeof *text);   /* no direction: no number in the reference */
    memset(audio, 0, WIDTH * sizeof *audio); /* and its partner has none either */
    memcpy(before, text, sizeof before);
    value in[] = {{"text", text, NULL, 2, {U, WIDTH}},
                  {"audio", audio, NULL, 2, {U, WIDTH}},
                  {"speaker", NULL, speaker, 1, {U}},
                  {"dialogue.length", NULL, length, 1, {2}}};
    mmf_module *const module = make(ctx, "mmgcn", "{\"hidden\": 3, \"layers\": 3}", in, 4);
    shown gradient = {0};
    const shown y = run(ctx, module, in, 4, "log_probability", &gradient);
    assert_memory_equal(before, text, sizeof before);
    for (int64_t i = 0; i < y.count; i++)
        assert_true(isfinite(y.values[i]));
    for (int64_t i = 0; i < gradient.count; i++)
        assert_true(isfinite(gradient.values[i]));
    /* Dialogues do not see each other, nor an utterance another one's other modality. */
    const shown a = run(ctx, module, in, 4, "adjacency", NULL);
    for (int64_t i = 0; i < 2 * U; i++) {
        for (int64_t j = 0; j < 2 * U; j++) {
            const int64_t ui = i % U, uj = j % U;
            const bool joined = i / U == j / U ? (ui < 2) == (uj < 2) : ui == uj;
            assert_true((a.values[i * 2 * U + j] > 0) == joined);
        }
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* With alpha and theta 0 a convolution is relu(S h). */
static void a_convolution_without_weights_propagates(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    enum { H = 3 };
    mmf_real text[U * WIDTH];
    draw(text, U * WIDTH, 6);
    value in[] = {{"text", text, NULL, 2, {U, WIDTH}}};
    mmf_module *const module =
        make(ctx, "mmgcn",
             "{\"hidden\": 3, \"layers\": 1, \"alpha\": 0, \"lamda\": 0, \"use_residue\": false}",
             in, 1);
    const mmf_params *const params = mmf_module_params(module);
    const mmf_tensor *const w =
        mmf_params_find(params, "graph_model.graph_net.fcs.0.weight")->tensor;
    const mmf_tensor *const b = mmf_params_find(params, "graph_model.graph_net.fcs.0.bias")->tensor;
    const shown s = run(ctx, module, in, 1, "adjacency", NULL);
    const shown h = run(ctx, module, in, 1, "feature", NULL);
    double first[U * H];
    for (int64_t i = 0; i < U * H; i++) {
        first[i] = (double)b->data[i % H];
        for (int64_t d = 0; d < WIDTH; d++)
            first[i] += (double)(text[i / H * WIDTH + d] * w->data[i % H * WIDTH + d]);
        first[i] = fmax(first[i], 0);
    }
    for (int64_t i = 0; i < U * H; i++) {
        double sum = 0;
        for (int64_t j = 0; j < U; j++)
            sum += s.values[i / H * U + j] * first[j * H + i % H];
        assert_true(fabs(h.values[i] - sum) < 1e-5);
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Dialogues of a batch are blocks of their own: together or one by one, of one utterance too; and
 * the adjacency of both is symmetric and never grows. */
static void dialogues_are_blocks(void **state)
{
    (void)state;
    static const int64_t splits[][2] = {{2, 3}, {1, 4}, {4, 1}};
    mmf_ctx *const ctx = test_ctx();
    mmf_real audio[U * WIDTH], text[U * WIDTH];
    int64_t speaker[] = {0, 1, 0, 1, 1}, length[2], one = 0;
    draw(audio, U * WIDTH, 3);
    draw(text, U * WIDTH, 4);
    value in[] = {{"text", text, NULL, 2, {U, WIDTH}},
                  {"audio", audio, NULL, 2, {U, WIDTH}},
                  {"speaker", NULL, speaker, 1, {U}},
                  {"dialogue.length", NULL, length, 1, {2}}};
    mmf_module *const module = make(ctx, "mmgcn", "{\"hidden\": 3, \"layers\": 3}", in, 4);
    for (size_t i = 0; i < 3; i++) {
        memcpy(length, splits[i], sizeof length);
        const shown both = run(ctx, module, in, 4, "log_probability", NULL);
        for (int64_t d = 0, first = 0; d < 2; first += length[d++]) {
            one = length[d];
            value part[] = {{"text", text + first * WIDTH, NULL, 2, {one, WIDTH}},
                            {"audio", audio + first * WIDTH, NULL, 2, {one, WIDTH}},
                            {"speaker", NULL, speaker + first, 1, {one}},
                            {"dialogue.length", NULL, &one, 1, {1}}};
            const shown alone = run(ctx, module, part, 4, "log_probability", NULL);
            for (int64_t e = 0; e < alone.count; e++)
                assert_true(fabs(alone.values[e] - both.values[2 * first + e]) < 1e-5);
        }
        const shown a = run(ctx, module, in, 4, "adjacency", NULL);
        double x[2 * U], y[2 * U], norm = 0;
        for (int64_t k = 0; k < 2 * U; k++)
            x[k] = 1 + 0.1 * (double)k;
        for (int step = 0; step < 200; step++) { /* towards the largest eigenvalue */
            norm = 0;
            for (int64_t k = 0; k < 2 * U; k++) {
                y[k] = 0;
                for (int64_t j = 0; j < 2 * U; j++) {
                    y[k] += a.values[k * 2 * U + j] * x[j];
                    assert_true(fabs(a.values[k * 2 * U + j] - a.values[j * 2 * U + k]) < 1e-6);
                }
                norm += y[k] * y[k];
            }
            norm = sqrt(norm);
            for (int64_t k = 0; k < 2 * U; k++)
                x[k] = y[k] / norm;
        }
        assert_true(fabs(norm - 1) < 1e-4);
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* With alpha 1 and weights of zeros a layer is relu((1 - theta) H0), whatever the graph. */
static void a_convolution_of_the_first_state_does_not_read_the_graph(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_real text[U * WIDTH];
    draw(text, U * WIDTH, 8);
    value in[] = {{"text", text, NULL, 2, {U, WIDTH}}};
    mmf_module *const module =
        make(ctx, "mmgcn", "{\"hidden\": 3, \"layers\": 3, \"alpha\": 1, \"use_residue\": false}",
             in, 1);
    const mmf_params *const params = mmf_module_params(module);
    for (int l = 0; l < 3; l++) {
        char name[64];
        snprintf(name, sizeof name, "graph_model.graph_net.convs.%d.weight", l);
        mmf_tensor *const w = mmf_params_find(params, name)->tensor;
        memset(w->data, 0, (size_t)w->count * sizeof *w->data);
    }
    const mmf_tensor *const w =
        mmf_params_find(params, "graph_model.graph_net.fcs.0.weight")->tensor;
    const mmf_tensor *const b = mmf_params_find(params, "graph_model.graph_net.fcs.0.bias")->tensor;
    const shown h = run(ctx, module, in, 1, "feature", NULL);
    const double theta = log(0.5 / 3 + 1); /* of the last layer */
    for (int64_t i = 0; i < h.count; i++) {
        double sum = (double)b->data[i % 3];
        for (int64_t d = 0; d < WIDTH; d++)
            sum += (double)(text[i / 3 * WIDTH + d] * w->data[i % 3 * WIDTH + d]);
        assert_true(fabs(h.values[i] - (1 - theta) * fmax(sum, 0)) < 1e-5);
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* ---- Views of a pair --------------------------------------------------------------------- */

enum { B = 2, V = 3, R = 6, F = 4, PAIR = B * V * R * F * 2 };

static void ring(mmf_real *adjacency)
{
    for (int64_t i = 0; i < R; i++) {
        for (int64_t j = 0; j < R; j++)
            adjacency[i * R + j] = (i + 1) % R == j || (j + 1) % R == i ? 1 : 0;
    }
}

static void subjects_of_a_pair_may_change_places(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_real node[PAIR], swapped[PAIR], adjacency[R * R];
    draw(node, PAIR, 7);
    ring(adjacency);
    for (int64_t i = 0; i < PAIR; i++)
        swapped[i] = node[i ^ 1];
    value a[] = {{"node", node, NULL, 5, {B, V, R, F, 2}},
                 {"adjacency", adjacency, NULL, 2, {R, R}}};
    value b[] = {{"node", swapped, NULL, 5, {B, V, R, F, 2}}, a[1]};
    for (int tied = 0; tied < 2; tied++) {
        mmf_module *const module =
            make(ctx, "mv-gcn",
                 tied ? "{\"chebyshev_order\": 4, \"filters\": 5, \"layers\": 2}"
                      : "{\"chebyshev_order\": 4, \"filters\": 5, \"tie_branches\": false}",
                 a, 2);
        const shown ya = run(ctx, module, a, 2, "logit", NULL);
        const shown yb = run(ctx, module, b, 2, "logit", NULL);
        if (tied)
            assert_same(&ya, &yb, 1e-5);
        else
            assert_true(differs(&ya, &yb));
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

static void equal_views_are_one_and_equal_subjects_match(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_real one[B * R * F * 2], many[PAIR], twin[B * R * F * 2], adjacency[R * R];
    const int64_t view = R * F * 2;
    draw(one, B * view, 8);
    ring(adjacency);
    for (int64_t i = 0; i < PAIR; i++)
        many[i] = one[i / (V * view) * view + i % view];
    for (int64_t i = 0; i < B * view; i++)
        twin[i] = one[i & ~(int64_t)1];
    value single[] = {{"node", one, NULL, 5, {B, 1, R, F, 2}},
                      {"adjacency", adjacency, NULL, 2, {R, R}}};
    value several[] = {{"node", many, NULL, 5, {B, V, R, F, 2}}, single[1]};
    value twins[] = {{"node", twin, NULL, 5, {B, 1, R, F, 2}}, single[1]};
    static const char json[] = "{\"chebyshev_order\": 3, \"filters\": 8}";
    mmf_module *const a = make(ctx, "mv-gcn", json, single, 2);
    mmf_module *const b = make(ctx, "mv-gcn", json, several, 2);
    const shown ya = run(ctx, a, single, 2, "logit", NULL);
    const shown yb = run(ctx, b, several, 2, "logit", NULL);
    assert_same(&ya, &yb, 1e-5);
    const shown match = run(ctx, a, twins, 2, "match", NULL);
    for (int64_t i = 0; i < match.count; i++)
        assert_true(fabs(match.values[i] - 1) < 1e-5 || fabs(match.values[i]) < 1e-9);
    mmf_module_free(a);
    mmf_module_free(b);
    mmf_ctx_free(ctx);
}

/* The gradient of a maximum goes to the view that has it, of equal ones to the first. */
static void the_largest_view_alone_learns(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_real node[PAIR], adjacency[R * R];
    const int64_t view = R * F * 2;
    ring(adjacency);
    value in[] = {{"node", node, NULL, 5, {B, V, R, F, 2}},
                  {"adjacency", adjacency, NULL, 2, {R, R}}};
    mmf_module *const module =
        make(ctx, "mv-gcn", "{\"chebyshev_order\": 1, \"filters\": 5}", in, 2);
    mmf_tensor *const w = case_tensor(module, "siamese/conv11/weights");
    for (int64_t i = 0; i < w->count; i++)
        w->data[i] = (mmf_real)(fabs((double)w->data[i]) + 0.01);
    draw(node, PAIR, 10);
    for (int largest = 0; largest < V; largest++) {
        for (int equal = 0; equal < 2; equal++) {
            for (int64_t i = 0; i < PAIR; i++) {
                const int64_t v = i / view % V, first = i - v * view;
                node[i] = (mmf_real)fabs((double)node[equal ? first : i]);
                node[i] += !equal && v == largest ? 10 : 0;
            }
            shown gradient = {0};
            run(ctx, module, in, 2, "logit", &gradient);
            double size[V] = {0};
            for (int64_t i = 0; i < PAIR; i++)
                size[i / view % V] += fabs(gradient.values[i]);
            for (int v = 0; v < V; v++)
                assert_true((size[v] > 0) == (v == (equal ? 0 : largest)));
            draw(node, PAIR, 11 + (uint64_t)largest);
        }
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* On a triangle the scaled Laplacian has the eigenvalue 1/2 = cos(60 degrees) for (1, -1, 0): its
 * polynomials there are cos(60 k). One order alone does not read the graph. */
static void polynomials_are_cosines(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    enum { K = 7 };
    mmf_real node[2 * 3] = {1, 1, -1, -1, 0, 0}, adjacency[9] = {0, 1, 1, 1, 0, 1, 1, 1, 0};
    value in[] = {{"node", node, NULL, 5, {1, 1, 3, 1, 2}},
                  {"adjacency", adjacency, NULL, 2, {3, 3}}};
    for (int64_t k = 0; k < K; k++) {
        mmf_module *const module =
            make(ctx, "mv-gcn",
                 "{\"chebyshev_order\": 7, \"filters\": 1, \"view_pooling\": \"mean\"}", in, 2);
        const mmf_params *const params = mmf_module_params(module);
        mmf_tensor *const w = mmf_params_find(params, "siamese/conv11/weights")->tensor;
        mmf_tensor *const bias = mmf_params_find(params, "siamese/conv11/bias")->tensor;
        memset(w->data, 0, (size_t)w->count * sizeof *w->data);
        w->data[k] = 1;
        /* relu(T_k x + b) is 0 at every node exactly while b <= -|cos|: found by the match. */
        const double cosine = fabs(cos((double)k * acos(0.5)));
        for (int above = 0; above < 2; above++) {
            for (int64_t i = 0; i < bias->count; i++)
                bias->data[i] = (mmf_real)(-cosine + (above ? 1e-3 : -1e-3));
            const shown match = run(ctx, module, in, 2, "match", NULL);
            double sum = 0;
            for (int64_t i = 0; i < 2; i++)
                sum += match.values[i];
            assert_true(fabs(sum - above) < 1e-5);
        }
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

static void one_order_does_not_read_the_graph(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_real node[PAIR], adjacency[R * R], none[R * R] = {0};
    draw(node, PAIR, 9);
    ring(adjacency);
    value a[] = {{"node", node, NULL, 5, {B, V, R, F, 2}},
                 {"adjacency", adjacency, NULL, 2, {R, R}}};
    value b[] = {a[0], {"adjacency", none, NULL, 2, {R, R}}};
    for (int order = 1; order < 3; order++) {
        mmf_module *const module = make(ctx, "mv-gcn",
                                        order == 1 ? "{\"chebyshev_order\": 1, \"filters\": 5}"
                                                   : "{\"chebyshev_order\": 2, \"filters\": 5}",
                                        a, 2);
        const shown ya = run(ctx, module, a, 2, "logit", NULL);
        const shown yb = run(ctx, module, b, 2, "logit", NULL);
        assert_true(differs(&ya, &yb) == (order > 1));
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sparse_adjacency_is_the_dense_one),
        cmocka_unit_test(a_node_without_edges_has_the_bias),
        cmocka_unit_test(a_node_that_nothing_reaches_sends_nothing),
        cmocka_unit_test(damaged_rows_are_refused),
        cmocka_unit_test(vectors_of_modalities_go_by_name),
        cmocka_unit_test(utterances_are_not_changed),
        cmocka_unit_test(a_convolution_without_weights_propagates),
        cmocka_unit_test(dialogues_are_blocks),
        cmocka_unit_test(a_convolution_of_the_first_state_does_not_read_the_graph),
        cmocka_unit_test(subjects_of_a_pair_may_change_places),
        cmocka_unit_test(equal_views_are_one_and_equal_subjects_match),
        cmocka_unit_test(the_largest_view_alone_learns),
        cmocka_unit_test(polynomials_are_cosines),
        cmocka_unit_test(one_order_does_not_read_the_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
