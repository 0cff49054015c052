/*
 * test_graph_models.c: graphs of nodes and of modalities: the properties that they are published
 * with, and the pitfalls.
 */
#include <math.h>

#include "models/model_case.h"
#include "tensor/jacobi.h"

enum { N_NODES = 6, WIDTH = 4, MAX_VALUES = 512 };

static const model_case trio = {"text, audio, vision", 3, CASE_TRIO, false, false};

typedef struct shown {
    bool found;
    int64_t count;
    double values[MAX_VALUES];
} shown;

static shown copy_of(const mmf_named *out, const char *name)
{
    const mmf_tensor *const t = mmf_named_get(out, name);
    shown s = {.found = t != NULL, .count = t ? t->count : 0};
    assert_true(s.count <= MAX_VALUES);
    for (int64_t i = 0; i < s.count; i++)
        s.values[i] = (double)t->data[i];
    return s;
}

static shown run_model(mmf_ctx *ctx, mmf_module *module, case_data *data, const char *name)
{
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    case_put(tape, data, false, &in);
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    test_ok(ctx, mmf_tape_status(tape));
    const shown s = copy_of(&out, name);
    mmf_tape_free(tape);
    return s;
}

/* ---- Graphs of modalities ---------------------------------------------------------------- */

/* Largest difference between two nodes of a sample. */
static double spread(const shown *nodes, int64_t n_nodes)
{
    const int64_t width = nodes->count / (CASE_ROWS * n_nodes);
    double largest = 0;
    for (int64_t b = 0; b < CASE_ROWS; b++) {
        for (int64_t i = 0; i < n_nodes * width; i++) {
            const double *const row = nodes->values + b * n_nodes * width;
            largest = fmax(largest, fabs(row[i] - row[i % width]));
        }
    }
    return largest;
}

/* On a complete graph with equal weights one convolution makes all nodes equal, unless something is
 * theirs alone: the root weight, or a self-loop of another weight. */
static void a_root_weight_keeps_nodes_apart(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &trio, 1);
    static const char *const options[][4] = {{"root", "false", "1", "same"},
                                             {"root", "true", "1", "apart"},
                                             {"root", "false", "3", "apart"}};
    for (size_t i = 0; i < 3; i++) {
        mmf_config *const config = case_config(ctx, mmf_model_find("gcn"), "classification");
        mmf_module *module = NULL;
        test_ok(ctx, mmf_config_set(config, options[i][0], options[i][1]));
        test_ok(ctx, mmf_config_set(config, "self_loop", options[i][2]));
        test_ok(ctx, mmf_config_set(config, "layers", "1"));
        test_ok(ctx,
                mmf_module_create(ctx, &module, mmf_model_find("gcn"), config, &data.schema, 1));
        case_draw(mmf_module_params(module), 3);
        const shown nodes = run_model(ctx, module, &data, "node");
        if (strcmp(options[i][3], "same") == 0)
            assert_true(spread(&nodes, 3) < 1e-6);
        else
            assert_true(spread(&nodes, 3) > 1e-3);
        mmf_module_free(module);
        mmf_config_free(config);
    }
    case_close(&data);
    mmf_ctx_free(ctx);
}

/* Reading nodes out without their order: modalities may stand in any. */
static void a_readout_is_of_a_set(void **state)
{
    (void)state;
    static const char *const models[] = {"gcn", "gat", "gatv2"};
    static const char *const readouts[] = {"mean", "sum", "attention"};
    static const size_t order[] = {2, 0, 1};
    mmf_ctx *const ctx = test_ctx();
    case_data data, turned;
    case_open(&data, &trio, 2);
    case_select(&turned, &data, NULL, CASE_ROWS, -1);
    for (size_t m = 0; m < 3; m++) {
        turned.inputs[m] = data.inputs[order[m]];
        turned.row_size[m] = data.row_size[order[m]];
        turned.values[m] = realloc(turned.values[m], (size_t)(CASE_ROWS * turned.row_size[m]) *
                                                         sizeof *turned.values[m]);
        assert_non_null(turned.values[m]);
        memcpy(turned.values[m], data.values[order[m]],
               (size_t)(CASE_ROWS * turned.row_size[m]) * sizeof *turned.values[m]);
    }
    for (size_t i = 0; i < 9; i++) {
        const mmf_def *const def = mmf_model_find(models[i / 3]);
        mmf_module *const a =
            case_module(ctx, def, &data.schema, "classification", "readout", readouts[i % 3]);
        mmf_module *const b =
            case_module(ctx, def, &turned.schema, "classification", "readout", readouts[i % 3]);
        /* Parameters of equal names are drawn equal; the types of nodes stand in their order. */
        const mmf_tensor *const from = mmf_params_find(mmf_module_params(a), "node.type")->tensor;
        mmf_tensor *const to = mmf_params_find(mmf_module_params(b), "node.type")->tensor;
        for (int64_t e = 0; e < to->count; e++)
            to->data[e] =
                from->data[(int64_t)order[e / to->shape[1]] * to->shape[1] + e % to->shape[1]];
        const shown x = run_model(ctx, a, &data, "logits");
        const shown y = run_model(ctx, b, &turned, "logits");
        for (int64_t e = 0; e < x.count; e++)
            assert_true(fabs(x.values[e] - y.values[e]) < 1e-5);
        mmf_module_free(a);
        mmf_module_free(b);
    }
    case_close(&data);
    case_close(&turned);
    mmf_ctx_free(ctx);
}

/* ---- Layers ------------------------------------------------------------------------------ */

static const mmf_def *layer(const char *name)
{
    size_t n = 0;
    const mmf_def *const *const table = mmf_catalogue(MMF_KIND_LAYER, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    }
    fail_msg("there is no layer %s", name);
    return NULL;
}

static mmf_module *graph_layer(mmf_ctx *ctx, const char *name, uint64_t seed)
{
    mmf_input_schema inputs[] = {
        {.name = "adjacency", .kind = MMF_VECTOR, .n_dims = 1, .shape = {N_NODES}},
        {.name = "node", .kind = MMF_VECTOR, .n_dims = 1, .shape = {WIDTH}}};
    const mmf_schema schema = {2, inputs};
    mmf_module *module = NULL;
    test_ok(ctx, mmf_module_create(ctx, &module, layer(name), NULL, &schema, seed));
    return module;
}

static shown run_layer(mmf_ctx *ctx, mmf_module *module, mmf_real *node, mmf_real *adjacency,
                       const char *name)
{
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_named_put(tape, &in, "node", mmf_input(tape, node, 2, (int64_t[]){N_NODES, WIDTH}));
    mmf_named_put(tape, &in, "adjacency",
                  mmf_input(tape, adjacency, 2, (int64_t[]){N_NODES, N_NODES}));
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    test_ok(ctx, mmf_tape_status(tape));
    const shown s = copy_of(&out, name);
    mmf_tape_free(tape);
    return s;
}

static void draw(mmf_real *values, int64_t n, uint64_t seed)
{
    mmf_rng rng = mmf_rng_make(seed, 0);
    for (int64_t i = 0; i < n; i++)
        values[i] = (mmf_real)mmf_rng_normal(&rng);
}

/* Edges as in a random graph, without loops, and their weights. */
static void some_edges(mmf_real *adjacency, bool weighted)
{
    memset(adjacency, 0, N_NODES * N_NODES * sizeof *adjacency);
    for (int64_t i = 0; i < N_NODES; i++) {
        for (int64_t j = 0; j < i; j++)
            adjacency[i * N_NODES + j] = adjacency[j * N_NODES + i] =
                (mmf_real)((i + 2 * j) % 3 == 0 ? (weighted ? 0.5 + 0.25 * (double)j : 1) : 0);
    }
}

/* Numbering the nodes otherwise numbers the results otherwise. */
static void layers_follow_a_permutation(void **state)
{
    (void)state;
    static const char *const names[] = {"gcn", "gat", "gatv2"};
    static const int64_t order[] = {3, 0, 5, 1, 4, 2};
    mmf_ctx *const ctx = test_ctx();
    mmf_real node[N_NODES * WIDTH], adjacency[N_NODES * N_NODES];
    mmf_real node_2[N_NODES * WIDTH], adjacency_2[N_NODES * N_NODES];
    draw(node, N_NODES * WIDTH, 4);
    some_edges(adjacency, false);
    for (int64_t i = 0; i < N_NODES; i++) {
        memcpy(node_2 + i * WIDTH, node + order[i] * WIDTH, WIDTH * sizeof *node);
        for (int64_t j = 0; j < N_NODES; j++)
            adjacency_2[i * N_NODES + j] = adjacency[order[i] * N_NODES + order[j]];
    }
    for (size_t k = 0; k < 3; k++) {
        const char *const wanted = k == 0 ? "log_probability" : "output";
        mmf_module *const module = graph_layer(ctx, names[k], 2);
        const shown a = run_layer(ctx, module, node, adjacency, wanted);
        const shown b = run_layer(ctx, module, node_2, adjacency_2, wanted);
        const int64_t width = a.count / N_NODES;
        for (int64_t i = 0; i < a.count; i++)
            assert_true(fabs(b.values[i] - a.values[order[i / width] * width + i % width]) < 1e-5);
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

/* Heads in which not every node attends most to the same neighbour. */
static int64_t count_differing(const shown *attention)
{
    const int64_t heads = attention->count / (N_NODES * N_NODES);
    int64_t differing = 0;
    for (int64_t k = 0; k < heads; k++) {
        int64_t first = -1;
        bool differs = false;
        for (int64_t i = 0; i < N_NODES; i++) {
            const double *const row = attention->values + (k * N_NODES + i) * N_NODES;
            int64_t best = 0;
            double sum = 0;
            for (int64_t j = 0; j < N_NODES; j++) {
                best = row[j] > row[best] ? j : best;
                sum += row[j];
            }
            assert_true(fabs(sum - 1) < 1e-5);
            first = first < 0 ? best : first;
            differs = differs || best != first;
        }
        differing += differs;
    }
    return differing;
}

/* Brody et al., theorem 1: GAT ranks neighbours the same way for every query, GATv2 need not. */
static void only_the_second_version_attends_dynamically(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_real node[N_NODES * WIDTH], adjacency[N_NODES * N_NODES];
    for (int64_t i = 0; i < N_NODES * N_NODES; i++)
        adjacency[i] = 1;
    int64_t n_static = 0, n_dynamic = 0;
    for (uint64_t seed = 0; seed < 6; seed++) {
        draw(node, N_NODES * WIDTH, seed);
        mmf_module *const v1 = graph_layer(ctx, "gat", seed);
        mmf_module *const v2 = graph_layer(ctx, "gatv2", seed);
        const shown a = run_layer(ctx, v1, node, adjacency, "attention");
        const shown b = run_layer(ctx, v2, node, adjacency, "attention");
        n_static += count_differing(&a);
        n_dynamic += count_differing(&b);
        mmf_module_free(v1);
        mmf_module_free(v2);
    }
    assert_int_equal(n_static, 0);
    assert_true(n_dynamic > 0);
    mmf_ctx_free(ctx);
}

/* S of the classifier `gcn`, seen from outside. */
static shown propagation(mmf_ctx *ctx, mmf_real *adjacency)
{
    mmf_real node[N_NODES * WIDTH] = {0};
    mmf_module *const module = graph_layer(ctx, "gcn", 2);
    const shown s = run_layer(ctx, module, node, adjacency, "propagation");
    mmf_module_free(module);
    return s;
}

/* S is symmetric, holds D^1/2 1 fast, and its eigenvalues lie in (-1, 1]; on a complete graph it is
 * the mean; a loop that the graph has is not added to. */
static void propagation_is_symmetric_and_never_grows(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_real adjacency[N_NODES * N_NODES];
    some_edges(adjacency, true);
    const shown s = propagation(ctx, adjacency);
    double columns[N_NODES * N_NODES], v[N_NODES * N_NODES], eigen[N_NODES];
    for (int64_t i = 0; i < N_NODES; i++) {
        double sum = 0, own = 0;
        for (int64_t j = 0; j < N_NODES; j++) {
            double degree = 1;
            for (int64_t k = 0; k < N_NODES; k++)
                degree += (double)adjacency[j * N_NODES + k];
            sum += s.values[i * N_NODES + j] * sqrt(degree);
            own = i == j ? sqrt(degree) : own;
            assert_true(fabs(s.values[i * N_NODES + j] - s.values[j * N_NODES + i]) < 1e-7);
            /* I + S has no negative eigenvalues: its singular values are those of S and 1. */
            columns[i * N_NODES + j] = s.values[i * N_NODES + j] + (i == j);
        }
        assert_true(fabs(sum - own) < 1e-5);
    }
    mmf_jacobi_svd(columns, N_NODES, N_NODES, v, eigen);
    assert_true(fabs(eigen[0] - 2) < 1e-6 && eigen[N_NODES - 1] > 1e-3);
    for (int64_t i = 0; i < N_NODES; i++)
        adjacency[i * N_NODES + i] = 5;
    const shown same = propagation(ctx, adjacency);
    assert_memory_equal(s.values, same.values, (size_t)s.count * sizeof *s.values);
    for (int64_t i = 0; i < N_NODES * N_NODES; i++)
        adjacency[i] = 1;
    const shown complete = propagation(ctx, adjacency);
    for (int64_t i = 0; i < complete.count; i++)
        assert_true(fabs(complete.values[i] - 1.0 / N_NODES) < 1e-6);
    mmf_ctx_free(ctx);
}

/* x W' + b for weights (outputs, inputs), and a second bias. */
static double affine_of(const mmf_tensor *w, const mmf_tensor *b, const mmf_tensor *more,
                        const mmf_real *x, int64_t o)
{
    double sum = (b ? (double)b->data[o] : 0) + (double)more->data[o];
    for (int64_t d = 0; d < w->shape[1]; d++)
        sum += (double)w->data[o * w->shape[1] + d] * (double)x[d];
    return sum;
}

/* With self-loops alone, attention is a linear layer, and a convolution one for every node. */
static void without_edges_every_node_is_alone(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_real node[N_NODES * WIDTH], other[N_NODES * WIDTH], adjacency[N_NODES * N_NODES] = {0};
    draw(node, N_NODES * WIDTH, 7);
    for (int v2 = 0; v2 < 2; v2++) {
        mmf_module *const module = graph_layer(ctx, v2 ? "gatv2" : "gat", 3);
        case_draw(mmf_module_params(module), 4);
        const mmf_tensor *const w = case_tensor(module, v2 ? "lin_l.weight" : "lin.weight");
        const mmf_tensor *const b = v2 ? case_tensor(module, "lin_l.bias") : NULL;
        const shown y = run_layer(ctx, module, node, adjacency, "output");
        for (int64_t i = 0; i < y.count; i++) {
            const int64_t width = w->shape[0];
            const double wanted =
                affine_of(w, b, case_tensor(module, "bias"), node + i / width * WIDTH, i % width);
            assert_true(fabs(y.values[i] - wanted) < 1e-5);
        }
        mmf_module_free(module);
    }
    mmf_module *const module = graph_layer(ctx, "gcn", 3);
    case_draw(mmf_module_params(module), 4);
    const mmf_tensor *const w = case_tensor(module, "gc1.weight"); /* (inputs, outputs) */
    const mmf_tensor *const b = case_tensor(module, "gc1.bias");
    const shown h = run_layer(ctx, module, node, adjacency, "hidden");
    for (int64_t i = 0; i < h.count; i++) {
        double sum = (double)b->data[i % w->shape[1]];
        for (int64_t d = 0; d < WIDTH; d++)
            sum += (double)node[i / w->shape[1] * WIDTH + d] *
                   (double)w->data[d * w->shape[1] + i % w->shape[1]];
        assert_true(fabs(h.values[i] - fmax(sum, 0)) < 1e-5);
    }
    /* And what another node says changes nothing. */
    const shown before = run_layer(ctx, module, node, adjacency, "log_probability");
    memcpy(other, node, sizeof other);
    for (int64_t d = 0; d < WIDTH; d++)
        other[(N_NODES - 1) * WIDTH + d] += 2;
    const shown after = run_layer(ctx, module, other, adjacency, "log_probability");
    const size_t others = (size_t)(before.count / N_NODES * (N_NODES - 1));
    assert_memory_equal(before.values, after.values, others * sizeof *before.values);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Rows of attention sum to 1 over a node and its neighbours, and are exactly 0 elsewhere. */
static void attention_is_on_neighbours_alone(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_real node[N_NODES * WIDTH], adjacency[N_NODES * N_NODES];
    draw(node, N_NODES * WIDTH, 8);
    some_edges(adjacency, false);
    for (int v2 = 0; v2 < 2; v2++) {
        mmf_module *const module = graph_layer(ctx, v2 ? "gatv2" : "gat", 5);
        const shown a = run_layer(ctx, module, node, adjacency, "attention");
        for (int64_t r = 0; r < a.count / N_NODES; r++) {
            double sum = 0;
            for (int64_t j = 0; j < N_NODES; j++) {
                const int64_t i = r % N_NODES;
                const bool joined = i == j || adjacency[i * N_NODES + j] > 0;
                assert_true((a.values[r * N_NODES + j] > 0) == joined);
                assert_true(joined || a.values[r * N_NODES + j] == 0);
                sum += a.values[r * N_NODES + j];
            }
            assert_true(fabs(sum - 1) < 1e-6);
        }
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

/* The same added to what every neighbour says leaves GAT's attention as it is where the leaky ReLU
 * is linear, when all scores have one sign, and not otherwise. */
static void a_shift_of_all_scores_matters_at_the_kink_alone(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_real node[N_NODES * WIDTH], adjacency[N_NODES * N_NODES];
    draw(node, N_NODES * WIDTH, 9);
    for (int64_t i = 0; i < N_NODES * N_NODES; i++)
        adjacency[i] = 1;
    mmf_module *const module = graph_layer(ctx, "gat", 6);
    const mmf_tensor *const w = case_tensor(module, "lin.weight"); /* (K F, WIDTH) */
    const mmf_tensor *const source = case_tensor(module, "att_src");
    const int64_t heads = source->shape[1], width = source->shape[2];
    for (int64_t i = 0; i < N_NODES; i++)
        node[i * WIDTH] = 1;
    for (int64_t k = 0; k < heads; k++) { /* the first feature of every head is 1 */
        for (int64_t d = 0; d < WIDTH; d++)
            w->data[k * width * WIDTH + d] = d == 0;
    }
    static const double shifts[] = {0, 100, 120, -100, -120};
    shown a[5];
    double start[64];
    assert_true(heads <= 64);
    for (int64_t k = 0; k < heads; k++)
        start[k] = (double)source->data[k * width];
    for (int c = 0; c < 5; c++) {
        for (int64_t k = 0; k < heads; k++)
            source->data[k * width] = (mmf_real)(start[k] + shifts[c]);
        a[c] = run_layer(ctx, module, node, adjacency, "attention");
    }
    double moved = 0;
    for (int64_t i = 0; i < a[0].count; i++) {
        assert_true(fabs(a[1].values[i] - a[2].values[i]) < 1e-4);
        assert_true(fabs(a[3].values[i] - a[4].values[i]) < 1e-4);
        moved = fmax(moved, fabs(a[0].values[i] - a[1].values[i]));
    }
    assert_true(moved > 1e-2);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_root_weight_keeps_nodes_apart),
        cmocka_unit_test(a_readout_is_of_a_set),
        cmocka_unit_test(layers_follow_a_permutation),
        cmocka_unit_test(propagation_is_symmetric_and_never_grows),
        cmocka_unit_test(without_edges_every_node_is_alone),
        cmocka_unit_test(attention_is_on_neighbours_alone),
        cmocka_unit_test(a_shift_of_all_scores_matters_at_the_kink_alone),
        cmocka_unit_test(only_the_second_version_attends_dynamically),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
