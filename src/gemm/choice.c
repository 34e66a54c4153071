#include "gemm/choice.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "gemm/engine.h"
#include "gemm/state.h"

static const char *const kind_name[] = {"columns", "rows", "strips"};

static void state_free(void *p)
{
    cst_gemm_state *s = p;
    cst_tuning_clear(&s->tuning);
    free(s->chosen);
    free(s);
}

cst_status cst_gemm_state_get(cst_gemm_state **out, cst_device *dev)
{
    static int told; /* once, however many sessions open the device */
    if (!dev->gemm) {
        cst_gemm_state *s = calloc(1, sizeof *s);
        if (!s) return cst_fail(CST_NO_MEMORY, "choices of matrix products");
        const char *where;
        if (cst_tuning_find(&s->tuning, &where, dev)) cst_log(CST_LOG_DEBUG, "matrix products use %s settings for \"%s\"", where, dev->info.name);
        else if (!told++) cst_log(CST_LOG_INFO, "matrix products use defaults: `castor tune` measures what \"%s\" does best", dev->info.name);
        dev->gemm = s;
        dev->gemm_free = state_free;
    }
    *out = dev->gemm;
    return CST_OK;
}

static cst_gemm_shape_key key_of(const cst_gemm_args *g)
{
    return (cst_gemm_shape_key){g->m, g->n, g->k, g->trans_a != 0, g->trans_b != 0, g->a->type, g->b->type};
}

static int same(const cst_gemm_shape_key *a, const cst_gemm_shape_key *b)
{
    return a->m == b->m && a->n == b->n && a->k == b->k && a->trans_a == b->trans_a && a->trans_b == b->trans_b && a->type_a == b->type_a &&
           a->type_b == b->type_b;
}

static cst_gemm_chosen *find(cst_gemm_state *s, const cst_gemm_shape_key *key)
{
    for (int i = 0; i < s->count; i++)
        if (same(&s->chosen[i].key, key)) return &s->chosen[i];
    return NULL;
}

static cst_status keep(cst_gemm_state *s, const cst_gemm_shape_key *key, const cst_gemm_choice *how, int pinned)
{
    if (s->count == s->room) {
        int room = s->room ? 2 * s->room : 32;
        cst_gemm_chosen *more = realloc(s->chosen, (size_t)room * sizeof *more);
        if (!more) return cst_fail(CST_NO_MEMORY, "choices of matrix products");
        s->chosen = more;
        s->room = room;
    }
    s->chosen[s->count++] = (cst_gemm_chosen){*key, *how, pinned};
    return CST_OK;
}

/* Forget what wasn't pinned. */
static void forget(cst_gemm_state *s)
{
    int n = 0;
    for (int i = 0; i < s->count; i++)
        if (s->chosen[i].pinned) s->chosen[n++] = s->chosen[i];
    s->count = n;
}

cst_status cst_gemm_set_mode(cst_device *dev, cst_gemm_mode mode)
{
    cst_gemm_state *s;
    CST_TRY(cst_gemm_state_get(&s, dev));
    s->mode = mode;
    forget(s);
    return CST_OK;
}

cst_status cst_gemm_force(cst_device *dev, const cst_gemm_choice *how)
{
    cst_gemm_state *s = NULL;
    CST_TRY(cst_gemm_state_get(&s, dev));
    s->forced = how != NULL;
    if (how) s->force = *how;
    return CST_OK;
}

/* Local memory of a group, bytes. */
static uint64_t local_bytes(const cst_gemm_choice *how, const cst_device *dev)
{
    uint64_t width = how->kind == CST_GEMM_COLUMNS ? (uint64_t)cst_panel_width(dev) : how->kind == CST_GEMM_ROWS ? MR : 0;
    return width * sizeof(float) * (uint64_t)how->count * (uint64_t)how->kc;
}

int cst_gemm_fits(const cst_gemm_choice *how, const cst_device *dev, const cst_gemm_args *g)
{
    if (how->engine == CST_GEMM_SPLIT) return cst_split_fits(dev, g);
    if (how->engine == CST_GEMM_CLBLAST) return g->a->type == CST_F32 && g->b->type == CST_F32;
    if (dev->group > 1 || how->count < 1 || how->kc < 16 || local_bytes(how, dev) > dev->info.local_bytes) return 0;
    return how->kind != CST_GEMM_STRIPS || (g->trans_b && g->b->type == CST_F32);
}

/* As many of `width` as a group can own, up to `most`, so that it has room in the cache and every unit gets groups. */
static int count_for(int64_t size, int width, int kc, int most, uint64_t bytes, uint32_t units)
{
    int count = most;
    while (count > 1 && (4 * (uint64_t)width * (uint64_t)kc * (uint64_t)count > bytes || size < (int64_t)width * count * 2 * units)) count /= 2;
    return count;
}

#define NARROW_KC 128 /* a panel of so many rows, and tiles, fit the first cache */
/* CPUs with narrow vectors, few rows, and op(B) as stored: packing counts, and goes faster where a group owns whole lines of the
 * cache, 48 numbers, of each row; best is one group a unit. 0: the common rule. */
static int narrow_rule(cst_gemm_choice *how, const cst_device *dev, const cst_gemm_args *g)
{
    uint64_t width = (uint64_t)cst_panel_width(dev), panels = ((uint64_t)g->n + width - 1) / width, each = (panels + dev->info.units - 1) / dev->info.units;
    uint64_t bytes = 4 * width * NARROW_KC, most = dev->info.local_bytes / 8 * 5 / bytes; /* panels that leave tiles and C some cache */
    uint64_t count = each <= most ? each : g->m <= 256 && most >= 2 ? 2 : 0;
    if (g->trans_b || how->kind == CST_GEMM_ROWS || g->m > 512 || !count) return 0;
    how->kc = NARROW_KC;
    how->count = (int)count;
    return 1;
}

/* The native engine packs the larger operand group by group. PoCL's local memory is as large as a core's second-level
 * cache, of which a group takes a quarter. */
static cst_gemm_choice native_rule(const cst_device *dev, const cst_gemm_args *g)
{
    cst_gemm_choice how = {CST_GEMM_NATIVE, CST_GEMM_COLUMNS, 1, dev->narrow ? 1024 : 512};
    uint64_t bytes = dev->info.local_bytes / 4;
    if (g->trans_b && g->b->type == CST_F32 && g->m <= 512 && !dev->narrow) {
        how.kind = CST_GEMM_STRIPS;
        how.kc = 1024;
        how.count = count_for(g->n, MR, 0, 4, 1, dev->info.units);
        return how;
    }
    if (g->m > 2 * g->n) how.kind = CST_GEMM_ROWS;
    if (dev->narrow && narrow_rule(&how, dev, g)) return how;
    int width = how.kind == CST_GEMM_ROWS ? MR : cst_panel_width(dev), most = dev->narrow ? 1 : g->m <= 512 ? 2 : 4;
    while (how.kc > 32 && 4 * (uint64_t)width * (uint64_t)how.kc > bytes) how.kc /= 2;
    how.count = how.kind == CST_GEMM_ROWS ? count_for(g->m, MR, how.kc, 16, bytes, dev->info.units) : count_for(g->n, width, how.kc, most, bytes, dev->info.units);
    return how;
}

cst_gemm_choice cst_gemm_rule(const cst_device *dev, const cst_gemm_args *g)
{
    cst_gemm_choice clblast = {CST_GEMM_CLBLAST, CST_GEMM_COLUMNS, 0, 0};
    const cst_gemm_choice split = {CST_GEMM_SPLIT, CST_GEMM_COLUMNS, 0, 0};
    return dev->group == 1 ? native_rule(dev, g) : cst_split_pays(dev, g) ? split : clblast;
}

static double distance(const cst_gemm_shape_key *a, const cst_gemm_args *g)
{
    return fabs(log((double)a->m / (double)g->m)) + fabs(log((double)a->n / (double)g->n)) + fabs(log((double)a->k / (double)g->k));
}

/* The nearest shape of the same form that was measured, if what won there can do this product. */
static int measured(cst_gemm_choice *how, const cst_gemm_state *s, const cst_device *dev, const cst_gemm_args *g)
{
    const cst_tuned_product *best = NULL;
    for (int i = 0; i < s->tuning.products; i++) {
        const cst_tuned_product *p = &s->tuning.product[i];
        if (p->key.trans_a != (g->trans_a != 0) || p->key.trans_b != (g->trans_b != 0) || !cst_gemm_fits(&p->how, dev, g)) continue;
        if (s->mode == CST_GEMM_MODE_NATIVE && p->how.engine != CST_GEMM_NATIVE) continue;
        if (!best || distance(&p->key, g) < distance(&best->key, g)) best = p;
    }
    if (best) *how = best->how;
    return best != NULL;
}

/* What was measured, the rule, and what is left when those are out of use; 0: nothing at `place`. */
static int candidate(cst_gemm_choice *how, int place, const cst_gemm_state *s, const cst_device *dev, const cst_gemm_args *g)
{
    const cst_gemm_choice clblast = {CST_GEMM_CLBLAST, CST_GEMM_COLUMNS, 0, 0};
    if (s->mode == CST_GEMM_MODE_CLBLAST) {
        *how = clblast;
        return place == 0;
    }
    if (place == 0) return measured(how, s, dev, g) ? 1 : candidate(how, 1, s, dev, g);
    if (place == 1) {
        *how = s->mode == CST_GEMM_MODE_NATIVE ? native_rule(dev, g) : cst_gemm_rule(dev, g);
        return 1;
    }
    *how = clblast;
    return place == 2 && s->mode == CST_GEMM_AUTO;
}

static cst_status no_engine(const cst_device *dev)
{
    char why[512];
    snprintf(why, sizeof why, "%s", cst_detail());
    return cst_fail(CST_UNSUPPORTED, "no engine computes matrix products right on \"%s\", driver %s (%s): choose another device or driver, or go on "
                    "nevertheless with CASTOR_SELF_TEST=off in the environment", dev->info.name, dev->info.driver, why);
}

static cst_status choose(cst_gemm_choice *how, cst_gemm_state *s, cst_device *dev, const cst_gemm_args *g, int prove)
{
    char text[48];
    for (int place = 0; candidate(how, place, s, dev, g); place++) {
        if (!cst_gemm_fits(how, dev, g)) continue;
        if (!prove) return CST_OK;
        int before;
        cst_status st = cst_gemm_prove(&before, dev, g, how);
        if (st != CST_STATE && st != CST_BUILD) return st;
        cst_log(before ? CST_LOG_DEBUG : CST_LOG_WARN, "matrix products: %s is out of use on \"%s\": %s", cst_gemm_choice_text(text, how), dev->info.name, cst_detail());
    }
    if (dev->group > 1 && s->mode == CST_GEMM_MODE_NATIVE)
        return cst_fail(CST_UNSUPPORTED, "--gemm native: this engine is for devices that run one work-item per group, as CPUs do; \"%s\" takes --gemm auto or clblast",
                        dev->info.name);
    if (g->a->type == CST_F32 && g->b->type == CST_F32) return no_engine(dev);
    return cst_fail(CST_UNSUPPORTED, "matrix product of %s and %s: only the native engine takes these, and \"%s\" %s", cst_type_name(g->a->type),
                    cst_type_name(g->b->type), dev->info.name, dev->group > 1 ? "hasn't got one yet" : "is set to --gemm clblast");
}

cst_status cst_gemm_choose(cst_gemm_choice *how, cst_device *dev, const cst_gemm_args *g, int prove)
{
    cst_gemm_state *s;
    cst_gemm_shape_key key = key_of(g);
    CST_TRY(cst_gemm_state_get(&s, dev));
    if (s->forced) {
        *how = s->force;
        return cst_gemm_fits(how, dev, g) ? CST_OK : cst_fail(CST_UNSUPPORTED, "the forced variant can't do this matrix product");
    }
    const cst_gemm_chosen *known = find(s, &key);
    if (known) {
        *how = known->how;
        return CST_OK;
    }
    CST_TRY(choose(how, s, dev, g, prove));
    return keep(s, &key, how, 0);
}

const char *cst_gemm_choice_text(char buf[48], const cst_gemm_choice *how)
{
    if (how->engine == CST_GEMM_CLBLAST) snprintf(buf, 48, "clblast");
    else if (how->engine == CST_GEMM_SPLIT) snprintf(buf, 48, "split");
    else snprintf(buf, 48, "native %s %dx%d", kind_name[how->kind], how->count, how->kc);
    return buf;
}

cst_status cst_gemm_choice_parse(cst_gemm_choice *how, const char *text, const char *where)
{
    char kind[16], end;
    *how = (cst_gemm_choice){CST_GEMM_CLBLAST, CST_GEMM_COLUMNS, 0, 0};
    if (!strcmp(text, "clblast")) return CST_OK;
    how->engine = CST_GEMM_SPLIT;
    if (!strcmp(text, "split")) return CST_OK;
    how->engine = CST_GEMM_NATIVE;
    if (sscanf(text, "native %15s %5dx%5d%c", kind, &how->count, &how->kc, &end) == 3 && how->count >= 1 && how->kc >= 16)
        for (int i = 0; i < CST_GEMM_KIND_COUNT; i++)
            if (!strcmp(kind, kind_name[i])) {
                how->kind = (cst_gemm_kind)i;
                return CST_OK;
            }
    return cst_fail(CST_INPUT, "%s: engine \"%s\": \"clblast\", \"split\" or \"native columns|rows|strips COUNTxK\" is wanted", where, text);
}

json_t *cst_gemm_key_json(const cst_gemm_shape_key *k, const cst_gemm_choice *how)
{
    static const char *const form[] = {"NN", "NT", "TN", "TT"};
    char text[48], types[24];
    snprintf(types, sizeof types, "%s %s", cst_type_name(k->type_a), cst_type_name(k->type_b));
    return json_pack("{s:s, s:I, s:I, s:I, s:s, s:s}", "form", form[2 * k->trans_a + k->trans_b], "m", (json_int_t)k->m, "n", (json_int_t)k->n, "k",
                     (json_int_t)k->k, "types", types, "engine", cst_gemm_choice_text(text, how));
}

cst_status cst_gemm_key_read(cst_gemm_shape_key *k, cst_gemm_choice *how, const json_t *j, const char *where)
{
    const char *form = "", *types = "f32 f32", *engine = "";
    *k = (cst_gemm_shape_key){0, 0, 0, 0, 0, CST_TYPE_COUNT, CST_TYPE_COUNT};
    CST_TRY(cst_json_string(&form, j, "form", where));
    CST_TRY(cst_json_string(&types, j, "types", where));
    CST_TRY(cst_json_string(&engine, j, "engine", where));
    CST_TRY(cst_json_int(&k->m, j, "m", 1, INT64_C(1) << 40, where));
    CST_TRY(cst_json_int(&k->n, j, "n", 1, INT64_C(1) << 40, where));
    CST_TRY(cst_json_int(&k->k, j, "k", 1, INT64_C(1) << 40, where));
    for (int t = 0; t < CST_TYPE_COUNT; t++) {
        const char *name = cst_type_name((cst_type)t);
        size_t n = strlen(name);
        if (!strncmp(types, name, n) && types[n] == ' ') k->type_a = (cst_type)t;
        if (strchr(types, ' ') && !strcmp(strchr(types, ' ') + 1, name)) k->type_b = (cst_type)t;
    }
    if (strlen(form) != 2 || strspn(form, "NT") != 2 || !k->m || !k->n || !k->k || k->type_a == CST_TYPE_COUNT || k->type_b == CST_TYPE_COUNT)
        return cst_fail(CST_INPUT, "%s: a product needs \"form\" (NN, NT, TN, TT), \"m\", \"n\", \"k\", \"types\" (\"f32 f32\") and \"engine\"", where);
    k->trans_a = form[0] == 'T';
    k->trans_b = form[1] == 'T';
    return cst_gemm_choice_parse(how, engine, where);
}

json_t *cst_gemm_choices_json(cst_device *dev)
{
    cst_gemm_state *s;
    if (cst_gemm_state_get(&s, dev) != CST_OK) return NULL;
    json_t *all = json_array();
    for (int i = 0; i < s->count; i++) json_array_append_new(all, cst_gemm_key_json(&s->chosen[i].key, &s->chosen[i].how));
    return json_pack("{s:i, s:s, s:s, s:s, s:o}", "schema", 1, "vendor", dev->info.vendor, "device", dev->info.name, "driver", dev->info.driver, "products", all);
}

cst_status cst_gemm_choices_pin(cst_device *dev, const json_t *j, const char *where)
{
    cst_gemm_state *s;
    const char *device = "";
    const json_t *all = json_object_get(j, "products"), *item;
    size_t i;
    CST_TRY(cst_gemm_state_get(&s, dev));
    CST_TRY(cst_json_string(&device, j, "device", where));
    if (strcmp(device, dev->info.name)) return cst_fail(CST_INPUT, "%s: it is for \"%s\", not for \"%s\"", where, device, dev->info.name);
    if (!json_is_array(all)) return cst_fail(CST_INPUT, "%s: \"products\" must be an array", where);
    json_array_foreach(all, i, item)
    {
        cst_gemm_shape_key key;
        cst_gemm_choice how;
        CST_TRY(cst_gemm_key_read(&key, &how, item, where));
        if (local_bytes(&how, dev) > dev->info.local_bytes)
            return cst_fail(CST_INPUT, "%s: an engine needs more local memory than \"%s\" has", where, dev->info.name);
        cst_gemm_chosen *known = find(s, &key);
        if (known) known->how = how, known->pinned = 1;
        else CST_TRY(keep(s, &key, &how, 1));
    }
    return CST_OK;
}
