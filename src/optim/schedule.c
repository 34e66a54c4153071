#include "optim/schedule.h"

#include <math.h>

double cst_schedule_lr(const cst_schedule *s, int64_t t)
{
    if (t < s->warmup) return s->lr * (double)(t + 1) / (double)s->warmup;
    if (s->kind == CST_SCHEDULE_CONSTANT) return s->lr;
    if (t >= s->steps) return 0;
    double r = (double)(t - s->warmup) / (double)(s->steps - s->warmup);
    if (s->kind == CST_SCHEDULE_LINEAR) return s->lr * (1 - r);
    return s->lr * 0.5 * (1 + cos(3.14159265358979323846 * r));
}
