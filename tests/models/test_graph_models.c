/*
 * test_graph_models.c: graphs of nodes and of modalities, and the gate that chooses among experts:
 * the properties that they are published with, and the pitfalls.
 */
#include <math.h>

#include "models/model_case.h"

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

/* Numbering the nodes otherwise numbers the results otherwise. */
static void layers_follow_a_permutation(void **state)
{
    (void)state;
    static const char *const names[] = {"gcn", "gat", "gatv2"};
    static const int64_t order[] = {3, 0, 5, 1, 4, 2};
    mmf_ctx *const ctx = test_ctx();
    mmf_real node[N_NODES * WIDTH], adjacency[N_NODES * N_NODES] = {0};
    mmf_real node_2[N_NODES * WIDTH], adjacency_2[N_NODES * N_NODES];
    draw(node, N_NODES * WIDTH, 4);
    for (int64_t i = 0; i < N_NODES; i++) {
        for (int64_t j = 0; j < i; j++)
            adjacency[i * N_NODES + j] = adjacency[j * N_NODES + i] =
                (mmf_real)((i + 2 * j) % 3 == 0);
    }
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

/* ---- Dynamic fusion ---------------------------------------------------------------------- */

static void push_gate(mmf_module *module, double first)
{
    const mmf_param *const w = mmf_params_find(mmf_module_params(module), "gate.out.weight");
    const mmf_param *const b = mmf_params_find(mmf_module_params(module), "gate.out.bias");
    assert_true(w && b);
    memset(w->tensor->data, 0, (size_t)w->tensor->count * sizeof(mmf_real));
    b->tensor->data[0] = (mmf_real)first;
    b->tensor->data[1] = 0;
}

/* Where all samples choose the cheap expert, the other one and what only it needs is not computed.
 */
static void what_no_sample_chooses_is_not_computed(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &trio, 5);
    mmf_module *const module =
        case_module(ctx, mmf_model_find("dynmm"), &data.schema, "classification", NULL, NULL);
    static const char *const costly[] = {"expert.1", "feature_audio", "feature_vision"};
    for (int cheap = 0; cheap < 2; cheap++) {
        push_gate(module, cheap ? 5 : -5);
        const shown y = run_model(ctx, module, &data, "logits");
        const shown own = run_model(ctx, module, &data, cheap ? "expert.0" : "expert.1");
        assert_memory_equal(y.values, own.values, (size_t)y.count * sizeof *y.values);
        for (size_t i = 0; i < 3; i++)
            assert_true(run_model(ctx, module, &data, costly[i]).found == !cheap);
        assert_true(run_model(ctx, module, &data, "feature_text").found); /* the gate's */
        const shown cost = run_model(ctx, module, &data, "cost");
        assert_true(fabs(cost.values[0] - (cheap ? 1.0 / 3 : 1)) < 1e-6);
    }
    mmf_module_free(module);
    case_close(&data);
    mmf_ctx_free(ctx);
}

/* At a high temperature the soft gate mixes all experts equally. */
static void a_hot_gate_is_uniform(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &trio, 6);
    mmf_config *const config = case_config(ctx, mmf_model_find("dynmm"), "classification");
    mmf_module *module = NULL;
    test_ok(ctx, mmf_config_set(config, "hard", "false"));
    test_ok(ctx, mmf_config_set(config, "tau", "1e6"));
    test_ok(ctx, mmf_module_create(ctx, &module, mmf_model_find("dynmm"), config, &data.schema, 1));
    const shown g = run_model(ctx, module, &data, "gate");
    for (int64_t i = 0; i < g.count; i++)
        assert_true(fabs(g.values[i] - 0.5) < 1e-5);
    mmf_module_free(module);
    mmf_config_free(config);
    case_close(&data);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_root_weight_keeps_nodes_apart),
        cmocka_unit_test(layers_follow_a_permutation),
        cmocka_unit_test(only_the_second_version_attends_dynamically),
        cmocka_unit_test(what_no_sample_chooses_is_not_computed),
        cmocka_unit_test(a_hot_gate_is_uniform),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
