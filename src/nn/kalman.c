/*
 * kalman.c: see kalman.h; and the filter as a registered layer over given systems.
 *
 * Kalman, A new approach to linear filtering and prediction problems, Journal of Basic Engineering
 * 1960. The covariance is made symmetric after every tick: rounding would let it drift.
 */
#include "nn/kalman.h"

#include <math.h>
#include <string.h>

#include "tensor/tape.h"

/* Halvings of the interval that a quantile is in: to the last bit. */
#define BISECTIONS 200
#define SERIES_EPS 1e-16

/* Regularised lower incomplete gamma function by its series, which converges for every x > 0. */
static double lower_gamma(double a, double x)
{
    double term = 1 / a, sum = term;
    for (double n = a + 1; term > SERIES_EPS * sum; n++) {
        term *= x / n;
        sum += term;
    }
    return sum * exp(a * log(x) - x - lgamma(a));
}

double mmf_chi_squared_quantile(int64_t k, double p)
{
    double low = 0, high = (double)k + 10;
    while (lower_gamma(0.5 * (double)k, 0.5 * high) < p)
        high *= 2;
    for (int i = 0; i < BISECTIONS; i++) {
        const double middle = 0.5 * (low + high);
        if (lower_gamma(0.5 * (double)k, 0.5 * middle) < p)
            low = middle;
        else
            high = middle;
    }
    return high;
}

/* ---- One tick ---------------------------------------------------------------------------- */

typedef struct belief {
    mmf_tensor *x, *p; /* (B, 1, n), (B, n, n) */
} belief;

/* One sensor's measurement of a tick, or several as one. Where `m` is 0, y and H are zero. */
typedef struct innovation {
    mmf_tensor *y;     /* (B, 1, k) */
    mmf_tensor *h;     /* (k, n), or (B, k, n) */
    mmf_tensor *hp;    /* H P (B, k, n) */
    mmf_tensor *r, *s; /* R and H P H' + R: (B, k, k), r also (k, k) */
    mmf_tensor *m;     /* (B, 1, 1), NULL: measured everywhere */
} innovation;

/* Step t of x (B, T, ...), as (B, 1, ...) or without the axis. */
static mmf_tensor *at_tick(mmf_tape *tape, mmf_tensor *x, int64_t t, bool keep)
{
    mmf_tensor *const y = mmf_slice(tape, x, 1, t, 1);
    if (!y || keep)
        return y;
    int64_t shape[MMF_MAX_DIMS] = {y->shape[0]};
    for (int d = 2; d < y->n_dims; d++)
        shape[d - 1] = y->shape[d];
    return mmf_reshape(tape, y, y->n_dims - 1, shape);
}

static mmf_tensor *symmetric(mmf_tape *tape, mmf_tensor *p)
{
    return mmf_affine(tape, mmf_add(tape, p, mmf_transpose(tape, p, 1, 2)), 0.5, 0);
}

/* x (B, 1, n) A' for A (n, n) */
static mmf_tensor *times(mmf_tape *tape, mmf_tensor *x, mmf_tensor *a)
{
    return mmf_matmul(tape, x, a, false, true);
}

/* A P A' + Q */
static mmf_tensor *moved(mmf_tape *tape, mmf_tensor *a, mmf_tensor *p, mmf_tensor *q)
{
    mmf_tensor *const ap = mmf_matmul(tape, a, p, false, false);
    return mmf_add(tape, mmf_matmul(tape, ap, a, false, true), q);
}

/* x <- F x + B u, P <- F P F' + Q */
static belief predict(mmf_tape *tape, const mmf_kalman *f, belief b, int64_t t)
{
    b.x = times(tape, b.x, f->transition);
    if (f->control)
        b.x =
            mmf_add(tape, b.x, times(tape, at_tick(tape, f->control, t, true), f->control_matrix));
    b.p = symmetric(tape, moved(tape, f->transition, b.p, f->process_noise));
    return b;
}

/* y = z - H x and S = H P H' + R of one sensor; fills its row of `nis` and applies the gate. */
static innovation innovate(mmf_tape *tape, const mmf_kalman *f, const mmf_kalman_sensor *sensor,
                           const belief *b, int64_t t, mmf_tensor **nis)
{
    innovation i = {.h = sensor->observation};
    i.r = sensor->noise && sensor->noise->n_dims == 4 ? at_tick(tape, sensor->noise, t, false)
                                                      : sensor->noise;
    i.y = mmf_sub(tape, at_tick(tape, sensor->z, t, true), times(tape, b->x, i.h));
    i.hp = mmf_matmul(tape, i.h, b->p, false, false);
    i.s = mmf_add(tape, mmf_matmul(tape, i.hp, i.h, false, true), i.r);
    if (sensor->mask) {
        mmf_tensor *const column = at_tick(tape, sensor->mask, t, true);
        i.m = column ? mmf_reshape(tape, column, 3, (int64_t[]){-1, 1, 1}) : NULL;
        i.y = mmf_mul(tape, i.y, i.m);
    }
    mmf_tensor *const solved = mmf_spd_solve(tape, i.s, mmf_transpose(tape, i.y, 1, 2));
    mmf_tensor *const far = mmf_matmul(tape, i.y, solved, false, false); /* (B, 1, 1) */
    *nis = far ? mmf_reshape(tape, far, 2, (int64_t[]){-1, 1}) : NULL;
    if (f->gate > 0 && sensor->z) {
        const double limit = mmf_chi_squared_quantile(sensor->z->shape[2], f->gate);
        mmf_tensor *const inside = mmf_affine(tape, mmf_detach(tape, far), -1, limit);
        mmf_tensor *const kept = mmf_relu(tape, mmf_sign(tape, inside));
        i.m = i.m ? mmf_mul(tape, i.m, kept) : kept;
        i.y = mmf_mul(tape, i.y, kept);
    }
    return i;
}

/* K' = S^-1 H P; x <- x + K y; P <- (I - K H) P (I - K H)' + K R K', or (I - K H) P. */
static belief correct(mmf_tape *tape, const mmf_kalman *f, const innovation *i, belief b)
{
    mmf_tensor *gain = mmf_spd_solve(tape, i->s, i->hp); /* K' (B, k, n) */
    if (i->m)
        gain = mmf_mul(tape, gain, i->m);
    b.x = mmf_add(tape, b.x, mmf_matmul(tape, i->y, gain, false, false));
    mmf_tensor *const kh = mmf_matmul(tape, gain, i->h, true, false);
    if (!kh)
        return (belief){NULL, NULL};
    mmf_tensor *const a = mmf_sub(tape, mmf_identity(tape, kh->shape[2]), kh);
    if (f->joseph) {
        mmf_tensor *const kr = mmf_matmul(tape, gain, i->r, true, false);
        b.p = moved(tape, a, b.p, mmf_matmul(tape, kr, gain, false, false));
    } else {
        b.p = mmf_matmul(tape, a, b.p, false, false);
    }
    b.p = symmetric(tape, b.p);
    return b;
}

/* ---- Simultaneous measurements ----------------------------------------------------------- */

/* Lists that live as long as the pass, a row of n_sensors each. */
typedef struct scratch {
    innovation *innovations;
    mmf_tensor **parts, **nis; /* nis: (n_sensors, T) */
    mmf_tensor **states, **covariances, **predictions;
} scratch;

/* H (B, k, n), with zeros where there is no measurement. */
static mmf_tensor *masked_rows(mmf_tape *tape, const innovation *i)
{
    if (!i->h || !i->y)
        return NULL;
    const int64_t shape[] = {i->y->shape[0], i->h->shape[0], i->h->shape[1]};
    mmf_tensor *const h = mmf_expand(tape, i->h, 3, shape);
    return i->m ? mmf_mul(tape, h, i->m) : h;
}

/* The rows of several sensors behind each other, with a block of noise for each. A row that is not
 * measured is zero in H and y: its gain is zero and it moves nothing. */
static belief correct_stacked(mmf_tape *tape, const mmf_kalman *f, const scratch *lists,
                              size_t count, belief b)
{
    const int n = (int)count;
    const innovation *const all = lists->innovations;
    mmf_tensor **const parts = lists->parts;
    innovation i = {0};
    int64_t width = 0, before = 0;
    for (int s = 0; s < n; s++)
        width += all[s].y ? all[s].y->shape[2] : 0;
    for (int s = 0; s < n; s++)
        parts[s] = all[s].y;
    i.y = mmf_concat(tape, parts, n, 2);
    for (int s = 0; s < n; s++)
        parts[s] = masked_rows(tape, &all[s]);
    i.h = mmf_concat(tape, parts, n, 1);
    for (int s = 0; s < n; s++) {
        const int64_t k = all[s].y ? all[s].y->shape[2] : 0;
        mmf_tensor *r = all[s].r;
        if (r && r->n_dims == 2 && all[s].y)
            r = mmf_expand(tape, r, 3, (int64_t[]){all[s].y->shape[0], k, k});
        parts[s] = mmf_pad(tape, r, 2, before, width - before - k, 0);
        before += k;
    }
    i.r = mmf_concat(tape, parts, n, 1);
    i.hp = mmf_matmul(tape, i.h, b.p, false, false);
    i.s = mmf_add(tape, mmf_matmul(tape, i.hp, i.h, false, true), i.r);
    return correct(tape, f, &i, b);
}

static mmf_tensor *inverse(mmf_tape *tape, mmf_tensor *p)
{
    return p ? mmf_spd_solve(tape, p,
                             mmf_expand(tape, mmf_identity(tape, p->shape[2]), 3, p->shape))
             : NULL;
}

/* P^-1 <- P^-1 + sum_m H' R^-1 H; x <- x + P sum_m H' R^-1 y. */
static belief correct_information(mmf_tape *tape, const innovation *all, size_t count, belief b)
{
    mmf_tensor *information = inverse(tape, b.p), *pull = NULL;
    for (size_t s = 0; s < count; s++) {
        const innovation *const i = &all[s];
        mmf_tensor *const h = masked_rows(tape, i);
        mmf_tensor *r = i->r;
        if (r && r->n_dims == 2 && h)
            r = mmf_expand(tape, r, 3, (int64_t[]){h->shape[0], h->shape[1], h->shape[1]});
        mmf_tensor *const rh = mmf_spd_solve(tape, r, h); /* R^-1 H (B, k, n) */
        mmf_tensor *const own = mmf_matmul(tape, i->y, rh, false, false);
        information = mmf_add(tape, information, mmf_matmul(tape, h, rh, true, false));
        pull = s > 0 ? mmf_add(tape, pull, own) : own;
    }
    b.p = symmetric(tape, inverse(tape, symmetric(tape, information)));
    b.x = mmf_add(tape, b.x, mmf_matmul(tape, pull, b.p, false, false));
    return b;
}

/* ---- All ticks --------------------------------------------------------------------------- */

static belief tick(mmf_tape *tape, const mmf_kalman *f, scratch *s, belief b, int64_t t,
                   int64_t n_ticks)
{
    b = predict(tape, f, b, t);
    s->predictions[t] = b.x;
    size_t measured = 0;
    for (size_t i = 0; i < f->n_sensors; i++) {
        const mmf_kalman_sensor *const sensor = &f->sensors[i];
        mmf_tensor **const nis = &s->nis[i * (size_t)n_ticks + (size_t)t];
        if (sensor->measures && !(sensor->measures[t] > 0)) {
            *nis = mmf_full(tape, 2, (int64_t[]){f->state->shape[0], 1}, 0);
            continue;
        }
        s->innovations[measured] = innovate(tape, f, sensor, &b, t, nis);
        if (f->update == MMF_KALMAN_SEQUENTIAL)
            b = correct(tape, f, &s->innovations[measured], b);
        measured++;
    }
    if (f->update == MMF_KALMAN_STACKED && measured > 0)
        b = correct_stacked(tape, f, s, measured, b);
    if (f->update == MMF_KALMAN_INFORMATION && measured > 0)
        b = correct_information(tape, s->innovations, measured, b);
    s->states[t] = b.x;
    s->covariances[t] = b.p;
    return b;
}

static mmf_kalman_result run_ticks(mmf_tape *tape, mmf_kalman *f, scratch *s, int64_t n_ticks)
{
    mmf_kalman_result r = {0};
    const int64_t rows = f->state->shape[0], n = f->state->shape[1];
    belief b = {mmf_reshape(tape, f->state, 3, (int64_t[]){rows, 1, n}), f->covariance};
    for (int64_t t = 0; t < n_ticks && b.x; t++)
        b = tick(tape, f, s, b, t, n_ticks);
    if (!b.x || !b.p)
        return r;
    r.state = mmf_concat(tape, s->states, (int)n_ticks, 1);
    r.covariance = mmf_stack(tape, s->covariances, (int)n_ticks, 1);
    r.prediction = mmf_concat(tape, s->predictions, (int)n_ticks, 1);
    for (size_t i = 0; i < f->n_sensors; i++)
        f->sensors[i].nis = mmf_concat(tape, s->nis + i * (size_t)n_ticks, (int)n_ticks, 1);
    return r;
}

mmf_kalman_result mmf_kalman_run(mmf_tape *tape, mmf_kalman *f)
{
    if (!f->state || !f->covariance || f->n_sensors == 0 || !f->sensors[0].z)
        return (mmf_kalman_result){0};
    const size_t n_ticks = (size_t)f->sensors[0].z->shape[1], n = f->n_sensors;
    mmf_tensor **const lists =
        mmf_tape__alloc(tape, (n + n * n_ticks + 3 * n_ticks) * sizeof *lists);
    scratch s = {.innovations = mmf_tape__alloc(tape, n * sizeof *s.innovations), .parts = lists};
    if (!lists || !s.innovations)
        return (mmf_kalman_result){0};
    s.nis = lists + n;
    s.states = s.nis + n * n_ticks;
    s.covariances = s.states + n_ticks;
    s.predictions = s.covariances + n_ticks;
    return run_ticks(tape, f, &s, (int64_t)n_ticks);
}

/* ---- The registered layer ---------------------------------------------------------------- */

static const mmf_option options[] = {
    {"sensors", NULL, MMF_OPTION_TEXTS, 0, 0, NULL, "",
     "names of the inputs that are measurements, in the order of their updates"},
    {"state", NULL, MMF_OPTION_INT, 1, 256, NULL, "4", "width of the state"},
    {"control", NULL, MMF_OPTION_INT, 0, 4096, NULL, "0", "width of the input control; 0: none"},
    MMF_KALMAN_UPDATE_OPTION,
    {"form", NULL, MMF_OPTION_TEXT, 0, 0, "joseph|simple", "joseph",
     "covariance after a measurement: A P A' + K R K' with A = I - K H, or A P"},
    {"gate", NULL, MMF_OPTION_TEXT, 0, 0, "none|chi2", "none",
     "chi2 leaves out measurements that are too far off to be likely"},
    {"gate_level", NULL, MMF_OPTION_REAL, 0.5, 0.999999, NULL, "0.99",
     "share of true measurements that the gate lets through"},
    {0},
};

mmf_kalman_update mmf_kalman_update_of(const mmf_config *config)
{
    const char *const update = mmf_config_text(config, "update");
    if (strcmp(update, "stacked") == 0)
        return MMF_KALMAN_STACKED;
    return strcmp(update, "information") == 0 ? MMF_KALMAN_INFORMATION : MMF_KALMAN_SEQUENTIAL;
}

typedef struct kalman_layer {
    const char **names;
    mmf_kalman filter;
    int64_t state, control;
} kalman_layer;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    kalman_layer *const layer = mmf_builder_alloc(b, sizeof *layer);
    const size_t n = mmf_config_count(config, "sensors");
    if (!layer)
        return mmf_builder_status(b);
    *self = layer;
    layer->names = mmf_builder_alloc(b, (n + 1) * sizeof *layer->names);
    layer->filter.sensors = mmf_builder_alloc(b, (n + 1) * sizeof *layer->filter.sensors);
    if (!layer->names || !layer->filter.sensors)
        return mmf_builder_status(b);
    layer->filter.update = mmf_kalman_update_of(config);
    layer->filter.joseph = strcmp(mmf_config_text(config, "form"), "joseph") == 0;
    if (strcmp(mmf_config_text(config, "gate"), "chi2") == 0)
        layer->filter.gate = mmf_config_real(config, "gate_level");
    layer->filter.n_sensors = n;
    layer->state = mmf_config_int(config, "state");
    layer->control = mmf_config_int(config, "control");
    for (size_t i = 0; i < n; i++) {
        const char *const name = mmf_config_text_at(config, "sensors", i);
        const mmf_input_schema *const in = mmf_schema_find(inputs, name);
        layer->names[i] = mmf_builder_text(b, "%s", name);
        if (!in || in->n_dims != 2)
            return mmf_builder_fail(
                b, MMF_ARG, "kalman: sensor \"%s\" is no input (batch, ticks, width)", name);
    }
    return n > 0 ? mmf_builder_status(b)
                 : mmf_builder_fail(b, MMF_ARG, "kalman: option sensors names no input");
}

/* Masks come as integers or as reals. */
static mmf_tensor *mask_of(mmf_tape *tape, const mmf_named *in, const char *name)
{
    mmf_tensor *const mask = mmf_named_part(in, name, "mask");
    return mask && mask->is_int ? mmf_token_mask(tape, mask, 0) : mask;
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    kalman_layer *const layer = self;
    mmf_kalman *const f = &layer->filter;
    f->transition = mmf_named_get(in, "transition");
    f->process_noise = mmf_named_get(in, "process_noise");
    f->control = layer->control > 0 ? mmf_named_get(in, "control") : NULL;
    f->control_matrix = layer->control > 0 ? mmf_named_get(in, "control_matrix") : NULL;
    /* A state of another width than the option's is an error of shapes. */
    f->state = mmf_named_get(in, "state");
    f->state = f->state
                   ? mmf_reshape(tape, f->state, 2, (int64_t[]){f->state->shape[0], layer->state})
                   : NULL;
    f->covariance = mmf_named_get(in, "covariance");
    for (size_t i = 0; i < f->n_sensors; i++) {
        const char *const name = layer->names[i];
        f->sensors[i] = (mmf_kalman_sensor){.z = mmf_named_get(in, name),
                                            .observation = mmf_named_part(in, name, "observation"),
                                            .noise = mmf_named_part(in, name, "covariance"),
                                            .mask = mask_of(tape, in, name)};
    }
    const mmf_kalman_result r = mmf_kalman_run(tape, f);
    mmf_named_put(tape, out, "state", r.state);
    mmf_named_put(tape, out, "covariance", r.covariance);
    mmf_named_put(tape, out, "prediction", r.prediction);
    for (size_t i = 0; i < f->n_sensors; i++)
        mmf_named_putf(tape, out, f->sensors[i].nis, "nis.%s", layer->names[i]);
}

const mmf_def mmf_layer_kalman = {
    .name = "kalman",
    .title = "Kalman filter over several sensors",
    .paper = "Kalman, A new approach to linear filtering and prediction problems, Journal of Basic "
             "Engineering 1960, doi:10.1115/1.3662552",
    .equations = "x = F x + B u, P = F P F' + Q; a measurement: y = z - H x, S = H P H' + R, K = P "
                 "H' S^-1, x += K y, P = (I - K H) P (I - K H)' + K R K'",
    .missing = "the term of a measurement that is masked is left out",
    .timing = "late",
    .structure = "weighted",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_VECTORS | MMF_TAKES_SEQUENCES,
    .options = options,
    .build = build,
    .run = run,
};
