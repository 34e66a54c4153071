/* Any bytes as a config.json: what is accepted has a table of parameters that adds up. */
#include "fuzzing.h"
#include "model/config.h"
#include "model/names.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd;
    cst_config c;
    const char *path = fuzz_file(&fd, data, size);
    if (cst_config_load(&c, path) == CST_OK) {
        int64_t sum = 0;
        for (int id = 0; id < cst_param_count(&c); id++) {
            cst_param p;
            if (cst_param_get(&p, &c, id) != CST_OK || cst_param_find(&c, p.name) != id || p.count < 1) abort();
            sum += p.count;
        }
        if (sum != cst_config_parameters(&c)) abort();
    }
    close(fd);
    return 0;
}
