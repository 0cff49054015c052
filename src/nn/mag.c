/* mag.c: see mag.h; and the registered layer `mag`. */
#include "nn/mag.h"

#include <string.h>

#include "nn/bert.h"

/* Of the gate's own layer norm; BERT's is another. */
#define NORM_EPS 1e-5
#define LENGTH_EPS 1e-6

static bool is_vision(const char *name)
{
    return strcmp(name, "vision") == 0 || strcmp(name, "video") == 0;
}

static int rank_of(const mmf_input_schema *in)
{
    if (is_vision(in->name))
        return 0;
    return strcmp(in->name, "audio") == 0 ? 1 : 2;
}

bool mmf_mag_takes(const mmf_input_schema *in, int64_t n_steps)
{
    return in->kind == MMF_VECTOR || (in->kind == MMF_SEQUENCE && in->shape[0] == n_steps);
}

static mmf_mag_side build_side(mmf_builder *b, const mmf_input_schema *in, int64_t width)
{
    const char *const letters[] = {"v", "a"};
    const int rank = rank_of(in);
    const char *const own = rank < 2 ? letters[rank] : in->name;
    const int64_t features = in->shape[in->n_dims - 1];
    mmf_mag_side side = {.input = in};
    side.gate = mmf_bert_linear_build(b, mmf_builder_text(b, rank < 2 ? "W_h%s" : "W_h_%s", own),
                                      features + width, width);
    side.shift = mmf_bert_linear_build(b, mmf_builder_text(b, "W_%s", own), features, width);
    return side;
}

mmf_mag mmf_mag_build(mmf_builder *b, const char *name, const mmf_config *config,
                      const mmf_schema *inputs, const mmf_input_schema *text, int64_t width)
{
    mmf_mag mag = {.n_steps = text->shape[0],
                   .beta = mmf_config_real(config, "beta_shift"),
                   .dropout = mmf_config_real(config, "dropout_prob")};
    mag.sides = mmf_builder_alloc(b, (inputs->count + 1) * sizeof *mag.sides);
    mmf_builder_enter(b, name);
    for (int rank = 0; rank < 3; rank++) {
        for (size_t m = 0; mmf_builder_status(b) == MMF_OK && m < inputs->count; m++) {
            const mmf_input_schema *const in = &inputs->inputs[m];
            if (in == text || rank_of(in) != rank)
                continue;
            if (!mmf_mag_takes(in, mag.n_steps))
                mmf_builder_fail(b, MMF_SHAPE,
                                 "%s must be a vector, or a sequence of as many steps as %s, which "
                                 "has %lld: a frame a word",
                                 in->name, text->name, (long long)mag.n_steps);
            else
                mag.sides[mag.count++] = build_side(b, in, width);
        }
    }
    mag.norm = mmf_layer_norm_build(b, "LayerNorm", width, NORM_EPS);
    mmf_builder_leave(b);
    return mag;
}

/* (B, T, d) with zeros behind the length and where absent. */
static mmf_tensor *frames_of(mmf_tape *tape, const mmf_mag *mag, const mmf_input_schema *in,
                             const mmf_named *named)
{
    mmf_tensor *x = mmf_named_get(named, in->name);
    if (!x)
        return NULL;
    const int64_t rows = x->shape[0], n = in->kind == MMF_VECTOR ? 1 : mag->n_steps;
    mmf_tensor *const mask = mmf_key_mask(tape, named, in->name, n);
    x = mmf_reshape(tape, x, 3, (int64_t[]){rows, n, -1});
    if (mask)
        x = mmf_mul(tape, x, mmf_reshape(tape, mask, 3, (int64_t[]){rows, n, 1}));
    return n == mag->n_steps
               ? x
               : mmf_expand(tape, x, 3, (int64_t[]){rows, mag->n_steps, x ? x->shape[2] : 0});
}

/* Euclidean length over features, (B, T, 1); `at_zero` where it is 0, there without a gradient. */
static mmf_tensor *length_of(mmf_tape *tape, mmf_tensor *x, double at_zero)
{
    mmf_tensor *const square = mmf_sum(tape, mmf_mul(tape, x, x), 2);
    mmf_tensor *const zero = mmf_affine(tape, mmf_sign(tape, square), -1, 1);
    mmf_tensor *n = mmf_sqrt(tape, mmf_add(tape, square, zero));
    if (at_zero != 1)
        n = mmf_add(tape, n, mmf_affine(tape, zero, at_zero - 1, 0));
    return n ? mmf_reshape(tape, n, 3, (int64_t[]){n->shape[0], n->shape[1], 1}) : NULL;
}

mmf_tensor *mmf_mag_run(mmf_tape *tape, const mmf_mag *mag, mmf_tensor *z, const mmf_named *in,
                        mmf_tensor **shift)
{
    mmf_tensor *h = NULL;
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    for (size_t m = 0; m < mag->count; m++) {
        const mmf_mag_side *const side = &mag->sides[m];
        mmf_tensor *const x = frames_of(tape, mag, side->input, in);
        mmf_tensor *const both = mmf_concat(tape, (mmf_tensor *[]){x, z}, 2, 2);
        mmf_tensor *const g = mmf_linear_run(tape, &side->gate, both, MMF_ACT_RELU);
        mmf_tensor *const moved =
            mmf_mul(tape, g, mmf_linear_run(tape, &side->shift, x, MMF_ACT_NONE));
        h = h ? mmf_add(tape, h, moved) : moved;
    }
    if (!h)
        return NULL;
    mmf_tensor *const ratio = mmf_div(tape, length_of(tape, z, 0),
                                      mmf_affine(tape, length_of(tape, h, 1), 1, LENGTH_EPS));
    mmf_tensor *const alpha = mmf_minimum(tape, mmf_affine(tape, ratio, mag->beta, 0),
                                          mmf_full(tape, 3, (int64_t[]){1, 1, 1}, 1));
    mmf_tensor *const moved = mmf_mul(tape, alpha, h);
    mmf_tensor *y = mmf_layer_norm_run(tape, &mag->norm, mmf_add(tape, z, moved));
    y = mmf_dropout(tape, y, mag->dropout);
    if (!shift)
        return mmf_tape_leave(tape, mark, y);
    *shift = moved;
    return y;
}

/* ---- The registered layer ---------------------------------------------------------------- */

static const mmf_option options[] = {
    {"hidden_size", NULL, MMF_OPTION_INT, 1, 65536, NULL, "",
     "width of the word vectors; must be their own"},
    MMF_MAG_OPTIONS,
    {"layer_norm_eps", NULL, MMF_OPTION_REAL, 0, 1, NULL, "1e-5", "eps of the layer norm"},
    {0},
};

typedef struct mag_layer {
    const char *text;
    mmf_mag mag;
} mag_layer;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    mag_layer *const layer = mmf_builder_alloc(b, sizeof *layer);
    const mmf_input_schema *const text = mmf_schema_find(inputs, "text");
    if (!layer)
        return mmf_builder_status(b);
    if (inputs->count < 2 || !text || text->kind != MMF_SEQUENCE)
        return mmf_builder_fail(b, MMF_SHAPE,
                                "mag takes text (B, T, D), the word vectors, and what moves them");
    const int64_t width = text->shape[1], wanted = mmf_config_int(config, "hidden_size");
    if (wanted > 0 && wanted != width)
        return mmf_builder_fail(b, MMF_SHAPE,
                                "mag: hidden_size is %lld, but text has %lld features",
                                (long long)wanted, (long long)width);
    layer->text = text->name;
    layer->mag = mmf_mag_build(b, "", config, inputs, text, width);
    layer->mag.norm.eps = mmf_config_real(config, "layer_norm_eps");
    mmf_builder_set_width(b, width);
    *self = layer;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mag_layer *const layer = self;
    mmf_tensor *shift = NULL;
    mmf_tensor *const z = mmf_named_get(in, layer->text);
    mmf_named_put(tape, out, "output", mmf_mag_run(tape, &layer->mag, z, in, &shift));
    mmf_named_put(tape, out, "shift", shift);
}

const mmf_def mmf_layer_mag = {
    .name = "mag",
    .title = "Multimodal adaptation gate",
    .paper = "Rahman, Hasan, Lee, Zadeh, Mao, Morency, Hoque, Integrating multimodal information "
             "in large pretrained transformers, ACL 2020, arXiv:1908.05787",
    .equations = "h = sum_m relu(W_hm [x_m; z]) (W_m x_m); z + min(beta |z| / |h|, 1) h, "
                 "layer norm",
    .missing = "its frames are zeros",
    .structure = "gating",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_SEQUENCES | MMF_TAKES_VECTORS | MMF_MISSING_OK,
    .options = options,
    .build = build,
    .run = run,
};
