/* question.c: see question.h. */
#include "models/question.h"

#include "nn/builder.h"

/* ---- Streams ----------------------------------------------------------------------------- */

mmf_question mmf_question_build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                                int64_t hidden, bool more_words)
{
    const int64_t n_words = mmf_config_int(config, "ntoken");
    const int64_t width = mmf_config_int(config, "embedding_dim");
    mmf_question q = {0};
    if (inputs->count != 2) {
        mmf_builder_fail(b, MMF_SHAPE, "%s takes two modalities", mmf_config_def(config)->name);
        return q;
    }
    mmf_stream_order(inputs, &q.text, &q.image);
    q.has_words = n_words > 0 && q.text->kind == MMF_TOKENS && !mmf_steps_spec(b, config, q.text);
    q.has_more_words = more_words;
    if (q.has_words) {
        mmf_builder_check_words(b, "ntoken", n_words, n_words + 1, q.text);
        q.words = mmf_embedding_build(b, "w_emb.emb", n_words + 1, width, n_words);
        if (more_words)
            q.more_words = mmf_embedding_build(b, "w_emb.emb_", n_words + 1, width, n_words);
    } else {
        q.text_steps =
            mmf_steps_build(b, config, q.text->name, q.text, (more_words ? 2 : 1) * width, 0);
    }
    const mmf_rnn_options gru = {
        .inputs = (more_words ? 2 : 1) * width, .hidden = hidden, .n_layers = 1, .is_gru = true};
    q.gru = mmf_rnn_build(b, "q_emb.rnn", &gru);
    q.has_regions = q.image->kind == MMF_SEQUENCE && !mmf_steps_spec(b, config, q.image);
    q.image_width = q.has_regions ? q.image->shape[1] : hidden;
    if (!q.has_regions)
        q.image_steps = mmf_steps_build(b, config, q.image->name, q.image, hidden, 0);
    return q;
}

static mmf_tensor *embedded(mmf_tape *tape, const mmf_question *q, const mmf_named *in)
{
    mmf_tensor *const tokens = mmf_named_get(in, q->text->name);
    mmf_tensor *const first = mmf_embedding_run(tape, &q->words, tokens);
    if (!q->has_more_words)
        return first;
    mmf_tensor *const second = mmf_embedding_run(tape, &q->more_words, tokens);
    return mmf_concat(tape, (mmf_tensor *[]){first, second}, 2, 2);
}

mmf_steps mmf_question_states(mmf_tape *tape, const mmf_question *q, const mmf_named *in)
{
    mmf_steps s = {0};
    if (q->has_words) {
        s.mask = mmf_key_mask(tape, in, q->text->name, q->text->shape[0]);
        s.x = embedded(tape, q, in);
        s.x = mmf_steps_masked(tape, &s);
    } else {
        s = mmf_steps_run(tape, &q->text_steps, in);
    }
    if (s.mask) { /* nothing at all is one step of zeros */
        const int64_t rows = s.mask->shape[0];
        mmf_tensor *const some = mmf_clamp(tape, mmf_sum(tape, s.mask, 1), 0, 1);
        mmf_tensor *const none =
            mmf_reshape(tape, mmf_affine(tape, some, -1, 1), 2, (int64_t[]){rows, 1});
        mmf_tensor *const first = mmf_causal_mask(tape, 1, s.mask->shape[1], 0);
        s.mask = mmf_add(tape, s.mask, mmf_mul(tape, none, first));
    }
    s.x = mmf_rnn_run(tape, &q->gru, s.x, NULL, false).sequence;
    return s;
}

mmf_steps mmf_question_regions(mmf_tape *tape, const mmf_question *q, const mmf_named *in)
{
    if (!q->has_regions)
        return mmf_steps_run(tape, &q->image_steps, in);
    mmf_steps s = {.x = mmf_named_get(in, q->image->name),
                   .mask = mmf_key_mask(tape, in, q->image->name, q->image->shape[0])};
    s.x = mmf_steps_masked(tape, &s);
    return s;
}

/* ---- Answers ----------------------------------------------------------------------------- */

mmf_answers mmf_answers_build(mmf_builder *b, const mmf_config *config, int64_t hidden,
                              double dropout)
{
    mmf_answers a = {.dropout = dropout, .is_regression = mmf_is_regression(config)};
    a.hidden = mmf_normed_linear_build(b, "classifier.main.0", hidden, 2 * hidden);
    a.out = mmf_normed_linear_build(b, "classifier.main.3", 2 * hidden,
                                    mmf_n_answers(b, config, "num_ans_candidates"));
    return a;
}

void mmf_answers_run(mmf_tape *tape, const mmf_answers *a, mmf_tensor *fused, mmf_named *out)
{
    mmf_named_put(tape, out, "feature_fusion", fused);
    mmf_tensor *h = mmf_normed_linear_run(tape, &a->hidden, fused, MMF_ACT_RELU);
    h = mmf_dropout(tape, h, a->dropout);
    mmf_put_result(tape, out, a->is_regression,
                   mmf_normed_linear_run(tape, &a->out, h, MMF_ACT_NONE));
}
