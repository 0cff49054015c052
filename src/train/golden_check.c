/* golden_check.c: see golden_check.h. */
#include "train/golden_check.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define DEFAULT_TOLERANCE 1e-4
/* Gradients that are zero in exact arithmetic may be this, times the file's largest gradient. */
#define ZERO_TOLERANCE 1e-5

/* ---- What the file says ------------------------------------------------------------------ */

static mmf_status find_largest_gradient(mmf_check *c, mmf_archive *archive)
{
    for (size_t i = 0; i < mmf_archive_count(archive); i++) {
        mmf_array array = {0};
        if (strncmp(mmf_archive_name(archive, i), "grad.", 5) != 0)
            continue;
        MMF_TRY(mmf_archive_load(archive, i, &array));
        for (int64_t j = 0; j < mmf_array_count(&array); j++) {
            const double size = fabs(mmf_array_number(&array, j));
            c->largest_gradient = fmax(c->largest_gradient, isfinite(size) ? size : 0);
        }
    }
    return MMF_OK;
}

mmf_status mmf_check_open(mmf_ctx *ctx, mmf_check *c, mmf_archive *archive)
{
    const char *const tolerance = mmf_archive_metadata(archive, "tolerance");
    const char *const zeros = mmf_archive_metadata(archive, "zero_gradients");
    c->passed = true;
    c->tolerance = DEFAULT_TOLERANCE;
    if (tolerance && !(mmf_text_number(tolerance, strlen(tolerance), &c->tolerance) &&
                       c->tolerance >= 0 && isfinite(c->tolerance)))
        return mmf_fail(ctx, MMF_FORMAT, "the metadata's tolerance \"%s\" is no number", tolerance);
    c->zero_gradients = zeros && *zeros ? json_loads(zeros, 0, NULL) : NULL;
    if (zeros && *zeros && !json_is_array(c->zero_gradients))
        return mmf_fail(ctx, MMF_FORMAT, "the metadata's zero_gradients are no JSON list");
    return find_largest_gradient(c, archive);
}

void mmf_check_close(mmf_check *c)
{
    json_decref(c->zero_gradients);
}

/* ---- Comparing --------------------------------------------------------------------------- */

/* ---- Comparing --------------------------------------------------------------------------- */

void mmf_check_tell(mmf_check *c, const char *name, double error, double relative, bool passed,
                    const char *problem)
{
    const mmf_verify_line line = {name, error, relative, passed, problem};
    c->passed = c->passed && passed;
    if (c->watch)
        c->watch(c->user, &line);
}

static bool is_zero_gradient(const mmf_check *c, const char *name)
{
    for (size_t i = 0; i < json_array_size(c->zero_gradients); i++) {
        const char *const zero = json_string_value(json_array_get(c->zero_gradients, i));
        if (zero && (strcmp(zero, name) == 0 ||
                     (strncmp(name, "grad.", 5) == 0 && strcmp(zero, name + 5) == 0)))
            return true;
    }
    return false;
}

/* Dimensions of more than one element; the references keep the others or drop them. @return how
 * many */
static int squeeze(const int64_t *shape, int n_dims, int64_t *out)
{
    int n = 0;
    for (int d = 0; d < n_dims; d++) {
        if (shape[d] != 1)
            out[n++] = shape[d];
    }
    return n;
}

bool mmf_check_same_shape(const mmf_array *stored, const mmf_tensor *t)
{
    int64_t a[MMF_MAX_DIMS], b[MMF_MAX_DIMS];
    const int n = squeeze(stored->shape, stored->n_dims, a);
    return n == squeeze(t->shape, t->n_dims, b) && memcmp(a, b, (size_t)n * sizeof *a) == 0;
}

/* Reads element i of what we computed. */
typedef double read_fn(const void *values, int64_t i);

static double read_real(const void *values, int64_t i)
{
    return (double)((const mmf_real *)values)[i];
}

static double read_int(const void *values, int64_t i)
{
    return (double)((const int64_t *)values)[i];
}

static double read_double(const void *values, int64_t i)
{
    return ((const double *)values)[i];
}

static double allowed_error(const mmf_check *c, const char *name, double largest, bool absolute)
{
    if (is_zero_gradient(c, name))
        return ZERO_TOLERANCE * fmax(1, c->largest_gradient);
    /* A number that is stored in single precision is no nearer than that to what was computed. */
    return absolute ? fmax(c->tolerance, FLT_EPSILON * largest) : c->tolerance * largest;
}

static void compare(mmf_check *c, const char *name, const mmf_array *stored, const void *values,
                    read_fn *read, bool absolute)
{
    const int64_t n = mmf_array_count(stored);
    double error = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const double wanted = mmf_array_number(stored, i), found = read(values, i);
        if (isnan(wanted) && isnan(found))
            continue;
        const double difference = wanted == found ? 0 : fabs(wanted - found);
        error = isnan(difference) ? INFINITY : fmax(error, difference);
        largest = isfinite(wanted) ? fmax(largest, fabs(wanted)) : largest;
    }
    mmf_check_tell(c, name, error, largest > 0 ? error / largest : error,
                   error <= allowed_error(c, name, largest, absolute), NULL);
}

static void compare_tensor(mmf_check *c, const char *name, const mmf_array *stored,
                           const mmf_tensor *t, const void *values, read_fn *read)
{
    char problem[256], wanted[96], found[96];
    if (mmf_check_same_shape(stored, t)) {
        compare(c, name, stored, values, read, false);
        return;
    }
    snprintf(problem, sizeof problem, "has shape %s, ours has %s",
             mmf_shape_text(wanted, sizeof wanted, stored->shape, stored->n_dims),
             mmf_shape_text(found, sizeof found, t->shape, t->n_dims));
    mmf_check_tell(c, name, NAN, NAN, false, problem);
}

void mmf_check_tensor(mmf_check *c, const char *name, const mmf_array *stored, const mmf_tensor *t)
{
    if (t->is_int)
        compare_tensor(c, name, stored, t, t->ints, read_int);
    else
        compare_tensor(c, name, stored, t, t->data, read_real);
}

void mmf_check_gradient(mmf_check *c, const char *name, const mmf_array *stored,
                        const mmf_tensor *t, const mmf_real *gradient)
{
    compare_tensor(c, name, stored, t, gradient, read_real);
}

void mmf_check_metric(mmf_check *c, const char *name, const mmf_array *stored, const double *values,
                      int64_t count)
{
    if (mmf_array_count(stored) == count)
        compare(c, name, stored, values, read_double, true);
    else
        mmf_check_tell(c, name, NAN, NAN, false, "has another number of elements than we computed");
}
