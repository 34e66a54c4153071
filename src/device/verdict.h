/* What was found out about kernels and engines on a device: whether they compute right. Kept beside the kernel cache, in
 * proofs-<device>-<driver>.json, as {"<what>": true, or what was wrong}, so that nothing is proven twice. `what` names
 * kernels, build options and a hash of their source; what another driver or other kernels make of it is another verdict.
 */
#ifndef CST_DEVICE_VERDICT_H
#define CST_DEVICE_VERDICT_H

#include "device/device.h"

typedef enum cst_verdict { CST_UNPROVEN, CST_RIGHT, CST_WRONG } cst_verdict;

/* CASTOR_SELF_TEST=off: nothing is proven, and no verdict keeps anything out of use. */
int cst_verdicts_off(void);
/* *wrong, borrowed until the next call here: what was wrong. */
cst_verdict cst_verdict_get(const char **wrong, cst_device *dev, const char *what);
/* wrong NULL: it is right. */
void cst_verdict_set(cst_device *dev, const char *what, const char *wrong);
/* Write them down. Failure costs another proof at the next start, no more. */
void cst_verdict_save(const cst_device *dev);
/* Hash of the source of cl/<file>.cl with all that it includes; 0 when it can't be read. */
uint64_t cst_verdict_hash(const char *file);

#endif
