/* How much memory the host can still give. */
#ifndef CST_BASE_HOST_MEMORY_H
#define CST_BASE_HOST_MEMORY_H

#include <stdint.h>

/* Bytes that this process can take now without being ended for it: what the machine has available, less where a control group (of a
 * container, of a batch system) allows less. 0 when the system doesn't tell. */
uint64_t cst_host_available(void);

/* What the control groups of a process leave it, page cache that can go counted as free; UINT64_MAX: no limit. root: where they are
 * mounted (/sys/fs/cgroup), self: its list (/proc/self/cgroup). Both versions of the interface, the group itself and those
 * above it. */
uint64_t cst_cgroup_left(const char *root, const char *self);

#endif
