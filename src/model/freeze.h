/* Parameters that keep their values while the others are trained. */
#ifndef CST_MODEL_FREEZE_H
#define CST_MODEL_FREEZE_H

#include "model/config.h"

/* frozen[id] = 1 for each parameter that one of the patterns names, 0 for the others; *out is malloc'd, the caller frees it.
 * patterns: shell patterns (fnmatch(3); * goes over dots) with commas between them, over the names in Hugging Face's files,
 * with or without the leading "model." or "model.decoder."; "lm_head.weight" is the token embedding, to which it is tied.
 * *count: how many are frozen. USAGE when a pattern names none (the detail has the nearest names), or all are frozen. */
cst_status cst_freeze(unsigned char **out, int *count, const cst_config *c, const char *patterns);

#endif
