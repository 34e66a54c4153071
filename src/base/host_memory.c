#include "base/host_memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The number in a file, or behind `word` in a file of lines; `none` where there isn't one ("max"). */
static uint64_t number_in(const char *dir, const char *name, const char *word, uint64_t none)
{
    char path[2048], line[256];
    uint64_t x;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "r");
    if (!f) return none;
    size_t skip = strlen(word);
    int found = 0;
    while (!found && fgets(line, sizeof line, f)) found = !strncmp(line, word, skip) && sscanf(line + skip, "%" SCNu64, &x) == 1;
    fclose(f);
    return found ? x : none;
}

static uint64_t lesser(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Of one group. */
static uint64_t left_in(const char *dir, int version)
{
    uint64_t limit = number_in(dir, version == 2 ? "memory.max" : "memory.limit_in_bytes", "", UINT64_MAX);
    uint64_t used = number_in(dir, version == 2 ? "memory.current" : "memory.usage_in_bytes", "", 0);
    uint64_t cache = number_in(dir, "memory.stat", version == 2 ? "inactive_file " : "total_inactive_file ", 0);
    if (limit == UINT64_MAX) return limit;
    used -= lesser(cache, used);
    return limit > used ? limit - used : 0;
}

/* Of a group and those above it, up to `root`. */
static uint64_t left_up_from(const char *root, const char *path, int version)
{
    char dir[1536];
    uint64_t least = UINT64_MAX;
    if (snprintf(dir, sizeof dir, "%s%s", root, path) >= (int)sizeof dir) return least;
    for (;;) {
        least = lesser(least, left_in(dir, version));
        char *last = strrchr(dir, '/');
        if (!last || last < dir + strlen(root)) return least;
        *last = 0;
    }
}

uint64_t cst_cgroup_left(const char *root, const char *self)
{
    char line[1024], at[512];
    uint64_t least = UINT64_MAX;
    FILE *f = fopen(self, "r");
    if (!f) return least;
    while (fgets(line, sizeof line, f)) { /* number:controllers:path */
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        controllers++;
        if (!*controllers) {
            snprintf(at, sizeof at, "%s/unified", root);
            least = lesser(least, lesser(left_up_from(root, path, 2), left_up_from(at, path, 2)));
        } else if (!strcmp(controllers, "memory")) {
            snprintf(at, sizeof at, "%s/memory", root);
            least = lesser(least, left_up_from(at, path, 1));
        }
    }
    fclose(f);
    return least;
}

uint64_t cst_host_available(void)
{
    uint64_t kb = number_in("/proc", "meminfo", "MemAvailable:", 0);
    return kb ? lesser(kb * 1024, cst_cgroup_left("/sys/fs/cgroup", "/proc/self/cgroup")) : 0;
}
