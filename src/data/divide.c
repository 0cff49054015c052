/*
 * divide.c: dividing rows into parts: stratified by the target, related rows together.
 *
 * Rows of one group, and rows that read one stored row of a modality, form a unit (their closure,
 * by union-find). Where every unit is one row, each stratum is cut exactly, its remainders going to
 * the parts that are most behind. Otherwise units are placed one by one, the largest first, where
 * the squared deviation from the wanted counts, relative to them, grows least.
 */
#include "data/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define N_QUANTILES 10
#define ROWS_A_QUANTILE 5

/* ---- Units of related rows ----------------------------------------------------------------- */

/* Finds the first position whose row has the same key; keys are compared by their bytes. */
typedef struct key_table {
    const mmf_array *keys;
    const int64_t *rows; /* NULL: position i is row i */
    int64_t *slots;      /* position + 1; 0: free */
    size_t mask;
} key_table;

static mmf_status table_init(mmf_ctx *ctx, key_table *table, const int64_t *rows, int64_t n)
{
    size_t n_slots = 16;
    while (n_slots < 2 * (size_t)n)
        n_slots *= 2;
    *table = (key_table){.rows = rows, .mask = n_slots - 1};
    table->slots = mmf_alloc_zero(ctx, n_slots, sizeof *table->slots);
    return table->slots ? MMF_OK : MMF_NOMEM;
}

static void table_start(key_table *table, const mmf_array *keys)
{
    table->keys = keys;
    memset(table->slots, 0, (table->mask + 1) * sizeof *table->slots);
}

static const unsigned char *key_of(const key_table *table, int64_t position)
{
    const int64_t row = table->rows ? table->rows[position] : position;
    return (const unsigned char *)table->keys->data + (size_t)row * table->keys->item_bytes;
}

static int64_t first_with_key(key_table *table, int64_t position)
{
    const size_t n_bytes = table->keys->item_bytes;
    const unsigned char *const key = key_of(table, position);
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < n_bytes; i++)
        hash = (hash ^ key[i]) * 0x100000001b3u;
    size_t slot = (size_t)(hash ^ hash >> 29) & table->mask;
    while (table->slots[slot]) {
        const int64_t there = table->slots[slot] - 1;
        if (memcmp(key_of(table, there), key, n_bytes) == 0)
            return there;
        slot = (slot + 1) & table->mask;
    }
    table->slots[slot] = position + 1;
    return position;
}

static int64_t find_root(int64_t *parent, int64_t i)
{
    while (parent[i] != i) {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    return i;
}

/* The smaller position becomes the root, so roots come before the rest of their unit. */
static void unite(int64_t *parent, int64_t a, int64_t b)
{
    a = find_root(parent, a);
    b = find_root(parent, b);
    if (a < b)
        parent[b] = a;
    else
        parent[a] = b;
}

static bool is_sharing(const mmf_data_share *share, int64_t row)
{
    return !share->present.data || mmf_array_number(&share->present, row) != 0;
}

/* Numbers the units from 0 in the order of their first rows. */
static mmf_status find_units(mmf_ctx *ctx, const mmf_dataset *ds, const int64_t *rows, int64_t n,
                             int64_t *unit_of, int64_t *n_units)
{
    for (int64_t i = 0; i < n; i++)
        unit_of[i] = i;
    *n_units = n;
    if (!ds->group.data && ds->n_shares == 0)
        return MMF_OK;
    key_table table;
    MMF_TRY(table_init(ctx, &table, rows, n));
    if (ds->group.data) {
        table_start(&table, &ds->group);
        for (int64_t i = 0; i < n; i++)
            unite(unit_of, i, first_with_key(&table, i));
    }
    for (size_t s = 0; s < ds->n_shares; s++) {
        const mmf_data_share *const share = &ds->shares[s];
        table_start(&table, &share->index);
        for (int64_t i = 0; i < n; i++) {
            if (is_sharing(share, rows[i]))
                unite(unit_of, i, first_with_key(&table, i));
        }
    }
    mmf_free(ctx, table.slots);
    for (int64_t i = 0; i < n; i++)
        unit_of[i] = find_root(unit_of, i);
    *n_units = 0;
    for (int64_t i = 0; i < n; i++) /* roots come first, so theirs is numbered already */
        unit_of[i] = unit_of[i] == i ? (*n_units)++ : unit_of[unit_of[i]];
    return MMF_OK;
}

static mmf_status check_torn_by(const mmf_dataset *ds, key_table *table, const char *what,
                                const mmf_data_share *share, const int64_t *part_of)
{
    static const char *const parts[] = {"train", "valid", "test"};
    for (int64_t i = 0; i < ds->n_samples; i++) {
        if (share && !is_sharing(share, i))
            continue;
        const int64_t first = first_with_key(table, i);
        if (part_of[first] != part_of[i])
            return mmf_data_fail_row(ds, MMF_FORMAT, "split", i,
                                     "this row is %s, but row %lld of the same %s is %s: what is "
                                     "learned from one helps on the other (--split A,B,C divides "
                                     "anew)",
                                     parts[part_of[i]], (long long)first, what,
                                     parts[part_of[first]]);
    }
    return MMF_OK;
}

mmf_status mmf_data_check_torn(mmf_ctx *ctx, const mmf_dataset *ds, const int64_t *part_of)
{
    key_table table;
    MMF_TRY(table_init(ctx, &table, NULL, ds->n_samples));
    mmf_status status = MMF_OK;
    if (ds->group.data) {
        table_start(&table, &ds->group);
        /* Who made the file decided so: benchmarks of known speakers do. It is said, not refused.
         */
        if (check_torn_by(ds, &table, "group", NULL, part_of) != MMF_OK)
            mmf_ctx_log(ctx, MMF_LOG_WARNING, "%s", mmf_ctx_error(ctx));
    }
    for (size_t s = 0; s < ds->n_shares && status == MMF_OK; s++) {
        table_start(&table, &ds->shares[s].index);
        status = check_torn_by(ds, &table, ds->shares[s].name, &ds->shares[s], part_of);
    }
    mmf_free(ctx, table.slots);
    return status;
}

mmf_status mmf_data_warn_of_twins(const mmf_dataset *ds)
{
    key_table table;
    int64_t first = -1, second = -1, n_twins = 0;
    char id[64];
    MMF_TRY(table_init(ds->ctx, &table, NULL, ds->n_samples));
    table_start(&table, &ds->id);
    for (int64_t i = 0; i < ds->n_samples; i++) {
        const int64_t before = first_with_key(&table, i);
        if (before == i)
            continue;
        first = n_twins ? first : before;
        second = n_twins ? second : i;
        n_twins++;
    }
    mmf_free(ds->ctx, table.slots);
    if (n_twins == 0)
        return MMF_OK;
    mmf_dataset_id(ds, second, id, sizeof id);
    mmf_ctx_log(ds->ctx, MMF_LOG_WARNING,
                "%s: array \"id\": rows %lld and %lld are both \"%s\"; %lld of %lld rows repeat an "
                "id: are they there twice?",
                ds->path, (long long)first, (long long)second, id, (long long)n_twins,
                (long long)ds->n_samples);
    return MMF_OK;
}

/* ---- Strata -------------------------------------------------------------------------------- */

typedef struct value_order {
    const mmf_array *target;
    const int64_t *rows;
} value_order;

static int by_value(const void *a, const void *b, void *user)
{
    const value_order *const order = user;
    const int64_t i = *(const int64_t *)a, j = *(const int64_t *)b;
    const double x = mmf_array_number(order->target, order->rows[i]);
    const double y = mmf_array_number(order->target, order->rows[j]);
    if (x != y)
        return x < y ? -1 : 1;
    return (i > j) - (i < j);
}

/* Quantiles: equal counts of rows in the order of their values. */
static mmf_status strata_of_numbers(mmf_ctx *ctx, const mmf_dataset *ds, const int64_t *rows,
                                    int64_t n, int64_t *stratum)
{
    int64_t n_bins = n / ROWS_A_QUANTILE;
    n_bins = n_bins < 1 ? 1 : n_bins > N_QUANTILES ? N_QUANTILES : n_bins;
    int64_t *const order = mmf_alloc(ctx, (size_t)n * sizeof *order);
    if (!order)
        return MMF_NOMEM;
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    value_order by = {&ds->target, rows};
    qsort_r(order, (size_t)n, sizeof *order, by_value, &by);
    for (int64_t i = 0; i < n; i++)
        stratum[order[i]] = i * n_bins / n;
    mmf_free(ctx, order);
    return MMF_OK;
}

/* Several labels: the one of the row's labels that fewest rows have; a stratum of its own without.
 */
static mmf_status strata_of_labels(mmf_ctx *ctx, const mmf_dataset *ds, const int64_t *rows,
                                   int64_t n, int64_t *stratum)
{
    const int64_t width = ds->n_classes;
    int64_t *const n_rows = mmf_alloc_zero(ctx, (size_t)width + 1, sizeof *n_rows);
    if (!n_rows)
        return MMF_NOMEM;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t c = 0; c < width; c++)
            n_rows[c] += mmf_array_number(&ds->target, rows[i] * width + c) != 0;
    }
    n_rows[width] = INT64_MAX;
    for (int64_t i = 0; i < n; i++) {
        stratum[i] = width;
        for (int64_t c = 0; c < width; c++) {
            if (mmf_array_number(&ds->target, rows[i] * width + c) != 0 &&
                n_rows[c] < n_rows[stratum[i]])
                stratum[i] = c;
        }
    }
    mmf_free(ctx, n_rows);
    return MMF_OK;
}

static mmf_status find_strata(mmf_ctx *ctx, const mmf_dataset *ds, const int64_t *rows, int64_t n,
                              int64_t *stratum)
{
    const int64_t width = ds->n_classes;
    const bool has_classes = mmf_data_has_classes(ds);
    switch (has_classes ? MMF_TARGET_CLASS : ds->target_kind) {
    case MMF_TARGET_REAL:
        return strata_of_numbers(ctx, ds, rows, n, stratum);
    case MMF_TARGET_MULTILABEL:
        return strata_of_labels(ctx, ds, rows, n, stratum);
    case MMF_TARGET_CLASS:
        for (int64_t i = 0; i < n; i++)
            stratum[i] = mmf_array_integer(&ds->target, rows[i]);
        return MMF_OK;
    case MMF_TARGET_SOFT:
        for (int64_t i = 0; i < n; i++) {
            const int64_t first = rows[i] * width;
            int64_t best = 0;
            for (int64_t c = 1; c < width; c++) {
                if (mmf_array_number(&ds->target, first + c) >
                    mmf_array_number(&ds->target, first + best))
                    best = c;
            }
            stratum[i] = best;
        }
        return MMF_OK;
    default:
        memset(stratum, 0, (size_t)n * sizeof *stratum);
        return MMF_OK;
    }
}

/* Numbers the strata that occur from 0 and returns how many there are; `map` has n_all zeros. */
static int64_t compact_strata(int64_t *stratum, int64_t n, int64_t *map)
{
    int64_t n_strata = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t *const number = &map[stratum[i]];
        if (*number == 0)
            *number = ++n_strata;
        stratum[i] = *number - 1;
    }
    return n_strata;
}

/* ---- Placing ------------------------------------------------------------------------------- */

typedef struct division {
    mmf_ctx *ctx;
    int64_t n, n_units, n_strata, n_parts;
    const double *shares;
    int64_t *unit_of, *stratum; /* [n] */
    int64_t *order;             /* [n] rows ordered by the caller of sort_by */
    int64_t *start;             /* [max(n_units, n_strata) + 1] first place of a key in `order` */
    int64_t *unit_order;        /* [n_units] shuffled */
    int64_t *unit_part;         /* [n_units] */
    int64_t *part_units;        /* [n_parts] units placed so far */
    double *have;               /* [n_parts, n_strata + 1] rows placed; the last: of any stratum */
    double *total;              /* [n_strata + 1] */
    double *carry;              /* [n_parts] */
    int64_t *quota;             /* [n_parts] */
} division;

static void division_clear(division *d)
{
    void *const blocks[] = {d->unit_of,    d->stratum,   d->order,      d->start,
                            d->unit_order, d->unit_part, d->part_units, d->have,
                            d->total,      d->carry,     d->quota};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        mmf_free(d->ctx, blocks[i]);
}

static mmf_status division_alloc(division *d)
{
    const size_t n = (size_t)d->n, n_parts = (size_t)d->n_parts, n_strata = (size_t)d->n_strata;
    const size_t n_units = (size_t)d->n_units;
    d->order = mmf_alloc_zero(d->ctx, n, sizeof(int64_t));
    d->start =
        mmf_alloc_zero(d->ctx, (n_units > n_strata ? n_units : n_strata) + 1, sizeof(int64_t));
    d->unit_order = mmf_alloc_zero(d->ctx, n_units, sizeof(int64_t));
    d->unit_part = mmf_alloc_zero(d->ctx, n_units, sizeof(int64_t));
    d->part_units = mmf_alloc_zero(d->ctx, n_parts, sizeof(int64_t));
    d->have = mmf_alloc_zero(d->ctx, n_parts * (n_strata + 1), sizeof(double));
    d->total = mmf_alloc_zero(d->ctx, n_strata + 1, sizeof(double));
    d->carry = mmf_alloc_zero(d->ctx, n_parts, sizeof(double));
    d->quota = mmf_alloc_zero(d->ctx, n_parts, sizeof(int64_t));
    const bool ok = d->order && d->start && d->unit_order && d->unit_part && d->part_units &&
                    d->have && d->total && d->carry && d->quota;
    return ok ? MMF_OK : MMF_NOMEM;
}

/* Stable counting sort of `items` (NULL: 0, 1, ...) by key into `order`; fills `start`. */
static void sort_by(division *d, const int64_t *key, int64_t n_keys, const int64_t *items)
{
    memset(d->start, 0, (size_t)(n_keys + 1) * sizeof *d->start);
    for (int64_t i = 0; i < d->n; i++)
        d->start[key[i] + 1]++;
    for (int64_t k = 0; k < n_keys; k++)
        d->start[k + 1] += d->start[k];
    for (int64_t i = 0; i < d->n; i++) {
        const int64_t item = items ? items[i] : i;
        d->order[d->start[key[item]]++] = item;
    }
    for (int64_t k = n_keys; k > 0; k--)
        d->start[k] = d->start[k - 1];
    d->start[0] = 0;
}

/* Counts of one stratum of `n` rows for each part: each share of n rounded down or up. */
static void set_quotas(division *d, int64_t n)
{
    const double slack = 1e-9; /* 0.7 * 10 must count as 7 whatever its last bits are */
    int64_t left = n;
    for (int64_t p = 0; p < d->n_parts; p++) {
        const double wanted = d->shares[p] * (double)n;
        d->quota[p] = (int64_t)floor(wanted + slack);
        d->carry[p] += wanted - (double)d->quota[p];
        left -= d->quota[p];
    }
    for (; left > 0; left--) {
        int64_t best = -1;
        for (int64_t p = 0; p < d->n_parts; p++) {
            const double over = (double)d->quota[p] - d->shares[p] * (double)n;
            if (over < -slack && (best < 0 || d->carry[p] > d->carry[best] + slack))
                best = p;
        }
        if (best < 0) /* rounding ate the remainder: any part that takes rows */
            for (best = 0; d->shares[best] <= 0; best++) {
            }
        d->quota[best]++;
        d->carry[best] -= 1;
    }
}

/* Every unit is one row: unit numbers are row positions. */
static void place_rows(division *d)
{
    sort_by(d, d->stratum, d->n_strata, d->unit_order);
    for (int64_t s = 0; s < d->n_strata; s++) {
        int64_t at = d->start[s];
        set_quotas(d, d->start[s + 1] - at);
        for (int64_t p = 0; p < d->n_parts; p++) {
            for (int64_t k = 0; k < d->quota[p] && at < d->start[s + 1]; k++) {
                d->unit_part[d->order[at++]] = p;
                d->part_units[p]++;
            }
        }
    }
}

typedef struct unit_sizes {
    const int64_t *start, *rank;
} unit_sizes;

static int by_size(const void *a, const void *b, void *user)
{
    const unit_sizes *const sizes = user;
    const int64_t i = *(const int64_t *)a, j = *(const int64_t *)b;
    const int64_t n_i = sizes->start[i + 1] - sizes->start[i];
    const int64_t n_j = sizes->start[j + 1] - sizes->start[j];
    if (n_i != n_j)
        return n_i > n_j ? -1 : 1;
    return sizes->rank[i] < sizes->rank[j] ? -1 : 1;
}

/* Growth of part p's deviation if it took `count` more rows of a stratum. */
static double growth(const division *d, int64_t p, int64_t stratum, double count)
{
    const double wanted = d->shares[p] * d->total[stratum];
    const double over = d->have[p * (d->n_strata + 1) + stratum] - wanted;
    return count * (2 * over + count) / wanted;
}

static int64_t best_part(const division *d, const int64_t *rows, int64_t n, const double *count)
{
    int64_t best = -1;
    double best_cost = 0;
    for (int64_t p = 0; p < d->n_parts; p++) {
        if (d->shares[p] <= 0)
            continue;
        double cost = growth(d, p, d->n_strata, (double)n);
        for (int64_t k = 0; k < n; k++) {
            /* A stratum of c rows is visited c times, so each visit carries its c-th part. */
            const int64_t s = d->stratum[rows[k]];
            cost += growth(d, p, s, count[s]) / count[s];
        }
        if (best < 0 || cost < best_cost) {
            best = p;
            best_cost = cost;
        }
    }
    return best;
}

static mmf_status place_units(division *d)
{
    double *const count = mmf_alloc_zero(d->ctx, (size_t)d->n_strata, sizeof *count);
    int64_t *const rank = mmf_alloc_zero(d->ctx, (size_t)d->n_units, sizeof *rank);
    if (!count || !rank) {
        mmf_free(d->ctx, count);
        mmf_free(d->ctx, rank);
        return MMF_NOMEM;
    }
    sort_by(d, d->unit_of, d->n_units, NULL);
    for (int64_t i = 0; i < d->n_units; i++)
        rank[d->unit_order[i]] = i;
    unit_sizes sizes = {d->start, rank};
    qsort_r(d->unit_order, (size_t)d->n_units, sizeof(int64_t), by_size, &sizes);
    for (int64_t i = 0; i < d->n; i++)
        d->total[d->stratum[i]]++;
    d->total[d->n_strata] = (double)d->n;
    for (int64_t i = 0; i < d->n_units; i++) {
        const int64_t unit = d->unit_order[i];
        const int64_t *const rows = d->order + d->start[unit];
        const int64_t n = d->start[unit + 1] - d->start[unit];
        for (int64_t k = 0; k < n; k++)
            count[d->stratum[rows[k]]]++;
        const int64_t p = best_part(d, rows, n, count);
        d->unit_part[unit] = p;
        d->part_units[p]++;
        d->have[p * (d->n_strata + 1) + d->n_strata] += (double)n;
        for (int64_t k = 0; k < n; k++) {
            d->have[p * (d->n_strata + 1) + d->stratum[rows[k]]]++;
            count[d->stratum[rows[k]]] = 0;
        }
    }
    mmf_free(d->ctx, count);
    mmf_free(d->ctx, rank);
    return MMF_OK;
}

/* A part that should have rows but got none takes the last unit (a smallest one) of the part with
 * most units. */
static void fill_empty_parts(division *d)
{
    for (int64_t p = 0; p < d->n_parts; p++) {
        if (d->shares[p] <= 0 || d->part_units[p] > 0)
            continue;
        int64_t donor = 0;
        for (int64_t q = 1; q < d->n_parts; q++)
            donor = d->part_units[q] > d->part_units[donor] ? q : donor;
        int64_t i = d->n_units - 1;
        while (d->unit_part[d->unit_order[i]] != donor)
            i--;
        d->unit_part[d->unit_order[i]] = p;
        d->part_units[donor]--;
        d->part_units[p]++;
    }
}

static mmf_status divide(division *d, const mmf_dataset *ds, const int64_t *rows, mmf_rng rng,
                         int64_t *part_of)
{
    d->unit_of = mmf_alloc_zero(d->ctx, (size_t)d->n, sizeof(int64_t));
    d->stratum = mmf_alloc_zero(d->ctx, (size_t)d->n, sizeof(int64_t));
    if (!d->unit_of || !d->stratum)
        return MMF_NOMEM;
    MMF_TRY(find_units(d->ctx, ds, rows, d->n, d->unit_of, &d->n_units));
    int64_t n_wanted = 0;
    for (int64_t p = 0; p < d->n_parts; p++)
        n_wanted += d->shares[p] > 0;
    if (n_wanted > d->n_units)
        return mmf_fail(d->ctx, MMF_ARG,
                        "%s: %lld rows in %lld unrelated groups cannot fill %lld parts; ask for "
                        "fewer",
                        ds->path, (long long)d->n, (long long)d->n_units, (long long)n_wanted);
    MMF_TRY(find_strata(d->ctx, ds, rows, d->n, d->stratum));
    const int64_t n_map = ds->n_classes + 1 + N_QUANTILES;
    int64_t *const map = mmf_alloc_zero(d->ctx, (size_t)n_map, sizeof *map);
    if (!map)
        return MMF_NOMEM;
    d->n_strata = compact_strata(d->stratum, d->n, map);
    mmf_free(d->ctx, map);
    MMF_TRY(division_alloc(d));
    for (int64_t i = 0; i < d->n_units; i++)
        d->unit_order[i] = i;
    mmf_rng_shuffle(&rng, d->unit_order, d->n_units);
    if (d->n_units == d->n)
        place_rows(d);
    else
        MMF_TRY(place_units(d));
    fill_empty_parts(d);
    for (int64_t i = 0; i < d->n; i++)
        part_of[i] = d->unit_part[d->unit_of[i]];
    return MMF_OK;
}

mmf_status mmf_data_divide(mmf_ctx *ctx, const mmf_dataset *ds, const int64_t *rows, int64_t n_rows,
                           const double *shares, int64_t n_parts, mmf_rng rng, int64_t *part_of)
{
    division d = {.ctx = ctx, .n = n_rows, .n_parts = n_parts, .shares = shares};
    const mmf_status status = divide(&d, ds, rows, rng, part_of);
    division_clear(&d);
    return status;
}
