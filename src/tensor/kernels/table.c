/*
 * table.c: the kernels of one processor level.
 *
 * The build compiles this file once a level with other flags and another MMF_KERNEL_TABLE; the
 * parts below are included so that all their functions stay private to the level.
 */
#include "tensor/kernels/kernels.h"

#include <float.h>

#include "tensor/kernels/vector_math.h"
#include "tensor/kernels/reduce_kernels.h"
#include "tensor/kernels/element_kernels.h"
#include "tensor/kernels/byte_kernels.h"
#include "tensor/kernels/norm_kernels.h"
#include "tensor/kernels/map_kernels.h"
#include "tensor/kernels/window_kernels.h"
#include "tensor/kernels/outer_kernels.h"
#include "tensor/kernels/rnn_kernels.h"
#include "tensor/kernels/row_kernels.h"
#include "tensor/kernels/panel_kernels.h"
#include "tensor/kernels/attend_kernels.h"
#include "tensor/kernels/step_kernels.h"

extern const mmf_kernels MMF_KERNEL_TABLE;

const mmf_kernels MMF_KERNEL_TABLE = {
    .unary = unary,
    .unary_grad = unary_grad,
    .binary = binary,
    .binary_grad = binary_grad,
    .axpby = axpby,
    .muladd = muladd,
    .fill = fill,
    .window_max = window_max,
    .outer = outer,
    .outer_grad = outer_grad,
    .sum = sum,
    .dot = dot,
    .max = max,
    .column_sum = column_sum,
    .dot_rows = dot_rows,
    .sum_rows = sum_rows,
    .panel = panel,
    .panel_rows = PANEL_ROWS,
    .panel_columns = PANEL_COLUMNS,
    .pack_rows = pack_rows,
    .bias_act = bias_act,
    .act_grad = act_grad,
    .quantise_row = quantise_row,
    .dot_bytes = dot_bytes,
    .dequantise = dequantise,
    .softmax_row = softmax_row,
    .softmax_row_grad = softmax_row_grad,
    .attend = attend,
    .norm_row = norm_row,
    .norm_row_grad = norm_row_grad,
    .centered_square = centered_square,
    .centered_dot = centered_dot,
    .centered_affine = centered_affine,
    .channel_grad = channel_grad,
    .map_moments = map_moments,
    .map_affine = map_affine,
    .map_grad_sums = map_grad_sums,
    .map_grad = map_grad,
    .window_top = window_top,
    .window_give = window_give,
    .lstm_cell = lstm_cell,
    .lstm_cell_grad = lstm_cell_grad,
    .gru_cell = gru_cell,
    .gru_cell_grad = gru_cell_grad,
    .dropout = dropout,
    .adam = adam,
};
