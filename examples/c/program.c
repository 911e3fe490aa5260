#include "program.h"
#include "program_run.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORKERS_MAX = 256, CONTINUE = -1 };

static const char *const transports[] = {
    [FUSEWIRE_TRANSPORT_AUTO] = "auto",
    [FUSEWIRE_TRANSPORT_POLL] = "poll",
    [FUSEWIRE_TRANSPORT_RING] = "ring",
    [FUSEWIRE_TRANSPORT_URING] = "uring",
};

bool program_parse_number(const char *text, uint64_t maximum, uint64_t *value)
{
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    if (end[0] != 0) {
        const char *units = "kmgt";
        const char *unit = strchr(units, end[0] | 0x20);
        if (unit == NULL || end[1] != 0)
            return false;
        int shift = 10 * (int)(unit - units + 1);
        if (number > UINT64_MAX >> shift)
            return false;
        number <<= shift;
    }
    *value = number;
    return number <= maximum;
}

static void print_help(const struct program *program)
{
    const char *source = program->needs_source ? "SOURCE " : "[SOURCE] ";
    printf("Usage: %s %sMOUNTPOINT [-f] [-d] [-s] [-o option,...]\n\n%s\n"
           "Goes into the background once mounted, and ends when unmounted or on SIGINT, SIGTERM and SIGHUP.\n\n"
           "  -f            stay in the foreground\n"
           "  -d            foreground, with a line per request and the statistics on standard error\n"
           "  -s            one thread (the default; undoes -o workers)\n"
           "  -h, --help    this help\n"
           "  -V, --version the version\n\n"
           "Options after -o:\n",
           program->name, source, program->description);
    if (program->own_options != NULL)
        printf("%s", program->own_options);
    if (program->needs_source)
        printf("  source=DIR         the folder, where the command line does not name it\n");
    printf("  transport=NAME     how requests travel: auto, uring, ring or poll\n"
           "  depth=N            requests open at once\n"
           "  queue_depth=N      over uring: requests of one CPU open at once\n"
           "  workers=N          threads, each with a channel and a share of the CPUs; cpus or 0: as many as CPUs\n"
           "  max_write=N        the most bytes of one write\n"
           "  writeback_cache    let the kernel cache writes\n"
           "  and the usual mount options: ro, allow_other, fsname=NAME, ...\n");
}

static int usage_error(const struct program *program, const char *problem, const char *what)
{
    fprintf(stderr, "%s: %s%s\nTry \"%s --help\".\n", program->name, problem, what, program->name);
    return 2;
}

/* ---- Lists of options ------------------------------------------------------------------------------------------ */

/* Appends to a list of options; with `value`, as "option=value", commas and backslashes of the value escaped. */
static void append_option(char **list, const char *option, const char *value)
{
    size_t used = *list != NULL ? strlen(*list) : 0;
    char *grown = realloc(*list, used + strlen(option) + (value != NULL ? 2 * strlen(value) : 0) + 3);
    if (grown == NULL) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    *list = grown;
    if (used > 0)
        grown[used++] = ',';
    grown = stpcpy(grown + used, option);
    if (value == NULL)
        return;
    *grown++ = '=';
    for (; *value != 0; value++) {
        if (*value == ',' || *value == '\\')
            *grown++ = '\\';
        *grown++ = *value;
    }
    *grown = 0;
}

/* Cuts the first option off the list: *option gets it without its escapes, *raw as it stands. Returns the rest. */
static char *cut_option(char *list, char **raw, char *option)
{
    *raw = list;
    while (*list != 0 && *list != ',') {
        if (*list == '\\' && list[1] != 0)
            list++;
        *option++ = *list++;
    }
    *option = 0;
    if (*list == 0)
        return list;
    *list = 0;
    return list + 1;
}

static bool has_option(const char *list, const char *key)
{
    size_t size = strlen(key);
    for (; list != NULL; list = strchr(list, ',')) {
        list += *list == ',';
        if (strncmp(list, key, size) == 0 && list[size] == '=')
            return true;
    }
    return false;
}

static bool take_number(const char *value, uint32_t maximum, uint32_t *number)
{
    uint64_t wide;
    if (!program_parse_number(value, maximum, &wide) || wide == 0)
        return false;
    *number = (uint32_t)wide;
    return true;
}

static bool take_workers(const char *value, uint32_t *workers)
{
    uint64_t wide = 0;
    if (value == NULL || (strcmp(value, "cpus") != 0 && !program_parse_number(value, WORKERS_MAX, &wide)))
        return false;
    if (wide == 0)
        wide = fusewire_worker_count();
    *workers = wide < WORKERS_MAX ? (uint32_t)wide : WORKERS_MAX;
    return true;
}

static bool take_transport(const char *value, uint32_t *transport)
{
    for (uint32_t i = 0; i < sizeof transports / sizeof transports[0]; i++) {
        if (value != NULL && strcmp(value, transports[i]) == 0) {
            *transport = i;
            return true;
        }
    }
    return false;
}

/* Takes one option. `option` is cut in two at its '='; `raw` goes to the library if nobody else wants it. 0, or the
 * exit status with the words printed. */
static int take_option(struct settings *settings, char *option, const char *raw)
{
    const struct program *program = settings->program;
    char *value = strchr(option, '=');
    if (value != NULL)
        *value++ = 0;
    bool good = true;
    if (option[0] == 0 && value == NULL) {
        return 0; /* ",," */
    } else if (strcmp(option, "transport") == 0) {
        good = take_transport(value, &settings->transport);
    } else if (strcmp(option, "depth") == 0) {
        good = take_number(value, UINT32_MAX, &settings->depth);
    } else if (strcmp(option, "workers") == 0) {
        good = take_workers(value, &settings->workers);
    } else if (strcmp(option, "queue_depth") == 0) {
        good = take_number(value, UINT32_MAX, &settings->queue_depth);
    } else if (strcmp(option, "max_write") == 0) {
        good = take_number(value, UINT32_MAX, &settings->max_write);
    } else if (strcmp(option, "writeback_cache") == 0) {
        good = value == NULL;
        settings->writeback_cache = true;
    } else if (program->needs_source && strcmp(option, "source") == 0) {
        good = value != NULL && value[0] != 0;
        free(settings->source);
        settings->source = good ? strdup(value) : NULL;
    } else if (program->option == NULL || !program->option(program->context, option, value)) {
        append_option(&settings->mount_options, raw, NULL);
    }
    return good ? 0 : usage_error(program, "option with a missing or wrong value: ", raw);
}

static int take_options(struct settings *settings, char *list)
{
    char *option = malloc(strlen(list) + 1);
    int status = option != NULL ? 0 : 1;
    while (status == 0 && *list != 0) {
        char *raw;
        list = cut_option(list, &raw, option);
        status = take_option(settings, option, raw);
    }
    free(option);
    return status;
}

/* ---- The command line ------------------------------------------------------------------------------------------ */

/* The mount point as it will be found from "/", symbolic links left to the mount. */
static char *absolute(const char *path)
{
    char folder[PATH_MAX];
    char *whole;
    if (path[0] == '/' || getcwd(folder, sizeof folder) == NULL)
        return strdup(path);
    return asprintf(&whole, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, path) < 0 ? NULL : whole;
}

/* SOURCE and MOUNTPOINT; what the mount is to be called. */
static int take_words(struct settings *settings, int count, char **words)
{
    const struct program *program = settings->program;
    if (count < 1 || words[count - 1][0] == 0)
        return usage_error(program, "the mount point is missing", "");
    if (count > 2)
        return usage_error(program, "one word too many: ", words[2]);
    const char *name = program->name;
    if (count == 2 && program->needs_source) {
        free(settings->source);
        settings->source = strdup(words[0]);
    } else if (count == 2) {
        name = words[0];
    }
    if (program->needs_source) {
        if (settings->source == NULL)
            return usage_error(program, "the source folder is missing", "");
        name = settings->source;
    }
    if (!has_option(settings->mount_options, "fsname"))
        append_option(&settings->mount_options, "fsname", name);
    if (!has_option(settings->mount_options, "subtype"))
        append_option(&settings->mount_options, "subtype", program->name);
    settings->mountpoint = absolute(words[count - 1]);
    return settings->mountpoint != NULL ? CONTINUE : 1;
}

/* Fills the settings: CONTINUE, or the exit status. */
static int parse(struct settings *settings, int argc, char **argv)
{
    static const struct option long_options[] = {
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {0},
    };
    const struct program *program = settings->program;
    bool single = false;
    int status = 0;
    int option;
    while (status == 0 && (option = getopt_long(argc, argv, "fdshVo:", long_options, NULL)) != -1) {
        switch (option) {
        case 'd':
            settings->debug = true;
            settings->foreground = true;
            break;
        case 'f':
            settings->foreground = true;
            break;
        case 's':
            single = true;
            break;
        case 'h':
            print_help(program);
            return 0;
        case 'V': {
            uint32_t version = fusewire_version();
            printf("%s with fusewire %" PRIu32 ".%" PRIu32 ".%" PRIu32 "\n", program->name, version >> 16,
                   version >> 8 & 0xff, version & 0xff);
            return 0;
        }
        case 'o':
            status = take_options(settings, optarg);
            break;
        default:
            fprintf(stderr, "Try \"%s --help\".\n", program->name);
            return 2;
        }
    }
    if (status != 0)
        return status;
    if (single)
        settings->workers = 1;
    return take_words(settings, argc - optind, argv + optind);
}

int program_main(const struct program *program, int argc, char **argv)
{
    struct settings settings = {.program = program, .workers = 1};
    if (program->mount_options != NULL)
        append_option(&settings.mount_options, program->mount_options, NULL);
    int status = parse(&settings, argc, argv);
    if (status == CONTINUE)
        status = program_run(&settings);
    free(settings.source);
    free(settings.mountpoint);
    free(settings.mount_options);
    return status;
}
