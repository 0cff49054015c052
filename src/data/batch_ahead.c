/* batch_ahead.c: see batch_ahead.h. POSIX threads. */
#include "data/batch_ahead.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/context.h"
#include "data/dataset.h"

typedef enum ahead_state { IDLE, FILLING, FILLED, FAILED, ENDING } ahead_state;

struct mmf_batch_ahead {
    mmf_ctx *ctx;     /* of the caller */
    mmf_ctx *own;     /* of the thread */
    mmf_dataset view; /* the caller's, but for the context */
    mmf_batch batch;
    mmf_batch_order order;
    ahead_state state;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

mmf_status mmf_batch_fill_order(mmf_batch *batch, mmf_dataset *dataset,
                                const mmf_batch_order *order)
{
    MMF_TRY(mmf_batch_fill(batch, dataset, order->normalisation, order->rows, order->n_rows));
    if (order->augment)
        mmf_augment_batch(order->augment, batch, dataset, order->seed, order->step);
    return MMF_OK;
}

static void *work(void *user)
{
    mmf_batch_ahead *const a = user;
    pthread_mutex_lock(&a->lock);
    for (;;) {
        while (a->state != FILLING && a->state != ENDING)
            pthread_cond_wait(&a->changed, &a->lock);
        if (a->state == ENDING)
            break;
        const mmf_batch_order order = a->order;
        pthread_mutex_unlock(&a->lock);
        mmf_batch filled = a->batch;
        filled.ctx = a->own; /* for messages; the memory stays the caller's */
        const mmf_status status = mmf_batch_fill_order(&filled, &a->view, &order);
        pthread_mutex_lock(&a->lock);
        a->batch.n_rows = filled.n_rows;
        if (a->state == FILLING)
            a->state = status == MMF_OK ? FILLED : FAILED;
        pthread_cond_broadcast(&a->changed);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

/* Signals are for the thread that has a stack for their handler. */
static bool start_thread(mmf_batch_ahead *a)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool started = pthread_create(&a->thread, NULL, work, a) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

static mmf_status make_batch(mmf_batch_ahead *a, const mmf_dataset *dataset, const mmf_batch *like)
{
    MMF_TRY(mmf_batch_create(a->ctx, &a->batch, dataset, like->capacity));
    a->batch.wanted = like->wanted;
    bool tracks = like->n_modalities > 0;
    for (size_t i = 0; i < like->n_modalities; i++) {
        int64_t widths[MMF_N_COMPANIONS];
        for (int c = 0; c < MMF_N_COMPANIONS; c++)
            widths[c] =
                like->inputs[i].companions[c] ? dataset->modalities[i].view.companions[c] : 0;
        MMF_TRY(mmf_batch_want_companions(&a->batch, dataset, i, widths));
        tracks = tracks && like->inputs[i].present;
    }
    return tracks ? mmf_batch_track_presence(&a->batch) : MMF_OK;
}

mmf_status mmf_batch_ahead_create(mmf_ctx *ctx, mmf_batch_ahead **out, const mmf_dataset *dataset,
                                  const mmf_batch *like)
{
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.n_threads = 1;
    *out = NULL;
    mmf_batch_ahead *const a = mmf_alloc_zero(ctx, 1, sizeof *a);
    if (!a)
        return MMF_NOMEM;
    a->ctx = ctx;
    mmf_status status = make_batch(a, dataset, like);
    if (status == MMF_OK && mmf_ctx_create(&a->own, &options) != MMF_OK)
        status = mmf_fail(ctx, MMF_NOMEM, "no memory for the thread that fills batches");
    a->view = *dataset;
    a->view.ctx = a->own;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    if (status == MMF_OK && !start_thread(a))
        status = mmf_fail(ctx, MMF_LIMIT, "the system starts no thread to fill batches");
    if (status == MMF_OK) {
        *out = a;
        return MMF_OK;
    }
    mmf_batch_clear(&a->batch);
    mmf_ctx_free(a->own);
    mmf_free(ctx, a);
    return status;
}

void mmf_batch_ahead_free(mmf_batch_ahead *a)
{
    if (!a)
        return;
    pthread_mutex_lock(&a->lock);
    while (a->state == FILLING)
        pthread_cond_wait(&a->changed, &a->lock);
    a->state = ENDING;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->changed);
    mmf_batch_clear(&a->batch);
    mmf_ctx_free(a->own);
    mmf_free(a->ctx, a);
}

void mmf_batch_ahead_start(mmf_batch_ahead *a, const mmf_batch_order *order)
{
    pthread_mutex_lock(&a->lock);
    while (a->state == FILLING)
        pthread_cond_wait(&a->changed, &a->lock);
    a->order = *order;
    a->state = FILLING;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
}

static bool same_order(const mmf_batch_order *a, const mmf_batch_order *b)
{
    return a->normalisation == b->normalisation && a->augment == b->augment && a->rows == b->rows &&
           a->n_rows == b->n_rows && a->seed == b->seed && a->step == b->step;
}

bool mmf_batch_ahead_take(mmf_batch_ahead *a, const mmf_batch_order *order, mmf_batch *batch)
{
    pthread_mutex_lock(&a->lock);
    while (a->state == FILLING)
        pthread_cond_wait(&a->changed, &a->lock);
    const bool is_it = a->state == FILLED && same_order(&a->order, order);
    a->state = IDLE;
    if (is_it) {
        const mmf_batch taken = a->batch;
        a->batch = *batch;
        *batch = taken;
    }
    pthread_mutex_unlock(&a->lock);
    return is_it;
}
