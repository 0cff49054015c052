/* rnn_kernels.h: the element-wise part of one LSTM or GRU step, gates in PyTorch's order i f g o,
 * r z n. */
#ifndef MMFUSE_KERNELS_RNN_H
#define MMFUSE_KERNELS_RNN_H

static void lstm_cell(int64_t h, int64_t stride, mmf_real *restrict gates,
                      const mmf_real *restrict c_old, mmf_real *restrict c,
                      mmf_real *restrict tanh_c, mmf_real *restrict h_out)
{
    mmf_real *const gi = gates, *const gf = gates + stride, *const gg = gates + 2 * stride,
                    *const go = gates + 3 * stride;
    for (int64_t j = 0; j < h; j++) {
        const mmf_real i = vsigmoid(gi[j]), f = vsigmoid(gf[j]), g = vtanh(gg[j]),
                       o = vsigmoid(go[j]);
        const mmf_real cell = f * c_old[j] + i * g;
        const mmf_real squashed = vtanh(cell);
        gi[j] = i;
        gf[j] = f;
        gg[j] = g;
        go[j] = o;
        c[j] = cell;
        tanh_c[j] = squashed;
        h_out[j] = o * squashed;
    }
}

static void lstm_cell_grad(int64_t h, const mmf_real *restrict gates,
                           const mmf_real *restrict c_old, const mmf_real *restrict tanh_c,
                           const mmf_real *restrict dh, mmf_real *restrict dc,
                           mmf_real *restrict dgates)
{
    const mmf_real one = 1;
    for (int64_t j = 0; j < h; j++) {
        const mmf_real i = gates[j], f = gates[h + j], g = gates[2 * h + j], o = gates[3 * h + j];
        const mmf_real d_cell = dc[j] + dh[j] * o * (one - tanh_c[j] * tanh_c[j]);
        dgates[j] = d_cell * g * i * (one - i);
        dgates[h + j] = d_cell * c_old[j] * f * (one - f);
        dgates[2 * h + j] = d_cell * i * (one - g * g);
        dgates[3 * h + j] = dh[j] * tanh_c[j] * o * (one - o);
        dc[j] = d_cell * f;
    }
}

/* gates: input part in, activated out; recurrent: the hidden state's part, whose n part is kept. */
static void gru_cell(int64_t h, int64_t stride, mmf_real *restrict gates,
                     const mmf_real *restrict recurrent, const mmf_real *restrict h_old,
                     mmf_real *restrict recurrent_n, mmf_real *restrict h_out)
{
    const mmf_real one = 1;
    mmf_real *const gr = gates, *const gz = gates + stride, *const gn = gates + 2 * stride;
    for (int64_t j = 0; j < h; j++) {
        const mmf_real r = vsigmoid(gr[j] + recurrent[j]);
        const mmf_real z = vsigmoid(gz[j] + recurrent[stride + j]);
        const mmf_real part = recurrent[2 * stride + j];
        const mmf_real n = vtanh(gn[j] + r * part);
        gr[j] = r;
        gz[j] = z;
        gn[j] = n;
        recurrent_n[j] = part;
        h_out[j] = (one - z) * n + z * h_old[j];
    }
}

/* d_gates and d_recurrent differ in the n part, which the reset gate scales. */
static void gru_cell_grad(int64_t h, const mmf_real *restrict gates, const mmf_real *restrict h_old,
                          const mmf_real *restrict recurrent_n, const mmf_real *restrict d_out,
                          mmf_real *restrict dh, mmf_real *restrict d_gates,
                          mmf_real *restrict d_recurrent)
{
    const mmf_real one = 1;
    for (int64_t j = 0; j < h; j++) {
        const mmf_real r = gates[j], z = gates[h + j], n = gates[2 * h + j];
        const mmf_real total = dh[j] + d_out[j];
        const mmf_real dn = total * (one - z) * (one - n * n);
        const mmf_real dz = total * (h_old[j] - n) * z * (one - z);
        const mmf_real dr = dn * recurrent_n[j] * r * (one - r);
        d_gates[j] = dr;
        d_gates[h + j] = dz;
        d_gates[2 * h + j] = dn;
        d_recurrent[j] = dr;
        d_recurrent[h + j] = dz;
        d_recurrent[2 * h + j] = dn * r;
        dh[j] = total * z;
    }
}

#endif
