#include "train/trace_events.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"

enum { COMPUTE = 1, UP, DOWN, HOST }; /* threads, in the order in which they are shown */

/* A string as JSON. */
static void put_text(FILE *f, const char *s)
{
    json_t *v = cst_json_text(s);
    json_dumpf(v, f, JSON_ENCODE_ANY);
    json_decref(v);
}

static void put_names(FILE *f, const cst_trace *t)
{
    static const char *const names[] = {"", "operators", "uploads", "downloads", "host: what is enqueued"};
    fputs("{\"ph\":\"M\",\"pid\":1,\"tid\":0,\"name\":\"process_name\",\"args\":{\"name\":", f);
    put_text(f, *t->device ? t->device : "device");
    fputs("}}", f);
    for (int i = COMPUTE; i <= HOST; i++) {
        fprintf(f, ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"name\":\"thread_name\",\"args\":{\"name\":\"%s\"}}", i, names[i]);
        fprintf(f, ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"name\":\"thread_sort_index\",\"args\":{\"sort_index\":%d}}", i, i);
    }
}

static void put_operator(FILE *f, const cst_trace *t, const cst_span *s)
{
    const cst_trace_moment *m = &t->moment[s->moment];
    fprintf(f, ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"name\":", COMPUTE, 1e6 * s->begin,
            1e6 * (s->end - s->begin));
    put_text(f, m->op);
    fprintf(f, ",\"args\":{\"moment\":%d,\"flops\":%.6g", s->moment, m->flops);
    if (s->tensor >= 0) {
        fprintf(f, ",\"waited_us\":%.3f,\"waited_for\":", 1e6 * s->wait);
        put_text(f, t->tensor[s->tensor].name);
    }
    fputs("}}", f);
}

static void put_transfer(FILE *f, const cst_trace *t, const cst_span *s)
{
    const cst_trace_tensor *x = &t->tensor[s->tensor];
    fprintf(f, ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,\"name\":", s->lane == CST_LANE_UP ? UP : DOWN,
            1e6 * s->begin, 1e6 * (s->end - s->begin));
    put_text(f, x->name);
    fprintf(f, ",\"cat\":\"%s\",\"args\":{\"bytes\":%" PRIu64 ",\"moment\":%d}}", cst_class_name((cst_class)x->cls), s->bytes, s->moment);
}

/* The host runs ahead of the device; each action stands where its operator begins. */
static void put_action(FILE *f, const cst_trace *t, const cst_timeline *l, const cst_plan_action *a)
{
    double at = a->moment < t->moments ? l->span[l->first[CST_LANE_COMPUTE] + a->moment].begin : l->seconds;
    fprintf(f, ",\n{\"ph\":\"i\",\"s\":\"t\",\"pid\":1,\"tid\":%d,\"ts\":%.3f,\"name\":\"%s\",\"args\":{\"tensor\":", HOST, 1e6 * at,
            cst_plan_kind_name(a->kind));
    put_text(f, t->tensor[a->tensor].name);
    fprintf(f, ",\"bytes\":%" PRIu64 ",\"moves\":%s}}", t->tensor[a->tensor].bytes, a->moves ? "true" : "false");
}

static void put_level(FILE *f, const cst_level *v)
{
    fprintf(f, ",\n{\"ph\":\"C\",\"pid\":1,\"ts\":%.3f,\"name\":\"device memory\",\"args\":{", 1e6 * v->at);
    for (int c = 0; c < CST_CLASS_COUNT; c++) fprintf(f, "%s\"%s\":%" PRIu64, c ? "," : "", cst_class_name((cst_class)c), v->bytes[c]);
    fputs("}}", f);
}

cst_status cst_trace_events_write(const char *path, const cst_trace *t, const cst_plan *p, const cst_timeline *l)
{
    cst_level *level;
    int levels;
    char *text = NULL;
    size_t size;
    CST_TRY(cst_timeline_levels(&level, &levels, l, t));
    cst_status st = CST_OK;
    FILE *f = open_memstream(&text, &size);
    if (!f) {
        free(level);
        return cst_fail(CST_NO_MEMORY, "%s", path);
    }
    fputs("{\"displayTimeUnit\":\"ms\",\"otherData\":{\"about\":", f);
    put_text(f, t->about);
    fputs("},\"traceEvents\":[\n", f);
    put_names(f, t);
    for (int i = 0; i < l->spans; i++) {
        if (l->span[i].lane == CST_LANE_COMPUTE) put_operator(f, t, &l->span[i]);
        else if (l->span[i].lane != CST_LANE_ROOM) put_transfer(f, t, &l->span[i]);
    }
    for (int i = 0; i < p->actions; i++) put_action(f, t, l, &p->action[i]);
    for (int i = 0; i < levels; i++) put_level(f, &level[i]);
    fputs("\n]}\n", f);
    int bad = ferror(f);
    if (fclose(f) || bad) st = cst_fail(CST_NO_MEMORY, "%s", path);
    else st = cst_file_write(path, text, size);
    free(text);
    free(level);
    return st;
}
