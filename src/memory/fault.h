/* Calls of OpenCL, and of the system for host memory, that a test can make fail. Without -DCST_FAULTS these are the calls
 * themselves; with it the test program says at each one whether it fails. Only tests/check_migration_faults.c is built so. */
#ifndef CST_MEMORY_FAULT_H
#define CST_MEMORY_FAULT_H

typedef enum cst_fault_kind {
    CST_FAULT_CREATE,   /* a device buffer */
    CST_FAULT_HOST,     /* host memory */
    CST_FAULT_TRANSFER, /* a write or read is enqueued */
    CST_FAULT_KERNEL,
    CST_FAULT_MARKER,   /* or a flush */
    CST_FAULT_KINDS
} cst_fault_kind;

#ifdef CST_FAULTS
int cst_fault(cst_fault_kind kind); /* defined by the test: not 0: this call fails */
#define CST_FAULT(kind, failed, call) (cst_fault(kind) ? (failed) : (call))
#else
#define CST_FAULT(kind, failed, call) (call)
#endif

#endif
