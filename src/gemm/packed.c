#include "gemm/packed.h"

#include <stdlib.h>

#include "gemm/engine.h"
#include "memory/launch.h"

static void packed_free(void *p)
{
    cst_tensor_free(((cst_packed *)p)->panels);
    free(p);
}

cst_status cst_gemm_keep_packed(cst_tensor *w)
{
    cst_status st;
    CST_TRY(cst_expect("keep_packed", w, CST_F32, 2, 0, 0));
    if (w->companion_free == packed_free) return CST_OK;
    cst_packed *p = calloc(1, sizeof *p);
    if (!p) return cst_fail(CST_NO_MEMORY, "%s packed", w->name);
    int64_t width = cst_panel_width(cst_mem_device(w->mem));
    CST_GO(cst_tensor_create(&p->panels, w->mem, CST_PARAM, CST_F32, 3, (int64_t[]){(w->dim[1] + width - 1) / width, w->dim[0], width}, "%.80s packed",
                             w->name), fail);
    CST_GO(cst_tensor_place(p->panels), fail);
    cst_tensor_accompany(w, p, packed_free);
    return CST_OK;
fail:
    packed_free(p);
    return st;
}

cst_packed *cst_packed_for(const cst_gemm_args *g)
{
    const cst_tensor *w = g->b;
    int whole = !g->trans_b && !g->b_at && g->ldb == w->dim[1] && g->n == w->dim[1] && g->k == w->dim[0];
    return w->companion_free == packed_free && whole ? w->companion : NULL;
}

cst_status cst_packed_refresh(cst_mem *m, cst_packed *p, const cst_gemm_args *g, const char *options)
{
    cst_launch l;
    if (p->filled && p->version == g->b->version) return CST_OK;
    p->filled = 0;
    cst_launch_begin(&l, m, "gemm_cpu", "gemm_keep_panels", options);
    cst_launch_read(&l, "x", g->b, 0);
    cst_launch_write(&l, "packed", p->panels, 0);
    cst_launch_int(&l, "cols", g->n);
    cst_launch_int(&l, "k", g->k);
    CST_TRY(cst_launch_run(&l, 1, (size_t[]){(size_t)p->panels->dim[0]}, (size_t[]){1}));
    p->filled = !cst_mem_planning(m);
    p->version = g->b->version;
    return CST_OK;
}
