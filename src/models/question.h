/*
 * question.h: what the models of visual question answering by Teney, Anderson et al. and Kim et al.
 * are made of: words and regions.
 */
#ifndef MMFUSE_MODELS_QUESTION_H
#define MMFUSE_MODELS_QUESTION_H

#include "models/parts.h"
#include "nn/normed_linear.h"

/** Rows of the option tables. */
#define MMF_QUESTION_OPTIONS                                                                       \
    {"ntoken",                                                                                     \
     NULL,                                                                                         \
     MMF_OPTION_INT,                                                                               \
     0,                                                                                            \
     100000000,                                                                                    \
     NULL,                                                                                         \
     "0",                                                                                          \
     "words of a vocabulary whose padding is the word after the last; 0: steps of the data"},      \
        {"embedding_dim",                                                                          \
         NULL,                                                                                     \
         MMF_OPTION_INT,                                                                           \
         1,                                                                                        \
         8192,                                                                                     \
         NULL,                                                                                     \
         "128",                                                                                    \
         "width of words, or of the steps in their place (paper: 300)"},                           \
        MMF_ENCODER_OPTION,                                                                        \
    {                                                                                              \
        "num_ans_candidates", NULL, MMF_OPTION_INT, 0, 1000000, NULL, "0",                         \
            "outputs; 0: the task's"                                                               \
    }

/**
 * The modality that asks (mmf_stream_order) and the one that is looked at. With `ntoken` words are
 * those of the papers: the padding, in front, is a word like others. Else steps of any kind, of
 * which those behind a length are masked; an absent question is one step of zeros.
 */
typedef struct mmf_question {
    const mmf_input_schema *text, *image;
    mmf_embedding_layer words, more_words; /* of `ntoken` */
    bool has_words, has_more_words, has_regions;
    mmf_steps_encoder text_steps;
    mmf_rnn_layer gru;
    mmf_steps_encoder image_steps; /* where the image is not a sequence of regions */
    int64_t image_width;
} mmf_question;

/** @param more_words  a second table of words beside the first (option `c` of BAN) */
mmf_question mmf_question_build(mmf_builder *builder, const mmf_config *config,
                                const mmf_schema *inputs, int64_t hidden, bool more_words);
/** States of the GRU over the question, (B, T, hidden). */
mmf_steps mmf_question_states(mmf_tape *tape, const mmf_question *question, const mmf_named *in);
/** Regions (B, R, image_width) as they are, masked by their length and presence alone. */
mmf_steps mmf_question_regions(mmf_tape *tape, const mmf_question *question, const mmf_named *in);

/** relu, dropout, linear over normed layers: `classifier.main.0`, `classifier.main.3`. */
typedef struct mmf_answers {
    mmf_normed_linear hidden, out;
    double dropout;
    bool is_regression;
} mmf_answers;
mmf_answers mmf_answers_build(mmf_builder *builder, const mmf_config *config, int64_t hidden,
                              double dropout);
void mmf_answers_run(mmf_tape *tape, const mmf_answers *answers, mmf_tensor *fused, mmf_named *out);

#endif
