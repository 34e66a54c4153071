/* castor devices --doctor on machines that are made up as folders. */
#include "testing.h"

#include <CL/cl.h>
#include <dlfcn.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "device/doctor.h"
#include "device/quirks.h"

static const char *root;
static json_t *report;
static cst_doctor_place place;
static cst_device_info device[2];

static void put(const char *path, const char *text)
{
    char dir[1024];
    const char *whole = test_path(root, path);
    snprintf(dir, sizeof dir, "%s", whole);
    *strrchr(dir, '/') = 0;
    ck_ok(cst_make_dirs(dir));
    ck_ok(cst_file_write(whole, text, strlen(text)));
}

/* A device node that its owner and group may use. */
static void node(const char *path)
{
    put(path, "");
    ck_assert(chmod(test_path(root, path), 0660) == 0);
}

static void gpu(const char *address, const char *vendor, const char *driver)
{
    char path[300];
    snprintf(path, sizeof path, "sys/bus/pci/devices/%s/class", address);
    put(path, "0x030000\n");
    snprintf(path, sizeof path, "sys/bus/pci/devices/%s/vendor", address);
    put(path, vendor);
    snprintf(path, sizeof path, "sys/bus/pci/devices/%s/driver", address);
    unlink(test_path(root, path));
    char target[64];
    snprintf(target, sizeof target, "../../../bus/pci/drivers/%s", driver);
    if (*driver) ck_assert(symlink(target, test_path(root, path)) == 0);
}

/* A driver that loads: the OpenCL loader under another name. */
static void driver(const char *name)
{
    Dl_info info;
    char path[300], link[1024];
    ck_assert(dladdr((void *)clGetPlatformIDs, &info) && info.dli_fname);
    snprintf(link, sizeof link, "%s/%s.so", root, name);
    unlink(link);
    ck_assert(symlink(info.dli_fname, link) == 0);
    snprintf(path, sizeof path, "etc/OpenCL/vendors/%s.icd", name);
    put(path, link);
}

static void list_device(const char *platform, const char *vendor, const char *drv, const char *version, cl_device_type type)
{
    cst_device_info *d = &device[place.devices++];
    memset(d, 0, sizeof *d);
    snprintf(d->name, sizeof d->name, "device %zu", place.devices);
    snprintf(d->platform, sizeof d->platform, "%s", platform);
    snprintf(d->vendor, sizeof d->vendor, "%s", vendor);
    snprintf(d->driver, sizeof d->driver, "%s", drv);
    snprintf(d->version, sizeof d->version, "%s", version);
    d->type = type;
    d->quirks = cst_quirk_flags(d);
}

static void examine(void)
{
    json_decref(report);
    ck_ok(cst_doctor(&report, &place));
}

/* Is there a finding with these words, and these in what to do (NULL: nothing is to do)? */
static int finds(const char *what, const char *fix)
{
    const json_t *j;
    size_t i;
    json_array_foreach(json_object_get(report, "findings"), i, j)
    {
        const char *text = json_string_value(json_object_get(j, "fix"));
        if (strstr(json_string_value(json_object_get(j, "what")), what) && (fix ? text && strstr(text, fix) != NULL : !text)) return 1;
    }
    return 0;
}

#define ck_finds(what, fix)                                                                                                   \
    do {                                                                                                                      \
        if (!finds(what, fix))                                                                                                \
            ck_abort_msg("no \"%s\" with \"%s\" in %s", what, (const char *)(fix) ? (fix) : "nothing to do",                  \
                         json_dumps(json_object_get(report, "findings"), JSON_INDENT(1)));                                    \
    } while (0)

static size_t findings(void)
{
    return json_array_size(json_object_get(report, "findings"));
}

static int usable(void)
{
    return json_is_true(json_object_get(report, "usable"));
}

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *f)
{
    (void)sb, (void)type, (void)f;
    return remove(path);
}

static void setup(void)
{
    static char dir[400];
    snprintf(dir, sizeof dir, "%s/machine", test_dir());
    root = dir;
    unsetenv("OCL_ICD_VENDORS");
    unsetenv("OCL_ICD_FILENAMES");
    unsetenv("RUSTICL_ENABLE");
    place = (cst_doctor_place){.root = root, .uid = 12345, .device = device};
    put("etc/os-release", "NAME=\"Debian GNU/Linux\"\nID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n");
}

static void teardown(void)
{
    json_decref(report);
    report = NULL;
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

START_TEST(a_machine_without_drivers)
{
    static const char *const systems[][3] = {
        {"ID=debian\n", "sudo apt install pocl-opencl-icd", "sudo apt install nvidia-driver nvidia-opencl-icd"},
        {"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "sudo apt install pocl-opencl-icd", "sudo apt install nvidia-driver-"},
        {"ID=fedora\n", "sudo dnf install pocl", "sudo dnf install xorg-x11-drv-nvidia-cuda"},
        {"ID=manjaro\nID_LIKE=arch\n", "sudo pacman -S pocl", "sudo pacman -S nvidia opencl-nvidia"},
        {"ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n", "sudo zypper install pocl", "sudo zypper install nvidia-compute"},
        {"ID=void\n", "install PoCL", "install NVIDIA's driver"}, {"", "install PoCL", "install NVIDIA's driver"}};
    gpu("0000:01:00.0", "0x10de\n", "nvidia");
    node("dev/nvidiactl"), node("dev/nvidia0");
    place.uid = 0;
    for (size_t i = 0; i < sizeof systems / sizeof *systems; i++) {
        put("etc/os-release", systems[i][0]);
        examine();
        ck_assert(!usable());
        ck_finds("no OpenCL driver is installed", systems[i][1]);
        ck_finds("no OpenCL driver for the NVIDIA GPU", systems[i][2]);
        ck_assert_uint_eq(findings(), 2);
    }
    unlink(test_path(root, "etc/os-release"));
    examine();
    ck_assert_str_eq(json_string_value(json_object_get(report, "system")), "an unknown system");
}
END_TEST

START_TEST(settings_and_files_that_are_wrong)
{
    driver("libother");
    examine();
    ck_finds("OpenCL drivers load but offer no device", "pocl-opencl-icd");
    setenv("OCL_ICD_VENDORS", "/nonexistent", 1);
    examine();
    ck_finds("OCL_ICD_VENDORS is set to \"/nonexistent\", which isn't a folder", "unset OCL_ICD_VENDORS");
    ck_assert_uint_eq(findings(), 1);
    setenv("OCL_ICD_VENDORS", root, 1);
    examine();
    ck_finds("has no .icd file", "unset OCL_ICD_VENDORS");
    unsetenv("OCL_ICD_VENDORS");
    setenv("OCL_ICD_FILENAMES", "/nonexistent/libx.so", 1);
    examine();
    ck_finds("OCL_ICD_FILENAMES names the driver \"/nonexistent/libx.so\", which doesn't load: /nonexistent/libx.so: cannot open", "install");
    unsetenv("OCL_ICD_FILENAMES");
    put("etc/OpenCL/vendors/gone.icd", "libgone-away.so.7\n");
    put("etc/OpenCL/vendors/empty.icd", "");
    put("etc/OpenCL/vendors/README", "no driver");
    examine();
    ck_finds("gone.icd names the driver \"libgone-away.so.7\", which doesn't load: libgone-away.so.7: cannot open", "install");
    ck_finds("empty.icd names no driver", "remove");
    ck_assert_uint_eq(findings(), 3);
    ck_assert_uint_eq(json_array_size(json_object_get(report, "drivers")), 2);
}
END_TEST

START_TEST(an_nvidia_gpu_step_by_step)
{
    gid_t group = getgid();
    gpu("0000:01:00.0", "0x10de\n", "");
    examine();
    ck_finds("no driver of the kernel has taken the NVIDIA GPU", "sudo apt install nvidia-driver");
    gpu("0000:01:00.0", "0x10de\n", "nouveau");
    examine();
    ck_finds("nouveau", "sudo apt install nvidia-driver");
    gpu("0000:01:00.0", "0x10de\n", "nvidia");
    examine();
    ck_finds("no device node (/dev/nvidiactl", "load the driver's module");
    ck_finds("no OpenCL driver for the NVIDIA GPU", "nvidia-opencl-icd");
    put(".dockerenv", "");
    examine();
    ck_finds("no device node", "--gpus all");
    ck_finds("no OpenCL driver for the NVIDIA GPU", "NVIDIA_DRIVER_CAPABILITIES");
    unlink(test_path(root, ".dockerenv"));
    driver("libnvidia-opencl");
    node("dev/nvidiactl"), node("dev/nvidia0");
    examine();
    ck_finds("no permission to use /dev/nvidiactl (mode 660", "sudo usermod -aG ");
    ck_finds("no permission to use /dev/nvidia0", "log in again");
    ck_assert(chmod(test_path(root, "dev/nvidia0"), 0600) == 0);
    place.group = &group, place.groups = 1;
    examine();
    ck_finds("no permission to use /dev/nvidia0", "udev");
    ck_assert(!finds("/dev/nvidiactl", "usermod"));
    ck_assert(chmod(test_path(root, "dev/nvidia0"), 0666) == 0);
    examine();
    ck_finds("loads but offers no device", "nvidia-opencl-icd");
    list_device("NVIDIA CUDA", "NVIDIA Corporation", "580.1", "OpenCL 3.0 CUDA", CL_DEVICE_TYPE_GPU);
    examine();
    ck_assert(usable() && !findings());
    ck_assert(json_is_true(json_object_get(json_array_get(json_object_get(report, "gpus"), 0), "usable")));
}
END_TEST

START_TEST(gpus_of_amd_and_intel)
{
    gid_t group = getgid();
    list_device("Portable Computing Language", "AuthenticAMD", "3.1", "OpenCL 3.0 PoCL", CL_DEVICE_TYPE_CPU);
    gpu("0000:03:00.0", "0x1002\n", "amdgpu");
    gpu("0000:00:02.0", "0x8086\n", "i915");
    gpu("0000:00:1f.0", "0x1a03\n", "ast"); /* nobody's concern */
    driver("libpocl");
    examine();
    ck_assert(usable());
    ck_finds("the AMD GPU has no device node", "load the driver's module");
    ck_finds("no OpenCL driver for the AMD GPU", "mesa-opencl-icd");
    ck_finds("no OpenCL driver for the Intel GPU", "intel-opencl-icd");
    ck_finds("only CPUs can be used so far", NULL);
    ck_assert_uint_eq(json_array_size(json_object_get(report, "gpus")), 2);
    node("dev/dri/renderD128"), node("dev/kfd"), node("dev/dri/card0");
    examine();
    ck_finds("no permission to use /dev/dri/renderD128", "usermod");
    ck_finds("no permission to use /dev/kfd", "usermod");
    ck_assert(!finds("card0", "usermod") && !finds("no device node", "module"));
    place.group = &group, place.groups = 1;
    driver("libRusticlOpenCL");
    examine();
    ck_finds("RUSTICL_ENABLE", "RUSTICL_ENABLE=radeonsi");
    ck_finds("RUSTICL_ENABLE", "RUSTICL_ENABLE=iris");
    setenv("RUSTICL_ENABLE", "radeonsi,iris", 1);
    examine();
    ck_finds("the OpenCL driver for the AMD GPU loads but offers no device", "mesa-opencl-icd");
    list_device("rusticl", "AMD", "24.2", "OpenCL 3.0", CL_DEVICE_TYPE_GPU);
    examine();
    ck_assert(!finds("AMD GPU", "install") && finds("the Intel GPU loads", "intel-opencl-icd"));
}
END_TEST

START_TEST(devices_that_are_refused_or_old)
{
    driver("libMesaOpenCL");
    list_device("Clover", "AMD", "22.3.6", "OpenCL 1.1 Mesa 22.3.6", CL_DEVICE_TYPE_GPU);
    examine();
    ck_assert(!usable());
    ck_finds("OpenCL 1.1", "newer driver");
    list_device("rusticl", "Mesa", "22.3.6", "OpenCL 3.0", CL_DEVICE_TYPE_CPU);
    put("run/.containerenv", "");
    examine();
    ck_assert(usable() && json_is_true(json_object_get(report, "container")));
    ck_finds("first releases", "Mesa 23.1");
    ck_finds("only CPUs can be used; the machine shows no GPU to this container", NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doctor");
    TCase *tc = tcase_create("doctor");
    tcase_set_timeout(tc, 0);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_machine_without_drivers);
    tcase_add_test(tc, settings_and_files_that_are_wrong);
    tcase_add_test(tc, an_nvidia_gpu_step_by_step);
    tcase_add_test(tc, gpus_of_amd_and_intel);
    tcase_add_test(tc, devices_that_are_refused_or_old);
    suite_add_tcase(s, tc);
    return test_run(s);
}
