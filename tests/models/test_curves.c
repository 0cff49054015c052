/*
 * test_curves.c: ten Adam steps of every fusion model of `curves/` follow the losses of its PyTorch
 * twin (scripts/make_curves.py): forward, backward and optimizer together.
 */
#include <math.h>
#include <stdlib.h>

#include "mmfuse/io.h"
#include "mmfuse/model.h"
#include "support.h"
#include "tasks/task.h"

#define MAX_INPUTS 3
#define MAX_PATH 512
/* Both sides work in single precision. */
#define RELATIVE 1e-4

typedef struct curve {
    mmf_ctx *ctx;
    mmf_archive *archive;
    mmf_module *module;
    mmf_optimizer *optimizer;
    mmf_tape *tape;
    mmf_input_schema inputs[MAX_INPUTS];
    size_t n_inputs;
    mmf_real *values[MAX_INPUTS];
    int64_t *labels;
    int64_t n_rows; /* of one step */
} curve;

static mmf_array load(const curve *c, const char *prefix, const char *name)
{
    char key[256];
    mmf_array array = {0};
    snprintf(key, sizeof key, "%s%s", prefix, name);
    const int64_t place = mmf_archive_find(c->archive, key);
    if (place < 0)
        fail_msg("%s is not in %s", key, mmf_archive_path(c->archive));
    test_ok(c->ctx, mmf_archive_load(c->archive, (size_t)place, &array));
    return array;
}

static mmf_real *reals_of(const mmf_array *array)
{
    const int64_t n = mmf_array_count(array);
    mmf_real *const values = calloc((size_t)n + 1, sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < n; i++)
        values[i] = (mmf_real)mmf_array_number(array, i);
    return values;
}

/* The order of the modalities is that of the twin. */
static void read_inputs(curve *c)
{
    static const char *const names[] = {"text", "audio", "vision"};
    for (size_t m = 0; m < MAX_INPUTS; m++) {
        const mmf_array array = load(c, "input.", names[m]);
        mmf_input_schema *const in = &c->inputs[c->n_inputs];
        *in = (mmf_input_schema){.name = names[m],
                                 .kind = array.n_dims == 3 ? MMF_SEQUENCE : MMF_VECTOR,
                                 .n_dims = array.n_dims - 1};
        memcpy(in->shape, array.shape + 1, (size_t)in->n_dims * sizeof *in->shape);
        c->values[c->n_inputs++] = reals_of(&array);
    }
    const mmf_array label = load(c, "", "label");
    const int64_t n = mmf_array_count(&label);
    c->labels = calloc((size_t)n, sizeof *c->labels);
    assert_non_null(c->labels);
    for (int64_t i = 0; i < n; i++)
        c->labels[i] = mmf_array_integer(&label, i);
    c->n_rows = n / strtoll(mmf_archive_metadata(c->archive, "steps"), NULL, 10);
}

static void load_weights(const curve *c)
{
    const mmf_params *const params = mmf_module_params(c->module);
    size_t n_weights = 0;
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        if (p->role != MMF_PARAM_TRAINED) /* running statistics are not used in training */
            continue;
        const mmf_array array = load(c, "weight.", p->name);
        assert_int_equal(mmf_array_count(&array), p->tensor->count);
        for (int64_t e = 0; e < p->tensor->count; e++)
            p->tensor->data[e] = (mmf_real)mmf_array_number(&array, e);
        n_weights++;
    }
    for (size_t i = 0; i < mmf_archive_count(c->archive); i++)
        n_weights -= strncmp(mmf_archive_name(c->archive, i), "weight.", 7) == 0;
    assert_int_equal(n_weights, 0);
}

static void open_curve(curve *c, const char *path)
{
    mmf_config *config = NULL;
    c->ctx = test_ctx();
    test_ok(c->ctx, mmf_archive_open(c->ctx, &c->archive, path, NULL));
    read_inputs(c);
    const mmf_def *const def = mmf_model_find(mmf_archive_metadata(c->archive, "model"));
    assert_non_null(def);
    test_ok(c->ctx, mmf_config_create(c->ctx, &config, def));
    test_ok(c->ctx, mmf_config_set_json(config, mmf_archive_metadata(c->archive, "config")));
    const mmf_schema schema = {c->n_inputs, c->inputs};
    test_ok(c->ctx, mmf_module_create(c->ctx, &c->module, def, config, &schema, 0));
    mmf_config_free(config);
    load_weights(c);
    mmf_optimizer_options options = MMF_OPTIMIZER_OPTIONS_INIT;
    options.lr = strtod(mmf_archive_metadata(c->archive, "lr"), NULL);
    test_ok(c->ctx,
            mmf_optimizer_create(c->ctx, &c->optimizer, mmf_module_params(c->module), &options));
    test_ok(c->ctx, mmf_tape_create(c->ctx, &c->tape));
}

static void close_curve(curve *c)
{
    mmf_tape_free(c->tape);
    mmf_optimizer_free(c->optimizer);
    mmf_module_free(c->module);
    mmf_archive_close(c->archive);
    for (size_t m = 0; m < c->n_inputs; m++)
        free(c->values[m]);
    free(c->labels);
    mmf_ctx_free(c->ctx);
}

static double take_step(curve *c, int64_t step)
{
    mmf_named in = {0}, out = {0};
    const mmf_step now = {.training = true, .step = step};
    const mmf_task task = {.kind = MMF_TARGET_CLASS, .n_outputs = 3};
    const mmf_loss_options plain = {0};
    mmf_tape_begin(c->tape, &(mmf_pass){.record = true, .training = true});
    for (size_t m = 0; m < c->n_inputs; m++) {
        const mmf_input_schema *const s = &c->inputs[m];
        int64_t shape[MMF_MAX_DIMS] = {c->n_rows}, row = 1;
        for (int d = 0; d < s->n_dims; d++)
            row *= shape[1 + d] = s->shape[d];
        mmf_named_put(
            c->tape, &in, s->name,
            mmf_input(c->tape, c->values[m] + step * c->n_rows * row, 1 + s->n_dims, shape));
    }
    mmf_tensor *const target = mmf_input_ints(c->tape, c->labels + step * c->n_rows, 1, &c->n_rows);
    mmf_module_run(c->module, c->tape, &in, &now, &out);
    mmf_tensor *const loss = mmf_task_loss(c->tape, &task, &plain, &out, target);
    test_ok(c->ctx, mmf_tape_status(c->tape));
    const double value = (double)loss->data[0];
    test_ok(c->ctx, mmf_tape_backward(c->tape, loss));
    mmf_params_finish_gradients(mmf_module_params(c->module), c->tape);
    mmf_optimizer_step(c->optimizer, 1);
    return value;
}

static void losses_follow_the_twin(void **state)
{
    char path[MAX_PATH];
    snprintf(path, sizeof path, "%s/tests/models/curves/%s.safetensors", MMF_SOURCE_DIR,
             (const char *)*state);
    curve c = {0};
    open_curve(&c, path);
    const mmf_array losses = load(&c, "", "losses");
    for (int64_t step = 0; step < mmf_array_count(&losses); step++) {
        const double wanted = mmf_array_number(&losses, step), found = take_step(&c, step);
        if (!(fabs(found - wanted) <= RELATIVE * fabs(wanted)))
            fail_msg("step %lld: loss %.8g, the twin has %.8g", (long long)step, found, wanted);
    }
    close_curve(&c);
}

#define CURVE(model)                                                                               \
    {                                                                                              \
        .name = model, .test_func = losses_follow_the_twin, .initial_state = (char[])              \
        {                                                                                          \
            model                                                                                  \
        }                                                                                          \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        CURVE("early-concat"), CURVE("joint-concat"), CURVE("weighted"), CURVE("lf-dnn"),
        CURVE("tfn"),          CURVE("lmf"),          CURVE("ef-lstm"),
    };
    return cmocka_run_group_tests_name("curves", tests, NULL, NULL);
}
