/* scopes.c: see scopes.h. */
#include "nn/scopes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* ---- Names ------------------------------------------------------------------------------- */

static bool begins(const char *name, const char *with)
{
    return strncmp(name, with, strlen(with)) == 0;
}

/* The number at `digits` if a dot follows it, else -1. */
static int64_t number_before_dot(const char *digits)
{
    const size_t n = strspn(digits, "0123456789");
    return n > 0 && n < 10 && digits[n] == '.' ? strtoll(digits, NULL, 10) : -1;
}

/* The layer that a piece of a name opens, -1 if it opens none. */
static int64_t opened_layer(const char *piece)
{
    if (begins(piece, "embeddings.") || begins(piece, "conv1.") || begins(piece, "bn1."))
        return 0;
    for (int plural = 0; plural < 2; plural++) {
        const char *const list = plural ? "layers." : "layer.";
        if (begins(piece, list)) {
            const int64_t from_zero = number_before_dot(piece + strlen(list));
            return from_zero < 0 ? -1 : from_zero + 1;
        }
    }
    return begins(piece, "layer") ? number_before_dot(piece + strlen("layer")) : -1;
}

int64_t mmf_scope_layer(const char *name)
{
    for (const char *piece = name; piece; piece = strchr(piece, '.')) {
        piece += *piece == '.';
        const int64_t layer = opened_layer(piece);
        if (layer >= 0)
            return layer;
    }
    return -1;
}

static bool is_below(const char *scope, size_t n, const char *name)
{
    return strncmp(name, scope, n) == 0 && name[n] == '.';
}

bool mmf_scope_holds(const mmf_params *params, const char *part, size_t n, const char *name)
{
    char input[256];
    if (n < sizeof input) {
        memcpy(input, part, n);
        input[n] = '\0';
        const char *const place = mmf_params_place(params, input);
        if (place)
            return is_below(place, strlen(place), name);
    }
    for (const char *piece = name; piece; piece = strchr(piece, '.')) {
        piece += *piece == '.';
        if (is_below(part, n, piece))
            return true;
    }
    return false;
}

/* ---- Rules ------------------------------------------------------------------------------- */

/* One rule of a list: the part, and the numbers behind it. */
typedef struct rule {
    const char *part;
    size_t n_part;
    double first, second; /* NAN: not given */
} rule;

/* Reads the numbers of "PART<mark>FIRST:SECOND". @return what follows, NULL where there is no rule
 */
static const char *read_rule(const char *text, char mark, rule *out)
{
    const size_t n = strcspn(text, ",");
    const char *const end = text + n;
    const char *const place = memchr(text, mark, n);
    *out = (rule){text, place ? (size_t)(place - text) : n, NAN, NAN};
    bool ok = out->n_part > 0;
    if (place) {
        const char *const numbers = place + 1;
        const char *const colon = memchr(numbers, ':', (size_t)(end - numbers));
        const char *const first_end = colon ? colon : end;
        ok = ok && mmf_text_number(numbers, (size_t)(first_end - numbers), &out->first);
        if (colon)
            ok = ok && mmf_text_number(colon + 1, (size_t)(end - colon - 1), &out->second);
    }
    return ok ? end + (*end == ',') : NULL;
}

mmf_status mmf_scopes_check_frozen(mmf_ctx *ctx, const char *rules)
{
    for (const char *at = rules; at && *at;) {
        rule r;
        const char *const next = read_rule(at, ':', &r);
        if (!next || !isnan(r.second) ||
            (!isnan(r.first) && !(r.first >= 0 && r.first == floor(r.first))))
            return mmf_fail(ctx, MMF_ARG,
                            "freeze \"%.80s\": expected MODALITY or MODALITY:LAYERS, as in text:6",
                            at);
        at = next;
    }
    return MMF_OK;
}

static bool freezes(const rule *r, const mmf_params *params, const char *name)
{
    if (!mmf_scope_holds(params, r->part, r->n_part, name))
        return false;
    const int64_t layer = mmf_scope_layer(name);
    return isnan(r->first) || (layer >= 0 && (double)layer <= r->first);
}

bool mmf_scopes_freeze(const char *rules, const mmf_params *params, const char *name)
{
    for (const char *at = rules; at && *at;) {
        rule r;
        at = read_rule(at, ':', &r);
        if (at && freezes(&r, params, name))
            return true;
    }
    return false;
}

static mmf_status refuse_unused(mmf_ctx *ctx, const char *option, const rule *r)
{
    return mmf_fail(ctx, MMF_ARG,
                    "%s \"%.*s\": the model has no such parameters; name a modality, or a piece of "
                    "the names that `mmfuse info MODEL.mmf` lists",
                    option, (int)strcspn(r->part, ","), r->part);
}

mmf_status mmf_scopes_check_use(mmf_ctx *ctx, const mmf_params *params, const char *frozen,
                                const char *rates)
{
    for (const char *at = frozen; at && *at;) {
        rule r;
        bool used = false;
        at = read_rule(at, ':', &r);
        for (size_t i = 0; at && i < mmf_params_count(params); i++) {
            const mmf_param *const p = mmf_params_at(params, i);
            used = used || (p->role == MMF_PARAM_FIXED && freezes(&r, params, p->name));
        }
        if (!used)
            return refuse_unused(ctx, "freeze", &r);
    }
    for (const char *at = rates; at && *at;) {
        rule r;
        bool used = false, has_layers = false;
        at = read_rule(at, '=', &r);
        for (size_t i = 0; at && i < mmf_params_count(params); i++) {
            const char *const name = mmf_params_at(params, i)->name;
            const bool holds = mmf_scope_holds(params, r.part, r.n_part, name);
            used = used || holds;
            has_layers = has_layers || (holds && mmf_scope_layer(name) >= 0);
        }
        if (!used)
            return refuse_unused(ctx, "learning rate of", &r);
        if (!isnan(r.second) && !has_layers)
            return mmf_fail(
                ctx, MMF_ARG,
                "learning rate of \"%.*s\": a factor from layer to layer needs numbered "
                "layers, and these parameters have none; leave it out",
                (int)strcspn(r.part, ","), r.part);
    }
    return MMF_OK;
}

mmf_status mmf_scopes_check_rates(mmf_ctx *ctx, const char *rules)
{
    for (const char *at = rules; at && *at;) {
        rule r;
        const char *const next = read_rule(at, '=', &r);
        if (!next || !(r.first > 0 && isfinite(r.first)) ||
            (!isnan(r.second) && !(r.second > 0 && r.second <= 1)))
            return mmf_fail(ctx, MMF_ARG,
                            "learning rate of \"%.80s\": expected MODALITY=RATE or "
                            "MODALITY=RATE:DECAY with 0 < DECAY <= 1, as in text=2e-5:0.9",
                            at);
        at = next;
    }
    return MMF_OK;
}

static void set_rate(mmf_params *params, const rule *r, double lr)
{
    int64_t top = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < mmf_params_count(params); i++) {
            const char *const name = mmf_params_at(params, i)->name;
            if (!mmf_scope_holds(params, r->part, r->n_part, name))
                continue;
            const int64_t layer = mmf_scope_layer(name);
            if (pass == 0)
                top = layer > top ? layer : top;
            else
                mmf_params_set_lr_scale(params, i,
                                        r->first / lr *
                                            (isnan(r->second) || layer < 0
                                                 ? 1
                                                 : pow(r->second, (double)(top - layer))));
        }
    }
}

mmf_status mmf_scopes_set_rates(mmf_ctx *ctx, mmf_params *params, const char *rules, double lr)
{
    MMF_TRY(mmf_scopes_check_rates(ctx, rules));
    for (const char *at = rules; at && *at;) {
        rule r;
        at = read_rule(at, '=', &r);
        set_rate(params, &r, lr);
    }
    return MMF_OK;
}
