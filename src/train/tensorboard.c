#include "train/tensorboard.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

#define SCALARS_MAX 16
#define TAG_MAX 100
#define PAYLOAD_MAX (64 + SCALARS_MAX * (TAG_MAX + 16))  /* an event around as many values */

struct cst_events {
    int fd;
    char *path;
};

/* Bytes under construction; what doesn't fit can't be: sizes are limited above. */
typedef struct message {
    uint8_t data[PAYLOAD_MAX];
    size_t n;
} message;

uint32_t cst_crc32c(const void *data, size_t n)
{
    const uint8_t *p = data;
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (0x82f63b78u & -(c & 1)); /* a few hundred bytes a step: no table */
    }
    return ~c;
}

static uint32_t masked(const void *data, size_t n)
{
    uint32_t c = cst_crc32c(data, n);
    return (c >> 15 | c << 17) + 0xa282ead8u;
}

static void put_little(message *m, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) m->data[m->n++] = (uint8_t)(v >> 8 * i);
}

static void put_varint(message *m, uint64_t v)
{
    for (; v > 127; v >>= 7) m->data[m->n++] = (uint8_t)(v | 128);
    m->data[m->n++] = (uint8_t)v;
}

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static void put_key(message *m, int field, int type)
{
    m->data[m->n++] = (uint8_t)(field << 3 | type);
}

static void put_bytes(message *m, int field, const void *data, size_t n)
{
    put_key(m, field, BYTES);
    put_varint(m, n);
    memcpy(m->data + m->n, data, n);
    m->n += n;
}

static double wall_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void begin_event(message *m)
{
    double t = wall_time();
    uint64_t bits;
    memcpy(&bits, &t, sizeof bits);
    m->n = 0;
    put_key(m, 1, FIXED64);
    put_little(m, bits, 8);
}

/* One write a record, so that a reader never sees a part of it as the whole. */
static cst_status put_record(cst_events *e, const message *payload)
{
    static const size_t frame = 8 + 4 + 4;
    uint8_t record[8 + 4 + PAYLOAD_MAX + 4];
    message m = {.n = 0};
    put_little(&m, payload->n, 8);
    put_little(&m, masked(m.data, 8), 4);
    memcpy(record, m.data, 12);
    memcpy(record + 12, payload->data, payload->n);
    m.n = 0;
    put_little(&m, masked(payload->data, payload->n), 4);
    memcpy(record + 12 + payload->n, m.data, 4);
    ssize_t n = write(e->fd, record, payload->n + frame);
    if (n == (ssize_t)(payload->n + frame)) return CST_OK;
    return cst_fail(CST_IO, "%s: %s", e->path, n < 0 ? strerror(errno) : "no space");
}

/* A name that isn't taken. */
static cst_status make_file(cst_events *e, const char *dir)
{
    char name[64];
    long long now = (long long)time(NULL);
    for (int i = 0; i < 1000; i++) {
        int n = snprintf(name, sizeof name, "events.out.tfevents.%lld.castor", now);
        if (i) snprintf(name + n, sizeof name - (size_t)n, ".%d", i);
        free(e->path);
        if (!(e->path = cst_path_join(dir, name))) return cst_fail(CST_NO_MEMORY, "%s", dir);
        e->fd = open(e->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
        if (e->fd >= 0 || errno != EEXIST) break;
    }
    return e->fd < 0 ? cst_fail(CST_IO, "%s: %s", e->path, strerror(errno)) : CST_OK;
}

cst_status cst_events_open(cst_events **out, const char *dir)
{
    static const char version[] = "brain.Event:2";
    message m;
    cst_status st;
    cst_events *e = calloc(1, sizeof *e);
    if (!e) return cst_fail(CST_NO_MEMORY, "%s", dir);
    e->fd = -1;
    CST_GO(make_file(e, dir), fail);
    begin_event(&m);
    put_bytes(&m, 3, version, sizeof version - 1);
    CST_GO(put_record(e, &m), fail);
    *out = e;
    return CST_OK;
fail:
    cst_events_close(e);
    return st;
}

cst_status cst_events_write(cst_events *e, int64_t step, const cst_scalar *scalar, int n)
{
    message m, summary = {.n = 0};
    if (n > SCALARS_MAX) return cst_fail(CST_USAGE, "%d scalars of one step; at most %d", n, SCALARS_MAX);
    for (int i = 0; i < n; i++) {
        message value = {.n = 0};
        float v = (float)scalar[i].value;
        uint32_t bits;
        if (isnan(v)) continue;
        if (strlen(scalar[i].tag) > TAG_MAX) return cst_fail(CST_USAGE, "%s: longer than %d bytes", scalar[i].tag, TAG_MAX);
        memcpy(&bits, &v, sizeof bits);
        put_bytes(&value, 1, scalar[i].tag, strlen(scalar[i].tag));
        put_key(&value, 2, FIXED32);
        put_little(&value, bits, 4);
        put_bytes(&summary, 1, value.data, value.n);
    }
    begin_event(&m);
    put_key(&m, 2, VARINT);
    put_varint(&m, (uint64_t)step);
    put_bytes(&m, 5, summary.data, summary.n);
    return put_record(e, &m);
}

void cst_events_close(cst_events *e)
{
    if (!e) return;
    if (e->fd >= 0) close(e->fd);
    free(e->path);
    free(e);
}
