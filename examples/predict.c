/*
 * predict.c: loads a trained model and predicts one sample: `example_predict MODEL.mmf < numbers`.
 * The numbers are the values of every modality, one modality after the other in the model's order.
 */
#include <mmfuse/model.h>

#include <stdio.h>
#include <stdlib.h>

/* Reads the values of one modality; false when they are words or the numbers end early. */
static bool read_values(const mmf_input_schema *input, float **values)
{
    size_t count = 1;
    for (int d = 0; d < input->n_dims; d++)
        count *= (size_t)input->shape[d];
    *values = calloc(count, sizeof **values);
    size_t n = 0;
    while (*values && input->kind != MMF_TOKENS && n < count && scanf("%f", *values + n) == 1)
        n++;
    if (n < count)
        fprintf(stderr, "%s: expected %zu numbers, got %zu\n", input->name, count, n);
    return n == count;
}

/* A number to predict is "y"; a class without a name goes by its number. */
static void print_output(const mmf_task *task, int64_t k, double value)
{
    if (task->class_names)
        printf("%s %.4f\n", task->class_names[k], value);
    else if (task->kind == MMF_TARGET_REAL)
        printf("y %.4f\n", value);
    else
        printf("class %lld %.4f\n", (long long)k, value);
}

int main(int argc, char **argv)
{
    mmf_ctx *ctx = NULL;
    mmf_model *model = NULL;
    if (argc != 2 || mmf_ctx_create(&ctx, NULL) != MMF_OK)
        return fprintf(stderr, "usage: example_predict MODEL.mmf < numbers\n"), 2;
    if (mmf_model_load(ctx, &model, argv[1]) != MMF_OK) {
        fprintf(stderr, "%s\n", mmf_ctx_error(ctx));
        return 1;
    }
    const mmf_schema *const inputs = mmf_model_inputs(model);
    const mmf_task *const task = mmf_model_task(model);
    float **const values = calloc(inputs->count, sizeof *values);
    mmf_sample *const samples = calloc(inputs->count, sizeof *samples);
    double *const y = calloc((size_t)task->n_outputs, sizeof *y);
    bool fine = values && samples && y;
    for (size_t m = 0; fine && m < inputs->count; m++) {
        fine = read_values(&inputs->inputs[m], &values[m]);
        samples[m].values = values[m];
    }
    if (fine && mmf_model_predict(model, samples, y) != MMF_OK)
        fine = fprintf(stderr, "%s\n", mmf_ctx_error(ctx)) < 0;
    for (int64_t k = 0; fine && k < task->n_outputs; k++)
        print_output(task, k, y[k]);
    for (size_t m = 0; values && m < inputs->count; m++)
        free(values[m]);
    free(values);
    free(samples);
    free(y);
    mmf_model_free(model);
    mmf_ctx_free(ctx);
    return fine ? 0 : 1;
}
