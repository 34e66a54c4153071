#include "model/freeze.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/names.h"

#define NEAREST 3
#define PATTERN_MAX 256

static int matches(const char *pattern, const cst_param *p)
{
    static const size_t skip[] = {0, sizeof "model." - 1, sizeof "model.decoder." - 1};
    for (size_t i = 0; i < sizeof skip / sizeof *skip; i++)
        if (!fnmatch(pattern, p->name + skip[i], 0)) return 1;
    return p->role == CST_ROLE_EMBED_TOKENS && !fnmatch(pattern, "lm_head.weight", 0);
}

/* Levenshtein's distance between the pattern without its stars and that part of the name which is most like it (Sellers, "The
 * theory and computation of evolutionary distances", 1980). */
static int distance(const char *stars, const char *name)
{
    char pattern[PATTERN_MAX];
    int row[PATTERN_MAX + 1], n = 0, best;
    for (; *stars; stars++)
        if (*stars != '*') pattern[n++] = *stars;
    for (int i = 0; i <= n; i++) row[i] = i;
    best = row[n];
    for (; *name; name++) {
        int corner = 0;
        for (int i = 1; i <= n; i++) {
            int change = corner + (pattern[i - 1] != *name), other = (row[i] < row[i - 1] ? row[i] : row[i - 1]) + 1;
            corner = row[i];
            row[i] = change < other ? change : other;
        }
        if (row[n] < best) best = row[n];
    }
    return best;
}

/* The names that look most like the pattern, one a role. */
static cst_status no_match(const cst_config *c, const char *pattern)
{
    cst_param best[NEAREST];
    int far[NEAREST], n = 0;
    char list[NEAREST * (sizeof best->name + 2)];
    int used = 0;
    for (int id = 0; id < cst_param_count(c); id++) {
        cst_param p;
        CST_TRY(cst_param_get(&p, c, id));
        if (p.layer > 0) break;
        int d = distance(pattern, p.name), at = n < NEAREST ? n++ : NEAREST;
        while (at > 0 && d < far[at - 1]) {
            if (at < NEAREST) best[at] = best[at - 1], far[at] = far[at - 1];
            at--;
        }
        if (at < NEAREST) best[at] = p, far[at] = d;
    }
    for (int i = 0; i < n; i++) used += snprintf(list + used, sizeof list - (size_t)used, "%s%.79s", i ? ", " : "", best[i].name);
    return cst_fail(CST_USAGE, "no parameter is named \"%s\"; similar: %s", pattern, list);
}

static cst_status freeze_pattern(unsigned char *frozen, const cst_config *c, const char *pattern)
{
    int found = 0;
    for (int id = 0; id < cst_param_count(c); id++) {
        cst_param p;
        CST_TRY(cst_param_get(&p, c, id));
        if (matches(pattern, &p)) found = frozen[id] = 1;
    }
    return found ? CST_OK : no_match(c, pattern);
}

cst_status cst_freeze(unsigned char **out, int *count, const cst_config *c, const char *patterns)
{
    int params = cst_param_count(c);
    cst_status st = CST_OK;
    unsigned char *frozen = calloc((size_t)params, 1);
    if (!frozen) return cst_fail(CST_NO_MEMORY, "frozen parameters");
    for (const char *s = patterns;; s++) {
        char pattern[PATTERN_MAX];
        size_t n = strcspn(s, ",");
        if (!n || n >= sizeof pattern) {
            st = cst_fail(CST_USAGE, "\"%.300s\": patterns of 1 to %d characters with commas between them are wanted", patterns,
                          PATTERN_MAX - 1);
            goto fail;
        }
        snprintf(pattern, sizeof pattern, "%.*s", (int)n, s);
        CST_GO(freeze_pattern(frozen, c, pattern), fail);
        s += n;
        if (!*s) break;
    }
    *count = 0;
    for (int id = 0; id < params; id++) *count += frozen[id];
    if (*count == params) {
        st = cst_fail(CST_USAGE, "\"%.300s\" freezes all %d parameters: nothing is left to train", patterns, params);
        goto fail;
    }
    *out = frozen;
    return CST_OK;
fail:
    free(frozen);
    return st;
}
