/* Where castor plan and castor trace get a trace: a file, or a configuration. */
#include <stdio.h>
#include <string.h>

#include "cli/plan_trace.h"

/* "opt-350m, batch 8 x 1024, 4 micro-batches, recompute layer" */
static void tell_about(cst_trace *t, const cst_args *a, const cst_session_options *o)
{
    const char *name = a->text[CST_OPTION_CONFIG], *slash = strrchr(name, '/');
    char micros[40] = "";
    if (o->accum > 1) snprintf(micros, sizeof micros, ", %d micro-batches", o->accum);
    snprintf(t->about, sizeof t->about, "%.120s, batch %lld x %lld%s%s", slash && slash[1] ? slash + 1 : name, (long long)o->batch,
             (long long)o->seq, micros, o->recompute == CST_RECOMPUTE_LAYER ? ", recompute layer" : "");
}

/* A session to ask about the configuration, and the trace it begins with. */
static cst_status from_config(cst_session **session, cst_trace **out, const cst_args *a)
{
    cst_config c;
    cst_session_options o;
    CST_TRY(cst_config_from(&c, a));
    CST_TRY(cst_session_options_from(&o, a, &c));
    o.device = a->text[CST_OPTION_DEVICE_OF]; /* not $CASTOR_DEVICE: a plan is for what isn't here as well */
    CST_TRY(cst_session_imagine(session, &o));
    cst_status st = cst_session_trace(out, *session);
    if (st != CST_OK) return cst_session_close(*session, st);
    tell_about(*out, a, &o);
    return CST_OK;
}

/* *session: NULL when it is a file's. */
static cst_status take_trace(cst_session **session, cst_trace **out, const cst_args *a)
{
    const char *file = a->operand ? a->operand : a->text[CST_OPTION_TRACE], *rates = a->text[CST_OPTION_RATES];
    int computing = 0;
    *session = NULL;
    if (file && a->text[CST_OPTION_CONFIG])
        return cst_fail(CST_USAGE, "--trace and --config exclude each other: a trace is of one configuration");
    CST_TRY(file ? cst_trace_load(out, file) : from_config(session, out, a));
    cst_trace *t = *out;
    cst_status st = rates ? cst_rates_load(&t->rates, rates, &computing) : CST_OK;
    for (int k = 0; computing && k < t->moments; k++) t->moment[k].seconds = -1;
    if (st == CST_OK) return st;
    cst_trace_free(t);
    return cst_session_close(*session, st);
}

cst_status cst_trace_from(cst_trace **out, const cst_args *a)
{
    cst_session *s;
    cst_trace *t;
    if (a->command & IN_TRACED && !a->operand)
        return cst_fail(CST_USAGE, "castor %s needs a FILE, as castor trace record writes it", a->command_name);
    CST_TRY(take_trace(&s, &t, a));
    cst_status st = cst_session_close(s, CST_OK);
    if (st == CST_OK) *out = t;
    else cst_trace_free(t);
    return st;
}

cst_status cst_planner_open(cst_planner *p, const cst_args *a)
{
    CST_TRY(take_trace(&p->s, &p->t, a));
    cst_status st = p->s ? cst_session_extremes(&p->least, &p->resident, p->s) : cst_trace_extremes(&p->least, &p->resident, p->t);
    return st == CST_OK ? st : cst_planner_close(p, st);
}

cst_status cst_planner_ask(cst_outlook *x, cst_timeline **l, cst_planner *p, uint64_t budget)
{
    *x = (cst_outlook){.plan = NULL};
    if (p->s) {
        CST_TRY(cst_session_foresee(x, p->s, budget, &p->t->rates));
        cst_status st = cst_timeline_make(l, x->plan, x->trace);
        if (st != CST_OK) cst_outlook_clear(x);
        return st;
    }
    CST_TRY(cst_trace_plan(&x->plan, l, p->t, budget));
    const cst_plan *q = x->plan;
    cst_status st = cst_plan_takes(&x->bytes, p->t, budget - p->t->scratch, p->resident - p->t->scratch);
    if (st == CST_OK) st = cst_trace_copy(&x->trace, p->t);
    x->bytes += p->t->scratch;
    x->host_bytes = q->host_bytes;
    x->up_bytes = q->up_bytes;
    x->down_bytes = q->down_bytes;
    x->seconds = q->seconds;
    if (st == CST_OK) return st;
    cst_timeline_free(*l);
    cst_outlook_clear(x);
    return st;
}

cst_status cst_planner_close(cst_planner *p, cst_status st)
{
    cst_trace_free(p->t);
    return cst_session_close(p->s, st);
}

cst_status cst_trace_extremes(uint64_t *least, uint64_t *resident, const cst_trace *t)
{
    CST_TRY(cst_plan_least(least, t));
    CST_TRY(cst_plan_resident(resident, t));
    *least += t->scratch;
    *resident += t->scratch;
    return CST_OK;
}

cst_status cst_trace_budget(uint64_t *budget, const cst_args *a, const cst_trace *t)
{
    uint64_t least;
    if (!a->text[CST_OPTION_BUDGET]) return cst_trace_extremes(&least, budget, t);
    *budget = cst_args_size(a, CST_OPTION_BUDGET);
    return CST_OK;
}

cst_status cst_trace_plan(cst_plan **p, cst_timeline **l, const cst_trace *t, uint64_t budget)
{
    uint64_t least, resident;
    char a[32], b[32];
    cst_plan *plan = NULL;
    CST_TRY(cst_trace_extremes(&least, &resident, t));
    if (budget < least)
        return cst_fail(CST_OVER_BUDGET,
                        "%s of device memory are too little for this step: the smallest --device-mem that works is %llu (%s)",
                        cst_bytes_text(a, (double)budget), (unsigned long long)least, cst_bytes_text(b, (double)least));
    CST_TRY(cst_plan_make(&plan, t, budget - t->scratch));
    cst_status st = cst_timeline_make(l, plan, t);
    if (st == CST_OK) *p = plan;
    else cst_plan_free(plan);
    return st;
}

const char *cst_seconds_text(char buf[32], double s)
{
    if (s < 1e-9) snprintf(buf, 32, "0 s");
    else if (s >= 0.9995) snprintf(buf, 32, "%.3g s", s);
    else if (s >= 0.9995e-3) snprintf(buf, 32, "%.3g ms", 1e3 * s);
    else snprintf(buf, 32, "%.3g us", 1e6 * s);
    return buf;
}

const char *cst_thousands_text(char buf[32], double v, const char *unit)
{
    static const char prefix[] = " kMGTPE";
    int i = 0;
    while (v >= 999.5 && prefix[i + 1]) v /= 1000, i++;
    if (i) snprintf(buf, 32, "%.3g %c%s", v, prefix[i], unit);
    else snprintf(buf, 32, "%.3g %s", v, unit);
    return buf;
}
