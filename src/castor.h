/* libcastor: OPT training and a budgeted memory manager on any OpenCL device.
 *
 * This header includes the whole public interface; each part's own header says what it does. Build with
 *     cc program.c $(pkg-config --cflags --libs castor)
 * A program that only wants the memory manager needs memory/memory.h and memory/launch.h.
 */
#ifndef CASTOR_H
#define CASTOR_H

#ifdef __cplusplus
extern "C" {
#endif

#include "base/log.h"
#include "base/status.h"
#include "device/device.h"
#include "device/program.h"
#include "device/quirks.h"
#include "gemm/choice.h"
#include "gemm/gemm.h"
#include "gemm/packed.h"
#include "gemm/tuning.h"
#include "io/safetensors.h"
#include "io/weights_source.h"
#include "memory/launch.h"
#include "memory/memory.h"
#include "model/config.h"
#include "model/folder.h"
#include "model/freeze.h"
#include "model/model.h"
#include "model/names.h"
#include "model/weights.h"
#include "optim/optim.h"
#include "optim/schedule.h"
#include "selftest/selftest.h"
#include "text/batches.h"
#include "text/mask.h"
#include "text/token_rows.h"
#include "text/tokenizer.h"
#include "text/wikitext.h"
#include "train/checkpoint.h"
#include "train/generate.h"
#include "train/perplexity.h"
#include "train/sampling.h"
#include "train/session.h"
#include "train/trainer.h"

#ifdef __cplusplus
}
#endif

#endif
