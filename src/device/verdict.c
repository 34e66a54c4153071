#include "device/verdict.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "device/program.h"
#include "device/source.h"

int cst_verdicts_off(void)
{
    const char *s = getenv("CASTOR_SELF_TEST");
    return s && !strcmp(s, "off");
}

static void load(cst_device *dev)
{
    char *path = cst_cache_file("proofs", &dev->info);
    if (path && cst_path_exists(path) && cst_json_load(&dev->verdicts, path, JSON_OBJECT) != CST_OK) {
        cst_log(CST_LOG_WARN, "%s; left aside", cst_detail());
        dev->verdicts = NULL;
    }
    if (!dev->verdicts) dev->verdicts = json_object();
    free(path);
}

cst_verdict cst_verdict_get(const char **wrong, cst_device *dev, const char *what)
{
    if (!dev->verdicts) load(dev);
    const json_t *j = json_object_get(dev->verdicts, what);
    *wrong = json_string_value(j);
    return *wrong ? CST_WRONG : json_is_true(j) ? CST_RIGHT : CST_UNPROVEN;
}

void cst_verdict_set(cst_device *dev, const char *what, const char *wrong)
{
    if (!dev->verdicts) load(dev);
    json_object_set_new(dev->verdicts, what, wrong ? cst_json_text(wrong) : json_true());
}

void cst_verdict_save(const cst_device *dev)
{
    char *path = cst_cache_file("proofs", &dev->info), *dir = cst_cache_dir();
    if (dev->verdicts && path && dir && (cst_make_dirs(dir) != CST_OK || cst_json_save(dev->verdicts, path) != CST_OK))
        cst_log(CST_LOG_DEBUG, "%s", cst_detail());
    free(path);
    free(dir);
}

uint64_t cst_verdict_hash(const char *file)
{
    char *source;
    if (cst_source_get(&source, file) != CST_OK) return 0;
    uint64_t h = XXH3_64bits(source, strlen(source));
    free(source);
    return h;
}
