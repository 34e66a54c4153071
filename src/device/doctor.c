#include "device/doctor.h"

#include <dirent.h>
#include <dlfcn.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "device/quirks.h"

enum { NVIDIA, AMD, INTEL, VENDORS };

static const struct {
    const char *name, *id;      /* as sysfs writes it */
    const char *words[3];       /* one of them is in an OpenCL device's vendor or name, ... */
    const char *library[3];     /* ... or in the name of a library that drives it */
} vendors[VENDORS] = {{"NVIDIA", "0x10de", {"NVIDIA"}, {"nvidia"}},
                      {"AMD", "0x1002", {"AMD", "Advanced Micro"}, {"amdocl", "Rusticl", "MesaOpenCL"}},
                      {"Intel", "0x8086", {"Intel"}, {"igdrcl", "Rusticl", "intelocl"}}};

/* Packages by distribution (ID or ID_LIKE of os-release); the last line is for all others. */
static const struct {
    const char *id, *install, *package[VENDORS], *cpu;
} distributions[] = {
    {"ubuntu", "sudo apt install", {"nvidia-driver-580 (or: sudo ubuntu-drivers install)", "mesa-opencl-icd", "intel-opencl-icd"}, "pocl-opencl-icd"},
    {"debian", "sudo apt install", {"nvidia-driver nvidia-opencl-icd (component non-free)", "mesa-opencl-icd", "intel-opencl-icd"}, "pocl-opencl-icd"},
    {"fedora", "sudo dnf install", {"xorg-x11-drv-nvidia-cuda (from RPM Fusion)", "rocm-opencl (or mesa-libOpenCL)", "intel-compute-runtime"}, "pocl"},
    {"arch", "sudo pacman -S", {"nvidia opencl-nvidia", "rocm-opencl-runtime (or opencl-mesa)", "intel-compute-runtime"}, "pocl"},
    {"suse", "sudo zypper install", {"nvidia-compute-G06 (from NVIDIA's repository)", "Mesa-libRusticlOpenCL", "intel-opencl"}, "pocl"},
    {NULL, "install", {"NVIDIA's driver with OpenCL", "ROCm's OpenCL or Mesa's rusticl", "Intel's compute runtime"}, "PoCL"}};

typedef struct visit {
    const cst_doctor_place *p;
    json_t *out, *drivers, *gpus, *findings;
    char distribution[256];     /* ID and ID_LIKE, " ubuntu debian " */
    int loaded[VENDORS];        /* libraries that load, by vendor */
    int any_loaded, container;
} visit;

/* path in the place; in one of a few buffers, borrowed. */
static const char *at(const visit *v, const char *path)
{
    static char buf[4][1024];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(buf[turn], sizeof *buf, "%s%s", v->p->root ? v->p->root : "", path);
    return buf[turn];
}

/* The first line of a file without its end; 0: there is none. */
static int first_line(char *line, size_t size, const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    int got = fgets(line, (int)size, f) != NULL;
    fclose(f);
    if (got) line[strcspn(line, "\r\n")] = 0;
    return got;
}

static void finding(visit *v, const char *fix, const char *fmt, ...) CST_PRINTF(3, 4);
static void finding(visit *v, const char *fix, const char *fmt, ...)
{
    char what[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    json_array_append_new(v->findings, json_pack("{s:o, s:o}", "what", cst_json_text(what), "fix", fix ? cst_json_text(fix) : json_null()));
}

static void read_system(visit *v)
{
    char line[256], name[200] = "an unknown system";
    FILE *f = fopen(at(v, "/etc/os-release"), "r");
    strcpy(v->distribution, " ");
    while (f && fgets(line, sizeof line, f)) {
        char *value = strchr(line, '=');
        if (!value) continue;
        *value++ = 0;
        value[strcspn(value, "\r\n")] = 0;
        if (*value == '"') memmove(value, value + 1, strlen(value)), value[strcspn(value, "\"")] = 0;
        if (!strcmp(line, "PRETTY_NAME")) snprintf(name, sizeof name, "%s", value);
        size_t n = strlen(v->distribution);
        if (!strcmp(line, "ID") || !strcmp(line, "ID_LIKE")) snprintf(v->distribution + n, sizeof v->distribution - n, "%s ", value);
    }
    if (f) fclose(f);
    v->container = !access(at(v, "/.dockerenv"), F_OK) || !access(at(v, "/run/.containerenv"), F_OK);
    json_object_set_new(v->out, "system", cst_json_text(name));
    json_object_set_new(v->out, "container", json_boolean(v->container));
}

/* "sudo apt install nvidia-opencl-icd"; vendor VENDORS: for the CPU. Borrowed until the next call. */
static const char *install(const visit *v, int vendor)
{
    static char text[256];
    size_t i = 0;
    while (distributions[i].id && !strstr(v->distribution, distributions[i].id)) i++;
    snprintf(text, sizeof text, "%s %s", distributions[i].install, vendor < VENDORS ? distributions[i].package[vendor] : distributions[i].cpu);
    return text;
}

/* --- the loader and its drivers ------------------------------------------------------------------------- */

static void try_library(visit *v, const char *file, const char *library)
{
    void *h = dlopen(library, RTLD_LAZY | RTLD_LOCAL);
    const char *problem = h ? NULL : dlerror();
    json_array_append_new(v->drivers, json_pack("{s:o, s:o, s:o}", "file", cst_json_text(file), "library", cst_json_text(library), "problem",
                                                problem ? cst_json_text(problem) : json_null()));
    if (!h) {
        finding(v, "install the package again that the file belongs to, or remove the file", "%s names the driver \"%s\", which doesn't load: %s", file,
                library, problem);
        return;
    }
    dlclose(h);
    v->any_loaded = 1;
    for (int i = 0; i < VENDORS; i++)
        for (int j = 0; j < 3 && vendors[i].library[j]; j++) v->loaded[i] |= cst_word_in(library, vendors[i].library[j]);
}

static int is_icd(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return n > 4 && !strcmp(e->d_name + n - 4, ".icd");
}

static void read_icd_file(visit *v, const char *path)
{
    char library[512] = "";
    if (first_line(library, sizeof library, path) && *library) try_library(v, path, library);
    else finding(v, "remove it, or install its package again", "%s names no driver", path);
}

/* The folder that the loader reads. set: the variable that names it, NULL: none does. */
static void read_icd_folder(visit *v, const char *folder, const char *set)
{
    struct dirent **list = NULL;
    int n = scandir(folder, &list, is_icd, alphasort);
    char path[2048], fix[512];
    if (n <= 0 && set) {
        snprintf(fix, sizeof fix, "unset %s, or set it to the folder of the .icd files, mostly /etc/OpenCL/vendors", set);
        finding(v, fix, "%s is set to \"%s\", which %s", set, folder, n < 0 ? "isn't a folder" : "has no .icd file");
    } else if (n <= 0) {
        snprintf(fix, sizeof fix, "%s (for the CPU; for a GPU see below)", install(v, VENDORS));
        finding(v, fix, "no OpenCL driver is installed: %s %s", folder, n < 0 ? "isn't there" : "has no .icd file");
    }
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, list[i]->d_name);
        read_icd_file(v, path);
        free(list[i]);
    }
    free(list);
}

static void read_drivers(visit *v)
{
    const char *names = getenv("OCL_ICD_FILENAMES"), *folder = getenv("OCL_ICD_VENDORS");
    struct stat sb;
    if (names && *names) {
        char *all = strdup(names), *rest = all, *one;
        while (all && (one = strsep(&rest, ":")) != NULL)
            if (*one) try_library(v, "OCL_ICD_FILENAMES", one);
        free(all);
    }
    if (!folder || !*folder) {
        read_icd_folder(v, at(v, "/etc/OpenCL/vendors"), NULL);
    } else if (stat(folder, &sb) == 0 && !S_ISDIR(sb.st_mode)) {
        read_icd_file(v, folder);
    } else {
        read_icd_folder(v, folder, "OCL_ICD_VENDORS");
    }
}

/* --- GPUs and their nodes ------------------------------------------------------------------------------- */

/* May the user read and write it? */
static int permitted(const visit *v, const char *path)
{
    struct stat sb;
    if (!v->p->root) return access(path, R_OK | W_OK) == 0;
    if (!v->p->uid) return 1;
    if (stat(path, &sb) != 0) return 0;
    if (sb.st_uid == v->p->uid) return (sb.st_mode & 0600) == 0600;
    for (int i = 0; i < v->p->groups; i++)
        if (v->p->group[i] == sb.st_gid) return (sb.st_mode & 0060) == 0060;
    return (sb.st_mode & 0006) == 0006;
}

/* A node that is there and may not be used is told; 0: it isn't there. */
static int check_node(visit *v, const char *node)
{
    const char *path = at(v, node);
    struct stat sb;
    char fix[300];
    if (stat(path, &sb) != 0) return 0;
    if (permitted(v, path)) return 1;
    const struct group *g = getgrgid(sb.st_gid);
    if (g && sb.st_mode & 0060) snprintf(fix, sizeof fix, "sudo usermod -aG %s $USER, then log in again", g->gr_name);
    else snprintf(fix, sizeof fix, "let your user read and write it (a udev rule of the driver's package should do that)");
    finding(v, fix, "no permission to use %s (mode %03o, owner %d, group %s)", node, (unsigned)sb.st_mode & 0777, (int)sb.st_uid,
            g ? g->gr_name : "unknown");
    return 1;
}

static int check_render_nodes(visit *v)
{
    DIR *d = opendir(at(v, "/dev/dri"));
    char node[300];
    int found = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        if (!strncmp(e->d_name, "renderD", 7)) {
            snprintf(node, sizeof node, "/dev/dri/%s", e->d_name);
            found |= check_node(v, node);
        }
    if (d) closedir(d);
    return found;
}

/* Nodes of a vendor's GPUs; 0: there are none. */
static int check_nodes(visit *v, int vendor)
{
    if (vendor == NVIDIA) return check_node(v, "/dev/nvidiactl") & check_node(v, "/dev/nvidia0");
    int render = check_render_nodes(v);
    if (vendor == AMD) check_node(v, "/dev/kfd");
    return render;
}

static int listed(const visit *v, int vendor)
{
    for (size_t i = 0; i < v->p->devices; i++) {
        const cst_device_info *d = &v->p->device[i];
        if (!(d->type & CL_DEVICE_TYPE_GPU)) continue;
        for (int j = 0; j < 3 && vendors[vendor].words[j]; j++)
            if (cst_word_in(d->vendor, vendors[vendor].words[j]) || cst_word_in(d->name, vendors[vendor].words[j])) return 1;
    }
    return 0;
}

/* Why a vendor's GPU isn't among OpenCL's devices. driver: of the kernel, "" none. */
static void explain_gpu(visit *v, int vendor, const char *driver)
{
    const char *name = vendors[vendor].name, *rusticl = getenv("RUSTICL_ENABLE");
    size_t before = json_array_size(v->findings);
    if (!*driver) {
        finding(v, v->container ? "load it on the host, outside of the container" : install(v, vendor), "no driver of the kernel has taken the %s GPU",
                name);
        return;
    }
    if (!strcmp(driver, "nouveau")) {
        finding(v, install(v, vendor), "the NVIDIA GPU is driven by nouveau, which has no OpenCL of use; NVIDIA's own driver does");
        return;
    }
    if (!check_nodes(v, vendor))
        finding(v,
                v->container ? vendor == NVIDIA ? "start the container with --gpus all (NVIDIA's container toolkit)"
                                                : "start the container with --device /dev/dri, and for AMD's ROCm --device /dev/kfd"
                             : "load the driver's module anew, or start the machine again",
                "the %s GPU has no device node (%s)", name, vendor == NVIDIA ? "/dev/nvidiactl, /dev/nvidia0" : "/dev/dri/renderD*");
    if (!v->loaded[vendor])
        finding(v, v->container && vendor == NVIDIA ? "start the container with NVIDIA_DRIVER_CAPABILITIES=compute,utility" : install(v, vendor),
                "no OpenCL driver for the %s GPU is installed", name);
    else if (vendor != NVIDIA && !(rusticl && *rusticl))
        finding(v, vendor == AMD ? "RUSTICL_ENABLE=radeonsi in the environment, if the driver is Mesa's rusticl" : "RUSTICL_ENABLE=iris in the environment, if the driver is Mesa's rusticl",
                "rusticl offers no GPU unless RUSTICL_ENABLE names its driver");
    if (json_array_size(v->findings) == before)
        finding(v, install(v, vendor), "the OpenCL driver for the %s GPU loads but offers no device: it is older than the kernel's driver (%s), or than the GPU",
                name, driver);
}

static void read_gpus(visit *v)
{
    struct dirent **list = NULL;
    int n = scandir(at(v, "/sys/bus/pci/devices"), &list, NULL, alphasort), told[VENDORS] = {0, 0, 0};
    char path[600], class[32], id[32], link[512], driver[64];
    for (int i = 0; i < n; i++) {
        const char *address = list[i]->d_name;
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/class", address);
        int gpu = *address != '.' && first_line(class, sizeof class, at(v, path)) && !strncmp(class, "0x03", 4);
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/vendor", address);
        gpu = gpu && first_line(id, sizeof id, at(v, path));
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/driver", address);
        ssize_t len = readlink(at(v, path), link, sizeof link - 1);
        link[len > 0 ? len : 0] = 0;
        snprintf(driver, sizeof driver, "%.63s", strrchr(link, '/') ? strrchr(link, '/') + 1 : link);
        for (int k = 0; gpu && k < VENDORS; k++) {
            if (strcmp(id, vendors[k].id)) continue;
            int usable = listed(v, k);
            json_array_append_new(v->gpus, json_pack("{s:s, s:s, s:s, s:b}", "address", address, "vendor", vendors[k].name, "driver", driver, "usable", usable));
            if (!usable && !told[k]) explain_gpu(v, k, driver);
            told[k] = 1;
        }
        free(list[i]);
    }
    free(list);
}

/* --- what OpenCL lists ---------------------------------------------------------------------------------- */

static void read_devices(visit *v)
{
    int usable = 0, gpu = 0;
    for (size_t i = 0; i < v->p->devices; i++) {
        const cst_device_info *d = &v->p->device[i];
        if (cst_quirk_refusal(d) != CST_OK) {
            finding(v, "install a newer driver", "%s", cst_detail());
            continue;
        }
        usable = 1;
        gpu |= (d->type & CL_DEVICE_TYPE_GPU) != 0;
        if (d->quirks & CST_QUIRK_OLD)
            for (const cst_quirk *q = cst_quirks; q->name; q++)
                if (q->flag == CST_QUIRK_OLD && cst_quirk_applies(q, d)) finding(v, q->does, "\"%s\", driver %s: %s", d->name, d->driver, q->what);
    }
    json_object_set_new(v->out, "usable", json_boolean(usable));
    if (usable && !gpu)
        finding(v, NULL, "only CPUs can be used%s%s", json_array_size(v->gpus) ? " so far" : "; the machine shows no GPU",
                !json_array_size(v->gpus) && v->container ? " to this container" : "");
    if (!v->p->devices && v->any_loaded)
        finding(v, install(v, VENDORS), "OpenCL drivers load but offer no device; PoCL makes the CPU one");
}

cst_status cst_doctor(json_t **out, const cst_doctor_place *place)
{
    visit v = {.p = place};
    v.out = json_pack("{s:[], s:[], s:[]}", "drivers", "gpus", "findings");
    if (!v.out) return cst_fail(CST_NO_MEMORY, "doctor");
    v.drivers = json_object_get(v.out, "drivers");
    v.gpus = json_object_get(v.out, "gpus");
    v.findings = json_object_get(v.out, "findings");
    read_system(&v);
    read_drivers(&v);
    read_gpus(&v);
    read_devices(&v);
    *out = v.out;
    return CST_OK;
}
