#include "memory/arena.h"

#include <stdlib.h>
#include <string.h>

void cst_arena_init(cst_arena *a, size_t align, size_t max_slab)
{
    memset(a, 0, sizeof *a);
    a->align = align;
    a->max_slab = max_slab / align * align;
}

void cst_arena_clear(cst_arena *a)
{
    for (int i = 0; i < a->slabs; i++) free(a->slab[i].hole);
    free(a->slab);
    cst_arena_init(a, a->align, a->max_slab);
}

size_t cst_arena_round(const cst_arena *a, size_t bytes)
{
    return (bytes + a->align - 1) / a->align * a->align;
}

cst_status cst_arena_add(cst_arena *a, size_t capacity)
{
    cst_slab *more = realloc(a->slab, (size_t)(a->slabs + 1) * sizeof *more);
    if (!more) return cst_fail(CST_NO_MEMORY, "arena");
    a->slab = more;
    cst_slab *s = &a->slab[a->slabs];
    memset(s, 0, sizeof *s);
    s->room = 16;
    s->hole = malloc((size_t)s->room * sizeof *s->hole);
    if (!s->hole) return cst_fail(CST_NO_MEMORY, "arena");
    s->capacity = cst_arena_round(a, capacity);
    s->hole[0] = (cst_range){0, s->capacity};
    s->holes = 1;
    a->slabs++;
    return CST_OK;
}

static int make_room(cst_slab *s)
{
    if (s->holes + 2 <= s->room) return 1;
    cst_range *more = realloc(s->hole, (size_t)s->room * 2 * sizeof *more);
    if (!more) return 0;
    s->hole = more;
    s->room *= 2;
    return 1;
}

int cst_arena_place(cst_arena *a, size_t bytes, int *slab, size_t *offset)
{
    size_t need = cst_arena_round(a, bytes);
    for (int i = 0; i < a->slabs; i++) {
        cst_slab *s = &a->slab[i];
        for (int h = 0; h < s->holes; h++) {
            cst_range *r = &s->hole[h];
            if (r->size < need) continue;
            *slab = i;
            *offset = r->offset;
            r->offset += need;
            r->size -= need;
            if (!r->size) memmove(r, r + 1, (size_t)(--s->holes - h) * sizeof *r);
            if (*offset + need > s->high) s->high = *offset + need;
            a->used += need;
            return 1;
        }
    }
    return 0;
}

int cst_arena_place_at(cst_arena *a, size_t bytes, int slab, size_t offset)
{
    cst_slab *s = &a->slab[slab];
    size_t need = cst_arena_round(a, bytes);
    int h = 0;
    while (h < s->holes && s->hole[h].offset + s->hole[h].size <= offset) h++;
    if (h == s->holes || s->hole[h].offset > offset || s->hole[h].offset + s->hole[h].size < offset + need || !make_room(s)) return 0;
    cst_range left = {s->hole[h].offset, offset - s->hole[h].offset};
    cst_range right = {offset + need, s->hole[h].offset + s->hole[h].size - offset - need};
    int n = (left.size > 0) + (right.size > 0);
    memmove(&s->hole[h + n], &s->hole[h + 1], (size_t)(s->holes - h - 1) * sizeof *s->hole);
    s->holes += n - 1;
    if (left.size) s->hole[h] = left;
    if (right.size) s->hole[h + (left.size > 0)] = right;
    if (offset + need > s->high) s->high = offset + need;
    a->used += need;
    return 1;
}

void cst_arena_remove(cst_arena *a, size_t bytes, int slab, size_t offset)
{
    cst_slab *s = &a->slab[slab];
    size_t size = cst_arena_round(a, bytes);
    a->used -= size;
    int h = 0;
    while (h < s->holes && s->hole[h].offset < offset) h++;
    int joins_left = h > 0 && s->hole[h - 1].offset + s->hole[h - 1].size == offset;
    int joins_right = h < s->holes && offset + size == s->hole[h].offset;
    if (joins_left && joins_right) {
        s->hole[h - 1].size += size + s->hole[h].size;
        memmove(&s->hole[h], &s->hole[h + 1], (size_t)(--s->holes - h) * sizeof *s->hole);
    } else if (joins_left) {
        s->hole[h - 1].size += size;
    } else if (joins_right) {
        s->hole[h].offset = offset;
        s->hole[h].size += size;
    } else {
        if (!make_room(s)) return; /* out of host memory: the range is lost, and cst_arena_wrong says so */
        memmove(&s->hole[h + 1], &s->hole[h], (size_t)(s->holes++ - h) * sizeof *s->hole);
        s->hole[h] = (cst_range){offset, size};
    }
}

void cst_arena_fix(cst_arena *a)
{
    for (int i = 0; i < a->slabs; i++) {
        cst_slab *s = &a->slab[i];
        cst_range *last = s->holes ? &s->hole[s->holes - 1] : NULL;
        if (last && last->offset + last->size == s->capacity) { /* its part above the mark goes */
            last->size = s->high > last->offset ? s->high - last->offset : 0;
            if (!last->size) s->holes--;
        }
        s->capacity = s->high;
    }
}

int cst_arena_wrong(const cst_arena *a)
{
    size_t used = 0;
    for (int i = 0; i < a->slabs; i++) {
        const cst_slab *s = &a->slab[i];
        size_t end = 0, holes = 0;
        for (int h = 0; h < s->holes; h++) {
            const cst_range *r = &s->hole[h];
            if (!r->size || (h && r->offset <= end) || r->offset + r->size > s->capacity) return 1;
            end = r->offset + r->size;
            holes += r->size;
        }
        used += s->capacity - holes;
    }
    return used != a->used;
}
