/*
 * modality_dropout.c: training without some of the modalities, so that a model does not come to
 * rest on one of them.
 *
 * Neverova, Wolf, Taylor, Nebout, ModDrop: adaptive multi-modal gesture recognition, TPAMI 2016,
 * section 4: each modality of each sample is left out by a draw of its own. Deviation: where all
 * that a sample has were left out, one of them, all as likely, stays; with M modalities each is
 * then kept with probability 1 - p + p^M / M instead of 1 - p. What is left out looks to the model
 * like what the data lack, so its rule for absent modalities takes the place of the paper's zeros.
 */
#include "train/trainer.h"

bool mmf_drops_modalities(const mmf_train_options *options, const mmf_schema *inputs)
{
    return options->modality_dropout > 0 && inputs->count > 1;
}

void mmf_schema_may_drop(mmf_schema *inputs, const mmf_train_options *options)
{
    for (size_t m = 0; mmf_drops_modalities(options, inputs) && m < inputs->count; m++)
        inputs->inputs[m].has_present = true;
}

double mmf_modality_dropout_rate(const mmf_train_options *options, int64_t step,
                                 int64_t steps_per_epoch)
{
    const int64_t rise = options->modality_dropout_rise * steps_per_epoch;
    return step >= rise ? options->modality_dropout
                        : options->modality_dropout * (double)(step + 1) / (double)(rise + 1);
}

/* The k-th set bit alone. */
static uint64_t bit_at(uint64_t bits, uint64_t k)
{
    for (; k > 0; k--)
        bits &= bits - 1;
    return bits & (~bits + 1);
}

static uint64_t count_bits(uint64_t bits)
{
    uint64_t n = 0;
    for (; bits; bits &= bits - 1)
        n++;
    return n;
}

void mmf_modality_dropout(mmf_batch *batch, const mmf_dataset *dataset, const size_t *map,
                          size_t n_modalities, double rate, mmf_rng *rng)
{
    for (int64_t row = 0; row < batch->n_rows; row++) {
        uint64_t there = 0, kept = 0;
        for (size_t m = 0; m < n_modalities; m++) {
            const uint64_t bit = UINT64_C(1) << m;
            there |= batch->inputs[map[m]].present[row] != 0 ? bit : 0;
            kept |= mmf_rng_uniform(rng) >= rate ? bit : 0;
        }
        if (there && !(there & kept))
            kept = bit_at(there, mmf_rng_below(rng, count_bits(there)));
        for (size_t m = 0; m < n_modalities; m++) {
            if (there & ~kept & (UINT64_C(1) << m))
                mmf_batch_drop(batch, dataset, map[m], row);
        }
    }
}
