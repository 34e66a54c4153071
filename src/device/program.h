/* Kernels: built on first use from the embedded source, kept for the device's life, and cached on disk.
 *
 * The disk cache lies in $CASTOR_CACHE_DIR, else $XDG_CACHE_HOME/castor, else ~/.cache/castor. A program's
 * file is keyed by its source, options, device, driver and platform; it is written under a temporary name
 * and renamed, and a damaged or refused one only costs a rebuild. Binaries are saved by
 * cst_program_save, after the kernels have run once (quirk compiles-at-launch).
 */
#ifndef CST_DEVICE_PROGRAM_H
#define CST_DEVICE_PROGRAM_H

#include "device/device.h"

typedef struct cst_kernel {
    cl_kernel handle;
    const char *file, *name;   /* "layer_norm", "layer_norm_forward" */
    char *arg_name[32];        /* formal arguments in order, as cst_source_arguments tells them */
    int arg_buffer[32];        /* a memory object and an offset */
    int args;
    cl_uint arg_at[32];        /* index for clSetKernelArg: a buffer takes two */
    struct {
        size_t size;           /* 0: not known */
        unsigned char value[8];
    } bound[64];               /* what clSetKernelArg was last given for each index, see launch.c */
    uint64_t bound_at;         /* cst_device.released when that was */
    uint64_t launches, time_ns, longest_ns; /* counted when the device keeps times; the longest launch */
} cst_kernel;

/* Kernel `name` of cl/<file>.cl, built with `options` ("-DBLOCK=64"; NULL: none) besides the ones every
 * build gets (-DWG, -DVW, exact division where the device has it). Borrowed: lives as long as dev. All but the
 * first call for a kernel and its options are a look-up in a hash table. BUILD
 * when it doesn't compile; the detail names device, kernel, options and the compiler's first lines. */
cst_status cst_kernel_get(cst_kernel **out, cst_device *dev, const char *file, const char *name, const char *options);

/* The build options of cl/<file>.cl, those that every build gets included. STATE when they are too long. */
cst_status cst_program_options(char all[512], const cst_device *dev, const char *file, const char *options);

/* Look kernels of cl/<file>.cl up anew: their build options have changed. Those handed out stay valid. */
void cst_kernel_forget(cst_device *dev, const char *file);

/* Save every program that was built from source since the last call. Failure to write is no error. */
void cst_program_save(cst_device *dev);

/* Call f for every kernel in use (for reports of time). */
void cst_kernel_each(cst_device *dev, void (*f)(const cst_kernel *k, void *user), void *user);

/* Count launches and times from 0 again. */
void cst_kernel_counts_clear(cst_device *dev);

/* The folder of the disk cache, malloc'd; NULL when no folder can be told (no HOME). */
char *cst_cache_dir(void);
/* <cache folder>/<what>-<device>-<driver>.json; malloc'd, NULL when there is no such folder. */
char *cst_cache_file(const char *what, const cst_device_info *d);

typedef struct cst_program_table cst_program_table;
cst_status cst_program_table_create(cst_program_table **out);
void cst_program_table_free(cst_program_table *t);

#endif
