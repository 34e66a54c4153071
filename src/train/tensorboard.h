/* Event files for TensorBoard: records of a length, a payload and two checksums, the payload a protocol-buffer message.
 *
 *     record  = length (8 bytes, little-endian), masked crc32c of these, payload, masked crc32c of the payload
 *     masked  = rotate right by 15 of the crc32c, + 0xa282ead8
 *     payload = Event { 1: double wall_time, 2: int64 step, 3: string file_version | 5: Summary { 1: Value { 1: string tag,
 *               2: float simple_value } ... } }
 * Sources: tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto;
 * crc32c: Castagnoli et al., 1993 (RFC 3720, B.4).
 */
#ifndef CST_TRAIN_TENSORBOARD_H
#define CST_TRAIN_TENSORBOARD_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct cst_events cst_events;

typedef struct cst_scalar {
    const char *tag;   /* at most 100 bytes */
    double value;      /* written as float; NaN: left out */
} cst_scalar;

/* A new file events.out.tfevents.<seconds>.castor[.<n>] in dir, which must be there; those of earlier runs stay. */
cst_status cst_events_open(cst_events **out, const char *dir);
/* One event with the n (<= 16) scalars of a step. It is in the file when this returns. */
cst_status cst_events_write(cst_events *e, int64_t step, const cst_scalar *scalar, int n);
/* NULL is fine. */
void cst_events_close(cst_events *e);

/* crc32c of n bytes. */
uint32_t cst_crc32c(const void *data, size_t n);

#endif
