/*
 * text_graph.h: MM-GNN for questions about texts in images (Gao, Li, Wang, Shan, Chen, CVPR 2020):
 * three graphs, of regions, of tokens and of numbers, whose nodes exchange messages one graph after
 * the other, and an answer that is a word of a vocabulary or a copy of a token.
 */
#ifndef MMFUSE_NN_TEXT_GRAPH_H
#define MMFUSE_NN_TEXT_GRAPH_H

#include "nn/normed_linear.h"

/** Rows of the option table; the defaults of widths are the caller's. */
#define MMF_TEXT_GRAPH_OPTIONS(heads, inter, box, image, context, output)                          \
    {"K", NULL, MMF_OPTION_INT, 1, 1024, NULL, heads, "heads over places of tokens and regions"},  \
        {"inter_dim", NULL, MMF_OPTION_INT, 1, 8192, NULL, inter, "width of such a head"},         \
        {"box_dim", NULL, MMF_OPTION_INT, 1, 8192, NULL, box, "width of embedded boxes"},          \
        {"image_hidden", NULL, MMF_OPTION_INT, 1,                                                  \
         65536,          NULL, image,          "hidden width of the attention over regions"},      \
        {"context_hidden",                                                                         \
         NULL,                                                                                     \
         MMF_OPTION_INT,                                                                           \
         1,                                                                                        \
         65536,                                                                                    \
         NULL,                                                                                     \
         context,                                                                                  \
         "hidden width of the attention over tokens"},                                             \
        {"output_inter_dim",           NULL, MMF_OPTION_INT, 1, 65536, NULL, output,               \
         "hidden width of the answers"},                                                           \
        {"temperature",                                                                            \
         NULL,                                                                                     \
         MMF_OPTION_REAL,                                                                          \
         1e-3,                                                                                     \
         1000,                                                                                     \
         NULL,                                                                                     \
         "0.1",                                                                                    \
         "of the attention among tokens: its weights to the power of one over this"},              \
    {                                                                                              \
        "penalty", NULL, MMF_OPTION_REAL, 1e-3, 1e6, NULL, "25",                                   \
            "divides the sharpness of attention that is put out"                                   \
    }

/** Numbers that describe a box: corners, size, centre, area, ratio. */
#define MMF_BOX_NUMBERS 10

/** Widths of what goes in. */
typedef struct mmf_text_graph_widths {
    int64_t question, token, vision, box;
} mmf_text_graph_widths;

/** Regions and tokens: edges from their places alone, messages gated by the question. */
typedef struct mmf_vs_stage {
    mmf_tensor *w1, *w2, *epsilon;
    mmf_normed_linear boxes, fs, fv, question_2, question_3, to_token, to_vision;
    double penalty;
} mmf_vs_stage;
typedef struct mmf_vs_result {
    mmf_tensor *token;     /**< (B, T, 2 D_s): with the messages of regions */
    mmf_tensor *vision;    /**< (B, O, D_v) */
    mmf_tensor *attention; /**< (B, T, O), rows of padding are zero */
    mmf_tensor *sharpness; /**< (1) */
} mmf_vs_result;

/** Boxes are x0, y0, x1, y1, at least. */
typedef struct mmf_text_graph_inputs {
    mmf_tensor *question;            /**< (B, Q) */
    mmf_tensor *token, *token_box;   /**< (B, T, D), (B, T, 4) */
    mmf_tensor *token_mask;          /**< (B, T), NULL: all */
    mmf_tensor *vision, *vision_box; /**< (B, O, D), (B, O, 4) */
    mmf_tensor *vision_mask;         /**< (B, O), NULL: all */
    bool masks_senders;              /**< padded tokens send nothing; the released code lets them */
    double damping; /**< width over height as w h / (h^2 + damping); 0: w / (h + 1e-14) */
} mmf_text_graph_inputs;

mmf_vs_stage mmf_vs_build(mmf_builder *builder, const mmf_config *config,
                          const mmf_text_graph_widths *widths);
mmf_vs_result mmf_vs_run(mmf_tape *tape, const mmf_vs_stage *stage,
                         const mmf_text_graph_inputs *in);

/** Among tokens: sharpened attention to others, content, places and question deciding. */
typedef struct mmf_ss_stage {
    mmf_normed_linear boxes, fa[5], question_1, question_2, to_token;
    double temperature, penalty;
} mmf_ss_stage;
mmf_ss_stage mmf_ss_build(mmf_builder *builder, const mmf_config *config,
                          const mmf_text_graph_widths *widths);
/**
 * 1 where token i may hear token j: both are there, and i is not j unless it is the only one.
 * @param mask (B, T) or NULL: all  @return (B, T, T)
 */
mmf_tensor *mmf_token_pairs(mmf_tape *tape, mmf_tensor *mask, int64_t n_rows, int64_t n_tokens);
/** Centres of boxes: (B, N, 2). */
mmf_tensor *mmf_box_centres(mmf_tape *tape, mmf_tensor *box);
/** @param token (B, T, D), of `in` only question, token_box and token_mask are read
 *  @return (B, T, 2 D) */
mmf_tensor *mmf_ss_run(mmf_tape *tape, const mmf_ss_stage *stage, const mmf_text_graph_inputs *in,
                       mmf_tensor *token, mmf_tensor **attention, mmf_tensor **sharpness);

/** A scalar a position, by its feature and the question. */
typedef struct mmf_guided_score {
    mmf_normed_linear feature, question, out;
} mmf_guided_score;
/** @param name  the scope before `.0.0.image_attention_model` */
mmf_guided_score mmf_guided_score_build(mmf_builder *builder, const char *name, int64_t feature,
                                        int64_t question, int64_t hidden);
/** @param x (B, N, D)  @return (B, N, 1) */
mmf_tensor *mmf_guided_score_run(mmf_tape *tape, const mmf_guided_score *score, mmf_tensor *x,
                                 mmf_tensor *question);

/** Softmax over regions, sigmoid a token (0 where there is none), and the sums they weigh. */
typedef struct mmf_text_graph_pooled {
    mmf_tensor *vision, *token;       /**< (B, D) */
    mmf_tensor *at_vision, *at_token; /**< (B, N, 1) */
} mmf_text_graph_pooled;
/** @param vision_score, token_score (B, N, 1) */
mmf_text_graph_pooled mmf_text_graph_pool(mmf_tape *tape, const mmf_text_graph_inputs *in,
                                          mmf_tensor *vision, mmf_tensor *vision_score,
                                          mmf_tensor *token, mmf_tensor *token_score);

/** Scores of the vocabulary, then of copying each token. */
typedef struct mmf_copy_output {
    mmf_normed_linear vision, token, question[3], both, bias, vocabulary;
} mmf_copy_output;
mmf_copy_output mmf_copy_output_build(mmf_builder *builder, const mmf_config *config,
                                      const mmf_text_graph_widths *widths, int64_t vocabulary);
/** @param copy (B, T), mask (B, T)  @param bias  (B, 1) out  @return (B, vocabulary + T) */
mmf_tensor *mmf_copy_output_run(mmf_tape *tape, const mmf_copy_output *output, mmf_tensor *question,
                                mmf_tensor *vision, mmf_tensor *token, mmf_tensor *copy,
                                mmf_tensor *mask, mmf_tensor **bias);

#endif
