#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"

static const struct option {
    const char *name;
    cst_option_kind kind;
    const char *value;
    double min;
    const char *def;
    unsigned commands;
    const char *help;
} options[] = {
#define X(id, name, kind, value, min, def, commands, help) {name, CST_OPT_##kind, value, min, def, commands, help},
    CST_OPTION_LIST(X)
#undef X
};

/* A number with nothing behind it. */
static int parse_real(double *v, const char *s)
{
    char *end;
    errno = 0;
    *v = strtod(s, &end);
    return end != s && !*end && !errno && isfinite(*v);
}

static int parse_int(int64_t *v, const char *s)
{
    char *end;
    errno = 0;
    *v = strtoll(s, &end, 10);
    return end != s && !*end && !errno;
}

static int parse_size(uint64_t *v, const char *s)
{
    static const struct {
        const char *unit;
        double factor;
    } units[] = {{"", 1},        {"B", 1},      {"K", 1024},   {"KiB", 1024},   {"KB", 1e3},   {"M", 1048576},   {"MiB", 1048576},
                 {"MB", 1e6},    {"G", 1073741824.0}, {"GiB", 1073741824.0}, {"GB", 1e9}, {"T", 1099511627776.0}, {"TiB", 1099511627776.0}, {"TB", 1e12}};
    char *end;
    errno = 0;
    double x = strtod(s, &end);
    if (end == s || errno || !(x >= 0)) return 0;
    while (*end == ' ') end++;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (!strcasecmp(end, units[i].unit)) {
            x *= units[i].factor;
            if (x >= 0x1p63) return 0;
            *v = (uint64_t)x;
            return 1;
        }
    return 0;
}

/* Position of `word` in "a|b|c", -1: not there. */
static int word_index(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (int i = 0;; i++) {
        size_t len = strcspn(list, "|");
        if (len == n && !strncmp(list, word, n)) return i;
        list += len;
        if (!*list++) return -1;
    }
}

/* The sizes of "4GiB,384MiB"; list may be NULL. -1: one is none, or below min. */
static int parse_sizes(uint64_t *list, int most, const char *s, double min)
{
    char one[64];
    for (int n = 0;; n++) {
        size_t len = strcspn(s, ",");
        uint64_t v;
        if (len >= sizeof one) return -1;
        memcpy(one, s, len);
        one[len] = 0;
        if (!parse_size(&v, one) || v < (uint64_t)min) return -1;
        if (list && n < most) list[n] = v;
        s += len;
        if (!*s++) return n + 1;
    }
}

/* The numbers of "8,32,128", each once. -1: one is none, or below min, or there are too many. */
static int parse_ints(int64_t list[CST_INTS_MOST], const char *s, double min)
{
    for (int n = 0, given = 0;; s++) {
        char *end;
        errno = 0;
        long long v = strtoll(s, &end, 10);
        if (end == s || errno || (*end && *end != ',') || v < (long long)min || given++ == CST_INTS_MOST) return -1;
        int known = 0;
        for (int i = 0; i < n; i++) known |= list[i] == v;
        if (!known) list[n++] = v;
        s = end;
        if (!*s) return n;
    }
}

static cst_status check_value(const struct option *o, const char *text)
{
    int64_t i;
    double r;
    uint64_t size;
    int64_t ints[CST_INTS_MOST];
    switch (o->kind) {
    case CST_OPT_INT:
        if (parse_int(&i, text) && i >= (int64_t)o->min) return CST_OK;
        return cst_fail(CST_USAGE, "--%s %s: a whole number of %g or more is wanted", o->name, text, o->min);
    case CST_OPT_INTS:
        if (parse_ints(ints, text, o->min) > 0) return CST_OK;
        return cst_fail(CST_USAGE, "--%s %s: up to %d whole numbers of %g or more are wanted, separated by commas", o->name, text, CST_INTS_MOST, o->min);
    case CST_OPT_REAL:
        if (parse_real(&r, text) && r >= o->min) return CST_OK;
        return cst_fail(CST_USAGE, "--%s %s: a number of %g or more is wanted", o->name, text, o->min);
    case CST_OPT_SIZE:
        if (parse_size(&size, text) && size >= (uint64_t)o->min) return CST_OK;
        return cst_fail(CST_USAGE, "--%s %s: a size as 384MiB, 4GiB or a number of bytes is wanted", o->name, text);
    case CST_OPT_SIZES:
        if (parse_sizes(NULL, 0, text, o->min) > 0) return CST_OK;
        return cst_fail(CST_USAGE, "--%s %s: sizes as 384MiB or 2GiB,4GiB are wanted", o->name, text);
    case CST_OPT_CHOICE:
        if (word_index(o->value, text) >= 0) return CST_OK;
        return cst_fail(CST_USAGE, "--%s %s: one of %s is wanted", o->name, text, o->value);
    default: return *text ? CST_OK : cst_fail(CST_USAGE, "--%s: its value is empty", o->name);
    }
}

/* One more value of a LIST or SIZES, behind those that came before. */
static cst_status join(cst_args *a, int id, const char *value)
{
    char *to = a->list + a->listed;
    size_t room = sizeof a->list - a->listed;
    int n = snprintf(to, room, "%s,%s", a->text[id], value);
    if ((size_t)n >= room) return cst_fail(CST_USAGE, "--%s: too many values", options[id].name);
    a->listed += (size_t)n + 1;
    a->text[id] = to;
    return CST_OK;
}

static int find_option(const char *name, size_t n, unsigned command)
{
    for (int i = 0; i < CST_OPTION_COUNT; i++)
        if (options[i].commands & command && strlen(options[i].name) == n && !strncmp(options[i].name, name, n)) return i;
    return -1;
}

cst_status cst_args_parse(cst_args *a, unsigned command, const char *command_name, int argc, char **argv)
{
    memset(a, 0, sizeof *a);
    a->command = command;
    a->command_name = command_name;
    for (int i = 0; i < CST_OPTION_COUNT; i++) a->text[i] = options[i].def;
    a->text[CST_OPTION_DEVICE] = getenv("CASTOR_DEVICE");
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (command & IN_OPERAND && (!a->operand || command & IN_OPERANDS) && strncmp(arg, "--", 2)) {
            if (a->operand_count == CST_OPERANDS_MOST) return cst_fail(CST_USAGE, "%s: at most %d files", arg, CST_OPERANDS_MOST);
            if (!a->operand) a->operand = arg;
            a->operands[a->operand_count++] = arg;
            continue;
        }
        if (strncmp(arg, "--", 2)) return cst_fail(CST_USAGE, "%s: options begin with -- (see castor %s --help)", arg, command_name);
        const char *name = arg + 2, *eq = strchr(name, '=');
        int id = find_option(name, eq ? (size_t)(eq - name) : strlen(name), command);
        if (id < 0) return cst_fail(CST_USAGE, "%s: castor %s has no such option (see castor %s --help)", arg, command_name, command_name);
        if (options[id].kind == CST_OPT_FLAG) {
            if (eq) return cst_fail(CST_USAGE, "--%s takes no value", options[id].name);
            a->text[id] = "1";
        } else {
            if (!eq && i + 1 == argc) return cst_fail(CST_USAGE, "--%s: %s is missing", options[id].name, options[id].value);
            const char *value = eq ? eq + 1 : argv[++i];
            CST_TRY(check_value(&options[id], value));
            if ((options[id].kind == CST_OPT_LIST || options[id].kind == CST_OPT_SIZES) && a->given[id]) CST_TRY(join(a, id, value));
            else a->text[id] = value;
        }
        a->given[id] = 1;
    }
    return CST_OK;
}

cst_status cst_args_set(cst_args *a, cst_option_id id, const char *text)
{
    if (options[id].kind != CST_OPT_FLAG) CST_TRY(check_value(&options[id], text));
    a->text[id] = text;
    return CST_OK;
}

const char *cst_option_name(int id)
{
    return options[id].name;
}

cst_option_kind cst_option_kind_of(int id)
{
    return options[id].kind;
}

int cst_option_in(int id, unsigned commands)
{
    return (options[id].commands & commands) != 0;
}

int cst_args_flag(const cst_args *a, cst_option_id id)
{
    return a->text[id] != NULL;
}

int64_t cst_args_int(const cst_args *a, cst_option_id id)
{
    int64_t v = 0;
    parse_int(&v, a->text[id]);
    return v;
}

double cst_args_real(const cst_args *a, cst_option_id id)
{
    double v = 0;
    parse_real(&v, a->text[id]);
    return v;
}

uint64_t cst_args_size(const cst_args *a, cst_option_id id)
{
    uint64_t v = 0;
    parse_size(&v, a->text[id]);
    return v;
}

int cst_args_sizes(uint64_t *list, int most, const cst_args *a, cst_option_id id)
{
    int n = parse_sizes(list, most, a->text[id], 0);
    return n < most ? n : most;
}

int cst_args_ints(int64_t list[CST_INTS_MOST], const cst_args *a, cst_option_id id)
{
    return parse_ints(list, a->text[id], 0);
}

int cst_args_choice(const cst_args *a, cst_option_id id)
{
    return word_index(options[id].value, a->text[id]);
}

void cst_args_help(FILE *f, unsigned command)
{
    for (int i = 0; i < CST_OPTION_COUNT; i++) {
        const struct option *o = &options[i];
        char left[80];
        if (!(o->commands & command)) continue;
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
        fprintf(f, strlen(left) > 26 ? "  %s\n%30s" : "  %-26s  ", left, "");
        int col = 30;
        for (const char *w = o->help; *w;) { /* break lines at words */
            size_t n = strcspn(w, " ");
            if (col + (int)n > 108) {
                fprintf(f, "\n%30s", "");
                col = 30;
            }
            fprintf(f, "%.*s%s", (int)n, w, w[n] ? " " : "");
            col += (int)n + 1;
            w += n + (w[n] != 0);
        }
        if (o->def) fprintf(f, " (default %s)", o->def);
        fputc('\n', f);
    }
}

/* roff wants a backslash before a hyphen that is one, and before its own. */
static void roff(FILE *f, const char *s)
{
    for (; *s; s++) {
        if (*s == '-' || *s == '\\') fputc('\\', f);
        fputc(*s, f);
    }
}

void cst_args_man(FILE *f, unsigned command)
{
    for (int i = 0; i < CST_OPTION_COUNT; i++) {
        const struct option *o = &options[i];
        if (!(o->commands & command)) continue;
        fputs(".TP\n.B \\-\\-", f);
        roff(f, o->name);
        if (o->value) fprintf(f, " \\fI%s\\fR", o->value);
        fputc('\n', f);
        roff(f, o->help);
        if (o->def) {
            fputs(" (default ", f);
            roff(f, o->def);
            fputc(')', f);
        }
        fputc('\n', f);
    }
}

/* What the value is, as its name says: words, folders (DIR), files (FILE, PATH, F.json), or nothing to complete. */
static const char *completes(const struct option *o)
{
    if (o->kind == CST_OPT_CHOICE) return "";
    if (!o->value || (o->kind != CST_OPT_TEXT && o->kind != CST_OPT_LIST)) return NULL;
    if (strstr(o->value, "DIR")) return "-d";
    return strstr(o->value, "FILE") || strstr(o->value, "PATH") || strstr(o->value, "F.json") ? "-f" : NULL;
}

/* Words that stand for themselves in "NAME|FILE" or "DIR|bytes": all in small letters. */
static void print_words(FILE *f, const struct option *o)
{
    int first = 1;
    for (const char *w = o->value; *w; w += w[strcspn(w, "|")] ? strcspn(w, "|") + 1 : strcspn(w, "|")) {
        size_t n = strcspn(w, "|");
        if (o->kind != CST_OPT_CHOICE && strspn(w, "abcdefghijklmnopqrstuvwxyz") != n) continue;
        fprintf(f, "%s%.*s", first ? "" : " ", (int)n, w);
        first = 0;
    }
    if (o == &options[CST_OPTION_CONFIG]) fputs("opt-125m opt-350m opt-1.3b opt-2.7b opt-6.7b opt-13b", f);
}

void cst_args_completion(FILE *f, unsigned command)
{
    fputs("        options=\"", f);
    for (int i = 0; i < CST_OPTION_COUNT; i++)
        if (options[i].commands & command) fprintf(f, "--%s ", options[i].name);
    fputs("\"\n        case $option in\n", f);
    for (int i = 0; i < CST_OPTION_COUNT; i++) {
        const struct option *o = &options[i];
        if (!(o->commands & command) || !o->value) continue;
        const char *what = completes(o);
        fprintf(f, "        --%s) value=yes", o->name);
        if (what) {
            fputs(" words=\"", f);
            print_words(f, o);
            fprintf(f, "\" paths=%s", what);
        }
        fputs(" ;;\n", f);
    }
    fputs("        esac\n", f);
}

json_t *cst_args_json(const cst_args *a)
{
    json_t *j = json_object();
    for (int i = 0; i < CST_OPTION_COUNT; i++) {
        cst_option_id id = (cst_option_id)i;
        json_t *v = NULL;
        if (!(options[i].commands & a->command) || id == CST_OPTION_HELP) continue;
        switch (options[i].kind) {
        case CST_OPT_FLAG: v = json_boolean(cst_args_flag(a, id)); break;
        case CST_OPT_INT: v = a->text[i] ? json_integer((json_int_t)cst_args_int(a, id)) : json_null(); break;
        case CST_OPT_REAL: v = a->text[i] ? json_real(cst_args_real(a, id)) : json_null(); break;
        case CST_OPT_SIZE: v = a->text[i] ? json_integer((json_int_t)cst_args_size(a, id)) : json_null(); break;
        default: v = a->text[i] ? cst_json_text(a->text[i]) : json_null();
        }
        json_object_set_new(j, options[i].name, v);
    }
    return j;
}

void cst_args_settings(FILE *f, const cst_args *a)
{
    int col = 0;
    for (int i = 0; i < CST_OPTION_COUNT; i++) {
        if (!(options[i].commands & a->command) || !a->text[i] || options[i].kind == CST_OPT_FLAG) continue;
        int n = (int)(strlen(options[i].name) + strlen(a->text[i]) + 3);
        if (col && col + n > 110) {
            fputc('\n', f);
            col = 0;
        }
        fprintf(f, "%s%s %s", col ? " | " : "  ", options[i].name, a->text[i]);
        col += n;
    }
    if (col) fputc('\n', f);
}
