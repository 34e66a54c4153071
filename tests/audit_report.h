/* Books of the audit layer: its counters, its settings from the environment, the JSON file it leaves behind,
 * and the table of the objects that live. Part of audit_layer.c, which is one shared object without further
 * libraries; included there only. docs/audit.md defines every key.
 */
#ifndef AUDIT_REPORT_H
#define AUDIT_REPORT_H

#include <CL/cl.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define AUDIT_SCHEMA 1

/* Each counter is a key of the report. A "live" one is followed by its peak; the shapes of memory objects
 * stand in the order of enum shape; a direction has its four counters in the order of enum move. */
#define AUDIT_COUNTERS(X)                                                                              \
    X(calls) X(failed_calls) X(faults_injected) X(book_errors) X(config_errors)                        \
    X(device_bytes_live) X(device_bytes_peak) X(device_bytes_allocated) X(largest_allocation)          \
    X(pinned_bytes_live) X(pinned_bytes_peak)                                                          \
    X(svm_bytes_live) X(svm_bytes_peak)                                                                \
    X(host_registered_bytes_live) X(host_registered_bytes_peak)                                        \
    X(buffers_created) X(subbuffers_created) X(images_created) X(pipes_created) X(svm_created)         \
    X(buffers_alive) X(subbuffers_alive) X(images_alive) X(pipes_alive) X(svm_alive)                   \
    X(h2d_bytes) X(h2d_calls) X(h2d_blocking_bytes) X(h2d_blocking_calls)                              \
    X(d2h_bytes) X(d2h_calls) X(d2h_blocking_bytes) X(d2h_blocking_calls)                              \
    X(copy_calls) X(d2d_bytes) X(copy_h2d_bytes) X(copy_d2h_bytes) X(copy_h2h_bytes)                   \
    X(svm_copy_calls) X(svm_copy_bytes) X(init_bytes)                                                  \
    X(fill_calls) X(fill_bytes)                                                                        \
    X(map_calls) X(map_blocking_calls) X(map_bytes) X(map_read_bytes) X(map_write_bytes) X(unmap_calls) \
    X(migrate_calls) X(migrate_h2d_bytes) X(migrate_d2h_bytes) X(migrate_undefined_bytes)              \
    X(blocking_calls) X(blocking_ns) X(finish_calls) X(wait_calls)                                     \
    X(kernel_launches) X(builds) X(compiles) X(links)

enum counter {
#define X(name) C_##name,
    AUDIT_COUNTERS(X)
#undef X
    C_COUNT
};

/* Kinds of object that are counted by handle: key under "created" and "alive". */
#define AUDIT_TYPES(X) X(contexts) X(queues) X(programs) X(kernels) X(events) X(samplers) X(mems)

enum type {
#define X(name) T_##name,
    AUDIT_TYPES(X)
#undef X
    T_COUNT,
    T_svm = T_COUNT /* in the table, but counted as a shape only */
};

enum fault { F_create, F_enqueue, F_write, F_read, F_COUNT, F_NONE = F_COUNT };

static struct {
    char *file; /* NULL: no report */
    pid_t pid;  /* a fork without exec must not write over its parent's report */
    uint64_t limit;
    int has_limit, over_limit, closed;
    uint64_t over_limit_call, over_limit_bytes;
    uint64_t n[C_COUNT], created[T_COUNT], alive[T_COUNT];
    struct {
        uint64_t at, seen; /* at 0: off */
        int onward;
    } fault[F_COUNT];
} audit;

static void config_error(const char *name, const char *value)
{
    fprintf(stderr, "audit layer: %s: cannot use \"%s\"\n", name, value);
    audit.n[C_config_errors]++;
}

/* Decimal digits only, up to the end or a character of `stops`; *end is set behind them. */
static int parse_count(uint64_t *v, const char *s, const char **end, const char *stops)
{
    char *e;
    if (*s < '0' || *s > '9') return 0;
    errno = 0;
    *v = strtoull(s, &e, 10);
    *end = e;
    return !errno && (!*e || strchr(stops, *e));
}

/* "create:3,enqueue:10+": the third creation fails; the tenth enqueue and all after it fail. */
static int parse_faults(const char *s)
{
    static const char *const names[F_COUNT] = {"create", "enqueue", "write", "read"};
    for (;;) {
        int f = 0;
        size_t len = strcspn(s, ":");
        while (f < F_COUNT && (strlen(names[f]) != len || strncmp(s, names[f], len))) f++;
        if (f == F_COUNT || s[len] != ':') return 0;
        if (!parse_count(&audit.fault[f].at, s + len + 1, &s, "+,") || !audit.fault[f].at) return 0;
        if (*s == '+') audit.fault[f].onward = 1, s++;
        if (!*s) return 1;
        if (*s++ != ',') return 0;
    }
}

/* The value with the first %p replaced by the process number; malloc'd. */
static char *expand_name(const char *s)
{
    const char *p = strstr(s, "%p");
    size_t n = strlen(s) + 24;
    char *name = malloc(n);
    if (!name) return NULL;
    if (p) snprintf(name, n, "%.*s%ld%s", (int)(p - s), s, (long)getpid(), p + 2);
    else snprintf(name, n, "%s", s);
    return name;
}

static void read_settings(void)
{
    const char *file = getenv("CASTOR_AUDIT_FILE"), *limit = getenv("CASTOR_AUDIT_LIMIT");
    const char *faults = getenv("CASTOR_AUDIT_FAIL"), *end;
    audit.pid = getpid();
    if (file && *file && !(audit.file = expand_name(file))) config_error("CASTOR_AUDIT_FILE", file);
    if (limit && *limit) {
        audit.has_limit = parse_count(&audit.limit, limit, &end, "");
        if (!audit.has_limit) config_error("CASTOR_AUDIT_LIMIT", limit);
    }
    if (faults && *faults && !parse_faults(faults)) {
        memset(audit.fault, 0, sizeof audit.fault);
        config_error("CASTOR_AUDIT_FAIL", faults);
    }
}

static void print_types(FILE *f, const char *key, const uint64_t *v)
{
    static const char *const names[T_COUNT] = {
#define X(name) #name,
        AUDIT_TYPES(X)
#undef X
    };
    fprintf(f, "  \"%s\": {", key);
    for (int i = 0; i < T_COUNT; i++) fprintf(f, "%s\"%s\": %" PRIu64, i ? ", " : "", names[i], v[i]);
    fprintf(f, "},\n");
}

static void print_report(FILE *f)
{
    static const char *const names[C_COUNT] = {
#define X(name) #name,
        AUDIT_COUNTERS(X)
#undef X
    };
    fprintf(f, "{\n  \"schema\": %d,\n  \"pid\": %ld,\n", AUDIT_SCHEMA, (long)audit.pid);
    for (int i = 0; i < C_COUNT; i++) fprintf(f, "  \"%s\": %" PRIu64 ",\n", names[i], audit.n[i]);
    print_types(f, "created", audit.created);
    print_types(f, "alive", audit.alive);
    if (audit.has_limit) fprintf(f, "  \"limit_bytes\": %" PRIu64 ",\n", audit.limit);
    else fprintf(f, "  \"limit_bytes\": null,\n");
    fprintf(f, "  \"over_limit\": %s,\n", audit.over_limit ? "true" : "false");
    fprintf(f, "  \"over_limit_call\": %" PRIu64 ",\n", audit.over_limit_call);
    fprintf(f, "  \"over_limit_bytes\": %" PRIu64 "\n}\n", audit.over_limit_bytes);
}

/* Write the report so that a reader sees the old file or the whole new one. Called with the lock held. */
static void write_report(void)
{
    if (!audit.file || getpid() != audit.pid) return;
    size_t n = strlen(audit.file) + 32;
    char *temp = malloc(n);
    if (!temp) return;
    snprintf(temp, n, "%s.%ld.tmp", audit.file, (long)audit.pid);
    FILE *f = fopen(temp, "we");
    int bad = !f;
    if (f) {
        print_report(f);
        bad = ferror(f);
        bad |= fclose(f);
    }
    if (bad || rename(temp, audit.file)) {
        fprintf(stderr, "audit layer: %s: %s\n", audit.file, strerror(errno));
        unlink(temp);
    }
    free(temp);
}

enum shape { S_BUFFER, S_SUBBUFFER, S_IMAGE, S_PIPE, S_SVM };
enum move { M_BYTES, M_CALLS, M_BLOCKING_BYTES, M_BLOCKING_CALLS };

struct object {
    struct object *chain, *parent;
    const void *handle;
    enum type type;
    enum shape shape;
    int host, pinned;        /* made over the caller's memory; made with ALLOC_HOST_PTR */
    uint64_t refs, children; /* children: memory objects made from this one */
    uint64_t size, charged;  /* charged: the bytes that end with it, 0 when it shares its parent's */
};

#define BUCKETS 65536
static struct object *table[BUCKETS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- objects; all of this with the lock held ---- */

static struct object **bucket(const void *handle)
{
    uint64_t h = (uint64_t)(uintptr_t)handle * 0x9e3779b97f4a7c15u;
    return &table[h >> 48];
}

static struct object *find(enum type type, const void *handle)
{
    struct object *o = *bucket(handle);
    while (o && (o->handle != handle || o->type != type)) o = o->chain;
    return o;
}

static void raise_live(enum counter live, uint64_t bytes)
{
    audit.n[live] += bytes;
    if (audit.n[live] > audit.n[live + 1]) audit.n[live + 1] = audit.n[live];
}

static void check_limit(void)
{
    if (!audit.has_limit || audit.over_limit || audit.n[C_device_bytes_live] <= audit.limit) return;
    audit.over_limit = 1;
    audit.over_limit_call = audit.n[C_calls];
    audit.over_limit_bytes = audit.n[C_device_bytes_live];
}

static void charge(struct object *o, uint64_t bytes)
{
    o->charged = bytes;
    if (o->host) {
        raise_live(C_host_registered_bytes_live, bytes);
        return;
    }
    raise_live(C_device_bytes_live, bytes);
    if (o->pinned) raise_live(C_pinned_bytes_live, bytes);
    if (o->shape == S_SVM) raise_live(C_svm_bytes_live, bytes);
    audit.n[C_device_bytes_allocated] += bytes;
    if (bytes > audit.n[C_largest_allocation]) audit.n[C_largest_allocation] = bytes;
    check_limit();
}

static void discharge(struct object *o)
{
    audit.n[o->host ? C_host_registered_bytes_live : C_device_bytes_live] -= o->charged;
    if (o->pinned) audit.n[C_pinned_bytes_live] -= o->charged;
    if (o->shape == S_SVM) audit.n[C_svm_bytes_live] -= o->charged;
}

/* One more reference that the program has to release. A platform may hand out one handle twice. */
static struct object *add(enum type type, const void *handle)
{
    struct object *o = find(type, handle);
    if (!o) {
        o = calloc(1, sizeof *o);
        if (!o) {
            audit.n[C_book_errors]++;
            return NULL;
        }
        struct object **b = bucket(handle);
        *o = (struct object){.chain = *b, .handle = handle, .type = type};
        *b = o;
        if (type < T_COUNT) audit.created[type]++, audit.alive[type]++;
    } else if (type == T_mems || type == T_svm) {
        audit.n[C_book_errors]++; /* it must have been freed past this layer */
    }
    o->refs++;
    return o;
}

static void drop(struct object *o)
{
    struct object **b = bucket(o->handle);
    while (*b != o) b = &(*b)->chain;
    *b = o->chain;
    free(o);
}

/* End every memory object from o upwards that neither the program nor another object holds any more. */
static void settle(struct object *o)
{
    while (o && !o->refs && !o->children) {
        struct object *parent = o->parent;
        discharge(o);
        audit.n[C_buffers_alive + o->shape]--;
        drop(o);
        if (parent) parent->children--;
        o = parent;
    }
}

static void release(enum type type, const void *handle)
{
    struct object *o = find(type, handle);
    if (!o || !o->refs) {
        audit.n[C_book_errors]++;
        return;
    }
    if (--o->refs) return;
    if (type < T_COUNT) audit.alive[type]--;
    if (type == T_mems || type == T_svm) settle(o);
    else drop(o);
}

static void add_memory(enum type type, const void *handle, enum shape shape, cl_mem_flags flags, uint64_t size,
                       cl_mem parent)
{
    struct object *o = add(type, handle);
    audit.n[C_buffers_created + shape]++;
    audit.n[C_buffers_alive + shape]++;
    if (!o) return;
    o->shape = shape;
    o->size = size;
    o->host = (flags & CL_MEM_USE_HOST_PTR) != 0;
    o->pinned = !o->host && (flags & CL_MEM_ALLOC_HOST_PTR);
    if (parent) {
        o->parent = find(T_mems, parent);
        if (o->parent) {
            o->parent->children++;
            o->host = o->parent->host;
            o->pinned = o->parent->pinned;
        } else {
            audit.n[C_book_errors]++;
        }
    }
    if (flags & CL_MEM_COPY_HOST_PTR) audit.n[C_init_bytes] += size;
    charge(o, parent ? 0 : size);
}

/* ---- around a call ---- */

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int fault_due(enum fault f)
{
    if (!audit.fault[f].at) return 0;
    uint64_t seen = ++audit.fault[f].seen;
    return seen == audit.fault[f].at || (audit.fault[f].onward && seen > audit.fault[f].at);
}

/* Count the call and say whether it is to fail instead of running. Reads and writes are enqueues too. */
static cl_int begin(enum fault f)
{
    cl_int r = CL_SUCCESS;
    pthread_mutex_lock(&lock);
    audit.n[C_calls]++;
    if (f != F_NONE && fault_due(f)) r = CL_MEM_OBJECT_ALLOCATION_FAILURE;
    if ((f == F_read || f == F_write) && fault_due(F_enqueue)) r = CL_MEM_OBJECT_ALLOCATION_FAILURE;
    if (r) audit.n[C_faults_injected]++;
    pthread_mutex_unlock(&lock);
    return r;
}

static void count_blocking(uint64_t start)
{
    audit.n[C_blocking_calls]++;
    audit.n[C_blocking_ns] += now_ns() - start;
}

#endif
