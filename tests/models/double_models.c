/*
 * double_models.c: every model, encoder and loss against central differences.
 *
 * With a random cotangent q the checked function is f(w) = sum(q * output). Parameters and real
 * inputs of up to EACH elements are checked one element at a time, larger ones along random
 * directions. ReLU and pooling have kinks: where the difference over a step disagrees, smaller
 * steps, which a kink is the less likely to fall into, must agree. A wrong gradient fails at every
 * step.
 */
#include <math.h>

#include "models/model_case.h"

#define TOLERANCE 1e-6
#define EACH 2000
#define N_DIRECTIONS 32
/* The first cases of a model are checked in full, others in part. Late models are `only` models
 * under a rule: they get fewer. So do modules of many parameters, which repeat a few kinds of
 * layers. */
#define FULL_CASES 2
#define EACH_FEW 2
#define N_DIRECTIONS_FEW 3
#define LARGE 3000
/* Parameters beyond which all of them are checked together, along random directions: a tensor by
 * itself costs two passes through a network of a hundred layers. */
#define VERY_LARGE 100000

static const double steps[] = {1e-5, 1e-6, 1e-7};

enum { N_STEPS = sizeof steps / sizeof *steps };

typedef struct check {
    mmf_tape *tape;
    mmf_module *module;
    case_data *data;
    bool training;
    const char *label; /* of messages */
    int64_t each, n_directions;
    mmf_real *cotangent, *above;
    int64_t n_out;
    double worst;
    int64_t n_checked, n_kinks;
} check;

static mmf_tensor *run(check *c, bool record, mmf_named *in)
{
    mmf_named out = {0};
    const mmf_step step = {.training = c->training};
    mmf_tape_begin(c->tape, &(mmf_pass){.record = record, .training = c->training, .seed = 1});
    case_put(c->tape, c->data, record, in);
    mmf_module_run(c->module, c->tape, in, &step, &out);
    mmf_tensor *const y = case_result(&out);
    test_ok(mmf_tape_ctx(c->tape), mmf_tape_status(c->tape));
    if (!y)
        fail_msg("%s: there is no result", c->label);
    return y;
}

static mmf_real *copy_of(const mmf_real *from, int64_t count)
{
    mmf_real *const copy = calloc((size_t)count + 1, sizeof *copy);
    assert_non_null(copy);
    if (from)
        memcpy(copy, from, (size_t)count * sizeof *copy);
    return copy;
}

/* f(x + h d) - f(x - h d) over 2 h, each output's difference first: that keeps more digits.
 * @param direction  NULL: only element `at` */
static double difference(check *c, mmf_real *x, int64_t count, const mmf_real *direction,
                         int64_t at, double h)
{
    mmf_real *const saved = copy_of(x, count);
    double total = 0;
    for (int side = 0; side < 2; side++) {
        const double step = side ? -h : h;
        for (int64_t e = 0; direction && e < count; e++)
            x[e] = saved[e] + step * direction[e];
        if (!direction)
            x[at] = saved[at] + step;
        mmf_named in = {0};
        const mmf_tensor *const y = run(c, false, &in);
        for (int64_t e = 0; e < c->n_out; e++) {
            if (side == 0)
                c->above[e] = y->data[e];
            else
                total += (c->above[e] - y->data[e]) * c->cotangent[e];
        }
    }
    memcpy(x, saved, (size_t)count * sizeof *x);
    free(saved);
    return total / (2 * h);
}

static void compare(check *c, const char *name, mmf_real *x, int64_t count,
                    const mmf_real *direction, int64_t at, double exact, double scale)
{
    double relative = INFINITY, numeric = 0;
    int s = 0;
    for (; s < N_STEPS && !(relative < TOLERANCE); s++) {
        const double h = steps[s] * (direction ? 1 : fmax(fabs(x[at]), 1));
        numeric = difference(c, x, count, direction, at, h);
        relative = fabs(numeric - exact) / fmax(scale, 1e-3);
    }
    if (!(relative < TOLERANCE))
        fail_msg("%s: %s, %s %lld: gradient %.10g, differences %.10g (relative error %.2g)",
                 c->label, name, direction ? "direction" : "element", (long long)at, exact, numeric,
                 relative);
    c->worst = fmax(c->worst, relative);
    c->n_checked++;
    c->n_kinks += s > 1;
}

static void check_tensor(check *c, const char *name, mmf_real *x, const mmf_real *grad,
                         int64_t count)
{
    double largest = 0, square = 0;
    for (int64_t e = 0; e < count; e++) {
        largest = fmax(largest, fabs(grad[e]));
        square += grad[e] * grad[e];
    }
    if (count <= c->each) {
        for (int64_t e = 0; e < count; e++)
            compare(c, name, x, count, NULL, e, grad[e], largest);
        return;
    }
    mmf_rng rng = mmf_rng_make(11, mmf_rng_stream(name));
    mmf_real *const direction = copy_of(NULL, count);
    for (int d = 0; d < c->n_directions; d++) {
        double exact = 0;
        for (int64_t e = 0; e < count; e++) {
            /* Of length one: a long step along many elements would meet more kinks. */
            direction[e] = (mmf_rng_u32(&rng) & 1 ? 1 : -1) / sqrt((double)count);
            exact += direction[e] * grad[e];
        }
        compare(c, name, x, count, direction, d, exact, sqrt(square / (double)count));
    }
    free(direction);
}

static void check_parameters(check *c, mmf_params *params)
{
    const int64_t size = mmf_params_size(params);
    const mmf_real *const all = mmf_params_gradients(params);
    for (int64_t e = 0; e < size; e++)
        assert_true(isfinite(all[e]));
    if (size > VERY_LARGE) {
        check_tensor(c, "all parameters", mmf_params_values(params), all, size);
        return;
    }
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        if (p->role == MMF_PARAM_TRAINED)
            check_tensor(c, p->name, p->tensor->data, p->tensor->grad, p->tensor->count);
    }
}

/* Gradients of one recorded pass, copied off the tape, then each against differences. */
static void check_module(check *c)
{
    mmf_ctx *const ctx = mmf_tape_ctx(c->tape);
    mmf_params *const params = mmf_module_params(c->module);
    mmf_named in = {0};
    mmf_tensor *const y = run(c, true, &in);
    mmf_rng rng = mmf_rng_make(7, mmf_rng_stream("cotangent"));
    c->n_out = y->count;
    c->cotangent = copy_of(NULL, y->count);
    c->above = copy_of(NULL, y->count);
    for (int64_t i = 0; i < y->count; i++)
        c->cotangent[i] = 2 * mmf_rng_uniform(&rng) - 1;
    if (y->wants_grad) {
        test_ok(ctx, mmf_tape_backward_from(c->tape, y, c->cotangent));
        mmf_params_finish_gradients(params, c->tape);
    } else { /* a vote has no gradient: every difference must be zero */
        memset(mmf_params_gradients(params), 0, (size_t)mmf_params_size(params) * sizeof(mmf_real));
    }
    mmf_real *grads[CASE_INPUTS] = {NULL};
    for (size_t m = 0; m < c->data->schema.count; m++) {
        const mmf_tensor *const x = mmf_named_get(&in, c->data->inputs[m].name);
        if (!x->is_int)
            grads[m] = copy_of(mmf_tensor_has_grad(c->tape, x) ? x->grad : NULL, x->count);
    }
    check_parameters(c, params);
    for (size_t m = 0; m < c->data->schema.count; m++) {
        if (grads[m])
            check_tensor(c, c->data->inputs[m].name, c->data->values[m], grads[m],
                         c->data->n_rows * c->data->row_size[m]);
        free(grads[m]);
    }
    free(c->cotangent);
    free(c->above);
}

typedef struct totals {
    mmf_tape *tape;
    const mmf_def *def;
    double worst;
    int64_t n_checked, n_kinks, n_cases;
} totals;

static void print_totals(totals *t)
{
    if (t->def)
        printf("%-16s %3lld cases, %7lld differences, %5lld near a kink, largest relative error "
               "%.1e\n",
               t->def->name, (long long)t->n_cases, (long long)t->n_checked, (long long)t->n_kinks,
               t->worst);
    fflush(stdout);
    *t = (totals){.tape = t->tape};
}

static void check_variant(mmf_ctx *ctx, const mmf_def *def, case_data *data, totals *t,
                          const char *mode, const char *option, const char *value)
{
    char label[256];
    const bool training = t->n_cases % 2 == 1; /* batch statistics, then running ones */
    snprintf(label, sizeof label, "%s, %s, %s%s%s%s%s", def->name, data->name, mode,
             training ? ", training" : "", option ? ", " : "", option ? option : "",
             option ? value : "");
    check c = {.tape = t->tape,
               .module = case_module(ctx, def, &data->schema, mode, option, value),
               .data = data,
               .training = training,
               .label = label,
               .each = EACH,
               .n_directions = N_DIRECTIONS};
    const bool in_full = t->n_cases < FULL_CASES && !(def->takes & MMF_LATE) &&
                         mmf_params_size(mmf_module_params(c.module)) <= LARGE;
    if (!in_full) {
        c.each = EACH_FEW;
        c.n_directions = N_DIRECTIONS_FEW;
    }
    if (TEST_SAMPLE)
        c.each = c.n_directions = 1;
    check_module(&c);
    mmf_module_free(c.module);
    t->worst = fmax(t->worst, c.worst);
    t->n_checked += c.n_checked;
    t->n_kinks += c.n_kinks;
    t->n_cases++;
}

/* Every case as classification or regression in turn; every choice and both answers of an option on
 * vectors. */
static void check_case(mmf_ctx *ctx, const mmf_def *def, case_data *data, void *user)
{
    totals *const t = user;
    const bool is_first = t->def != def;
    if (is_first)
        print_totals(t);
    t->def = def;
    const bool regression = (def->takes & MMF_REGRESSION_OK) && t->n_cases % 4 >= 2;
    check_variant(ctx, def, data, t, regression ? "regression" : "classification", NULL, NULL);
    if (!data->inputs[0].has_present) /* choices matter most where something is absent */
        return;
    for (const mmf_option *row = mmf_option_next(def, NULL); row && !mmf_option_is_common(row);
         row = mmf_option_next(def, row)) {
        char choice[64];
        const char *const choices = row->type == MMF_OPTION_BOOL   ? "false|true"
                                    : row->type == MMF_OPTION_TEXT ? row->choices
                                                                   : NULL; /* of numbers: a range */
        for (const char *at = choices; at && *at && data->inputs[0].kind == MMF_VECTOR;) {
            const size_t n = strcspn(at, "|");
            snprintf(choice, sizeof choice, "%.*s", (int)n, at);
            check_variant(ctx, def, data, t, "classification", row->name, choice);
            at += n + (at[n] == '|');
        }
    }
}

static void check_kind(mmf_kind kind)
{
    mmf_ctx *const ctx = test_ctx();
    totals t = {0};
    test_ok(ctx, mmf_tape_create(ctx, &t.tape));
    case_each(ctx, kind, 21, check_case, &t);
    print_totals(&t);
    mmf_tape_free(t.tape);
    mmf_ctx_free(ctx);
}

static void every_model_agrees_with_differences(void **state)
{
    (void)state;
    check_kind(MMF_KIND_MODEL);
}

static void every_encoder_agrees_with_differences(void **state)
{
    (void)state;
    check_kind(MMF_KIND_ENCODER);
}

/* Models over steps with encoders that put them out: tokens and the places of an image. */
static void encoders_of_steps_agree_with_differences(void **state)
{
    (void)state;
    static const char *const models[] = {
        "cross-attention", "mbt", "mult", "dmd", "mcan", "ban", "butd", "vilbert", "uniter"};
    static const char encoders[] =
        "pixels=resnet20:layers=1/1:base=4,words=bert:hidden_size=4:num_hidden_layers=1:"
        "num_attention_heads=2:intermediate_size=4:max_position_embeddings=5";
    mmf_ctx *const ctx = test_ctx();
    totals t = {0};
    test_ok(ctx, mmf_tape_create(ctx, &t.tape));
    size_t c = 0;
    while (c < N_MODEL_CASES && !strstr(model_cases[c].name, "picture"))
        c++;
    assert_true(c < N_MODEL_CASES);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        case_data data;
        const mmf_def *const def = mmf_model_find(models[i]);
        print_totals(&t);
        t.def = def;
        case_open(&data, &model_cases[c], 22);
        check_variant(ctx, def, &data, &t, "classification", "encoder", encoders);
        check_variant(ctx, def, &data, &t, "classification", "encoder", encoders);
        case_close(&data);
    }
    print_totals(&t);
    mmf_tape_free(t.tape);
    mmf_ctx_free(ctx);
}

static void every_loss_agrees_with_differences(void **state)
{
    (void)state;
    check_kind(MMF_KIND_LOSS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_loss_agrees_with_differences),
        cmocka_unit_test(every_encoder_agrees_with_differences),
        cmocka_unit_test(encoders_of_steps_agree_with_differences),
        cmocka_unit_test(every_model_agrees_with_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
