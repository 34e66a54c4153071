/* What this room keeps for a device; for this room. */
#ifndef CST_GEMM_STATE_H
#define CST_GEMM_STATE_H

#include "gemm/choice.h"
#include "gemm/tuning.h"

typedef struct cst_gemm_chosen {
    cst_gemm_shape_key key;
    cst_gemm_choice how;
    int pinned;              /* by a resumed run; kept when the mode changes */
} cst_gemm_chosen;

typedef struct cst_gemm_state {
    cst_gemm_mode mode;
    int forced;
    cst_gemm_choice force;
    cst_gemm_chosen *chosen;
    int count, room;
    cst_tuning tuning;       /* empty when nothing is known */
    int xgemm_used;          /* CLBlast has been given the settings */
} cst_gemm_state;

/* Made at the first call; NO_MEMORY. */
cst_status cst_gemm_state_get(cst_gemm_state **out, cst_device *dev);

#endif
