/* The disk cache of built programs; see program.h for where it lies and what keys it. */
#ifndef CST_DEVICE_CACHE_H
#define CST_DEVICE_CACHE_H

#include "device/device.h"

/* The program cached for this source and these options, created but not yet built (the caller builds and
 * releases it); NULL when there is none that can be used. */
cl_program cst_cache_load(cst_device *dev, const char *source, const char *options);
/* Keep the program's binary. What goes wrong is told as a debug line only. */
void cst_cache_store(cst_device *dev, const char *source, const char *options, cl_program p);

#endif
