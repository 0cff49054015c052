/* schedule.c: the learning rate's factor over a run. */
#include <math.h>

#include "mmfuse/nn.h"

#define PI 3.14159265358979323846

double mmf_schedule_at(const mmf_schedule *s, int64_t step)
{
    const double total = s->total_steps > 0 ? (double)s->total_steps : 1;
    const double rise = s->warmup * total;
    if ((double)step < rise)
        return ((double)step + 1) / (rise + 1);
    const double progress = total > rise ? fmin(1, ((double)step - rise) / (total - rise)) : 1;
    switch (s->kind) {
    case MMF_SCHEDULE_CONSTANT:
        return 1;
    case MMF_SCHEDULE_STEP: {
        const int64_t epoch = s->steps_per_epoch > 0 ? step / s->steps_per_epoch : 0;
        return pow(s->factor, (double)(s->period > 0 ? epoch / s->period : 0));
    }
    case MMF_SCHEDULE_PLATEAU:
        return s->scale;
    case MMF_SCHEDULE_COSINE:
        return 0.5 * (1 + cos(PI * progress));
    case MMF_SCHEDULE_LINEAR:
        return 1 - progress;
    }
    return 1;
}

void mmf_schedule_epoch(mmf_schedule *s, double valid_loss)
{
    if (s->kind != MMF_SCHEDULE_PLATEAU)
        return;
    if (valid_loss < s->best) {
        s->best = valid_loss;
        s->bad_epochs = 0;
    } else if (++s->bad_epochs > s->period) {
        s->scale *= s->factor;
        s->bad_epochs = 0;
    }
}
