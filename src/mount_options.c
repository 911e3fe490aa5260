#include "mount_options.h"

#include "error.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

const char *const mount_parameter_names[MOUNT_PARAMETERS] = {
    [MOUNT_DEFAULT_PERMISSIONS] = "default_permissions",
    [MOUNT_ALLOW_OTHER] = "allow_other",
    [MOUNT_MAX_READ] = "max_read",
    [MOUNT_BLKSIZE] = "blksize",
    [MOUNT_CONTEXT] = "context",
    [MOUNT_FSCONTEXT] = "fscontext",
    [MOUNT_DEFCONTEXT] = "defcontext",
    [MOUNT_ROOTCONTEXT] = "rootcontext",
};

enum meaning { FLAG, SWITCH, NUMBER, TEXT, FSNAME, SUBTYPE, NONEMPTY, AUTO_UNMOUNT, BLKDEV, IGNORED, REFUSED };

struct known_option {
    const char *name;
    enum meaning meaning;
    unsigned long set; /* FLAG: MS_* to set; SWITCH, NUMBER, TEXT: the parameter */
    unsigned long clear;
    const char *reason; /* REFUSED */
};

#define OURS "is set by the library itself"

/* What mount(8) and fstab say to themselves or to systemd (IGNORED) reaches a filesystem's program all the same. */
static const struct known_option known_options[] = {
    {.name = "rw", .meaning = FLAG, .clear = MS_RDONLY},
    {.name = "ro", .meaning = FLAG, .set = MS_RDONLY},
    {.name = "suid", .meaning = FLAG, .clear = MS_NOSUID},
    {.name = "nosuid", .meaning = FLAG, .set = MS_NOSUID},
    {.name = "dev", .meaning = FLAG, .clear = MS_NODEV},
    {.name = "nodev", .meaning = FLAG, .set = MS_NODEV},
    {.name = "exec", .meaning = FLAG, .clear = MS_NOEXEC},
    {.name = "noexec", .meaning = FLAG, .set = MS_NOEXEC},
    {.name = "async", .meaning = FLAG, .clear = MS_SYNCHRONOUS},
    {.name = "sync", .meaning = FLAG, .set = MS_SYNCHRONOUS},
    {.name = "dirsync", .meaning = FLAG, .set = MS_DIRSYNC},
    {.name = "atime", .meaning = FLAG, .clear = MS_NOATIME},
    {.name = "noatime", .meaning = FLAG, .set = MS_NOATIME, .clear = MS_STRICTATIME},
    {.name = "diratime", .meaning = FLAG, .clear = MS_NODIRATIME},
    {.name = "nodiratime", .meaning = FLAG, .set = MS_NODIRATIME},
    {.name = "relatime", .meaning = FLAG, .clear = MS_NOATIME | MS_STRICTATIME}, /* the kernel's default */
    {.name = "norelatime", .meaning = IGNORED},
    {.name = "strictatime", .meaning = FLAG, .set = MS_STRICTATIME, .clear = MS_NOATIME},
    {.name = "nostrictatime", .meaning = FLAG, .clear = MS_STRICTATIME},
    {.name = "lazytime", .meaning = FLAG, .set = MS_LAZYTIME},
    {.name = "nolazytime", .meaning = FLAG, .clear = MS_LAZYTIME},
    {.name = "symfollow", .meaning = FLAG, .clear = MS_NOSYMFOLLOW},
    {.name = "nosymfollow", .meaning = FLAG, .set = MS_NOSYMFOLLOW},

    {.name = "default_permissions", .meaning = SWITCH, .set = MOUNT_DEFAULT_PERMISSIONS},
    {.name = "allow_other", .meaning = SWITCH, .set = MOUNT_ALLOW_OTHER},
    {.name = "max_read", .meaning = NUMBER, .set = MOUNT_MAX_READ},
    {.name = "blksize", .meaning = NUMBER, .set = MOUNT_BLKSIZE},
    {.name = "context", .meaning = TEXT, .set = MOUNT_CONTEXT},
    {.name = "fscontext", .meaning = TEXT, .set = MOUNT_FSCONTEXT},
    {.name = "defcontext", .meaning = TEXT, .set = MOUNT_DEFCONTEXT},
    {.name = "rootcontext", .meaning = TEXT, .set = MOUNT_ROOTCONTEXT},
    {.name = "fsname", .meaning = FSNAME},
    {.name = "subtype", .meaning = SUBTYPE},
    {.name = "nonempty", .meaning = NONEMPTY},
    {.name = "auto_unmount", .meaning = AUTO_UNMOUNT},
    {.name = "blkdev", .meaning = BLKDEV},

    {.name = "defaults", .meaning = IGNORED},
    {.name = "auto", .meaning = IGNORED},
    {.name = "noauto", .meaning = IGNORED},
    {.name = "user", .meaning = IGNORED},
    {.name = "nouser", .meaning = IGNORED},
    {.name = "users", .meaning = IGNORED},
    {.name = "nousers", .meaning = IGNORED},
    {.name = "owner", .meaning = IGNORED},
    {.name = "noowner", .meaning = IGNORED},
    {.name = "group", .meaning = IGNORED},
    {.name = "nogroup", .meaning = IGNORED},
    {.name = "nofail", .meaning = IGNORED},
    {.name = "_netdev", .meaning = IGNORED},
    {.name = "comment", .meaning = IGNORED},
    {.name = "uhelper", .meaning = IGNORED},
    {.name = "helper", .meaning = IGNORED},
    {.name = "silent", .meaning = IGNORED},
    {.name = "loud", .meaning = IGNORED},
    {.name = "nomand", .meaning = IGNORED},

    {.name = "fd", .meaning = REFUSED, .reason = OURS},
    {.name = "rootmode", .meaning = REFUSED, .reason = OURS},
    {.name = "user_id", .meaning = REFUSED, .reason = OURS},
    {.name = "group_id", .meaning = REFUSED, .reason = OURS},
    {.name = "allow_root",
     .meaning = REFUSED,
     .reason = "is not known to the kernel: use allow_other, and default_permissions with it"},
    {.name = "mand", .meaning = REFUSED, .reason = "is refused by the kernel's FUSE"},
    {.name = "remount", .meaning = REFUSED, .reason = "is not possible: unmount, then mount again"},
};

static const struct known_option *find_option(const char *name)
{
    static const struct known_option extension = {.name = "x-", .meaning = IGNORED};
    if (strncmp(name, "x-", 2) == 0 || strncmp(name, "X-", 2) == 0)
        return &extension;
    for (size_t i = 0; i < sizeof known_options / sizeof known_options[0]; i++)
        if (strcmp(known_options[i].name, name) == 0)
            return &known_options[i];
    return NULL;
}

static bool is_octal(char c)
{
    return c >= '0' && c <= '7';
}

/* Takes the byte behind a backslash, returns where it ends. No option can hold a NUL: `\000` is no escape. */
static const char *unescape(const char *text, char *out)
{
    if (text[0] >= '0' && text[0] <= '3' && is_octal(text[1]) && is_octal(text[2]) && strncmp(text, "000", 3) != 0) {
        *out = (char)((text[0] - '0') * 64 + (text[1] - '0') * 8 + (text[2] - '0'));
        return text + 3;
    }
    *out = *text;
    return text + 1;
}

/* Copies the option at the front of `list` to `name`, without its escapes and quotes, and ends it where its value
 * begins (*value; NULL: it has none). Returns what follows; NULL: a quotation does not end. */
static const char *next_option(const char *list, char *name, char **value)
{
    char *out = name;
    bool quoted = false;
    *value = NULL;
    while (*list && (quoted || *list != ',')) {
        char c = *list++;
        if (quoted && c == '"') {
            quoted = false;
        } else if (c == '\\' && *list) {
            list = unescape(list, out++);
        } else if (c == '=' && !*value) {
            *out++ = '\0';
            *value = out;
            if (*list == '"') {
                quoted = true;
                list++;
            }
        } else {
            *out++ = c;
        }
    }
    *out = '\0';
    if (quoted)
        return NULL;
    return *list ? list + 1 : list;
}

static int keep(char **place, const char *value)
{
    char *copy = strdup(value);
    if (!copy)
        return fail(-ENOMEM, "no memory for the mount options");
    free(*place);
    *place = copy;
    return 0;
}

static int check_number(const char *name, const char *value)
{
    size_t digits = strspn(value, "0123456789");
    if (digits == 0 || value[digits] != '\0' || digits > 10 || strtoull(value, NULL, 10) > UINT32_MAX)
        return fail(-EINVAL, "mount option \"%s\" needs a number of bytes below 2^32, not \"%s\"", name, value);
    return 0;
}

static int take_option(struct mount_options *options, const char *name, const char *value)
{
    const struct known_option *known = find_option(name);
    if (!known)
        return fail(-EINVAL, "unknown mount option \"%s\"", name);
    if (known->meaning == REFUSED)
        return fail(-EINVAL, "mount option \"%s\" %s", name, known->reason);
    if (known->meaning == IGNORED)
        return 0;
    bool needs_value =
        known->meaning == NUMBER || known->meaning == TEXT || known->meaning == FSNAME || known->meaning == SUBTYPE;
    if (needs_value && (!value || !*value))
        return fail(-EINVAL, "mount option \"%s\" needs a value: %s=...", name, name);
    if (!needs_value && value)
        return fail(-EINVAL, "mount option \"%s\" takes no value", name);

    int error = 0;
    switch (known->meaning) {
    case FLAG:
        options->flags = (options->flags & ~known->clear) | known->set;
        break;
    case NUMBER:
        error = check_number(name, value);
        if (error == 0)
            error = keep(&options->parameters[known->set], value);
        break;
    case SWITCH:
        error = keep(&options->parameters[known->set], "");
        break;
    case TEXT:
        error = keep(&options->parameters[known->set], value);
        break;
    case FSNAME:
        error = keep(&options->fsname, value);
        break;
    case SUBTYPE:
        error = keep(&options->subtype, value);
        break;
    case NONEMPTY:
        options->nonempty = true;
        break;
    case AUTO_UNMOUNT:
        options->auto_unmount = true;
        break;
    case BLKDEV:
        options->block_device = true;
        break;
    case IGNORED:
    case REFUSED:
        break;
    }
    return error;
}

static int check_together(const struct mount_options *options)
{
    if (options->block_device && !options->fsname)
        return fail(-EINVAL, "mount option \"blkdev\" needs the block device: fsname=/dev/...");
    if (options->parameters[MOUNT_BLKSIZE] && !options->block_device)
        return fail(-EINVAL, "mount option \"blksize\" goes with \"blkdev\" only");
    return 0;
}

int mount_options_parse(struct mount_options *options, const char *list)
{
    *options = (struct mount_options){.flags = MS_NOSUID | MS_NODEV};
    if (!list)
        return 0;
    /* A name is ended where its `=` stood, so the list's own size suffices for each option. */
    char *name = malloc(strlen(list) + 1);
    if (!name)
        return fail(-ENOMEM, "no memory for the mount options");
    int error = 0;
    while (error == 0 && *list) {
        char *value;
        list = next_option(list, name, &value);
        if (!list)
            error = fail(-EINVAL, "mount option \"%s\": its quotation does not end", name);
        else if (*name || value)
            error = take_option(options, name, value);
    }
    free(name);
    if (error == 0)
        error = check_together(options);
    if (error < 0)
        mount_options_free(options);
    return error;
}

void mount_options_free(struct mount_options *options)
{
    free(options->fsname);
    free(options->subtype);
    options->fsname = options->subtype = NULL;
    for (int i = 0; i < MOUNT_PARAMETERS; i++) {
        free(options->parameters[i]);
        options->parameters[i] = NULL;
    }
}

const char *mount_options_source(const struct mount_options *options)
{
    return options->fsname ? options->fsname : options->subtype ? options->subtype : "/dev/fuse";
}

/* Ends the stream and hands out its text, or NULL if memory ran out on the way. */
static char *finish(FILE *stream, char **text)
{
    bool failed = ferror(stream) != 0;
    if (fclose(stream) != 0 || failed) {
        free(*text);
        return NULL;
    }
    return *text;
}

char *mount_options_data(const struct mount_options *options, int device_fd)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    if (!stream)
        return NULL;
    fprintf(stream, "fd=%d,rootmode=%o,user_id=%u,group_id=%u", device_fd, (unsigned)S_IFDIR, (unsigned)geteuid(),
            (unsigned)getegid());
    for (int i = 0; i < MOUNT_PARAMETERS; i++) {
        const char *value = options->parameters[i];
        if (!value)
            continue;
        fprintf(stream, ",%s", mount_parameter_names[i]);
        if (strchr(value, ',')) /* of a security context: quotes are what the kernel's security modules read */
            fprintf(stream, "=\"%s\"", value);
        else if (*value)
            fprintf(stream, "=%s", value);
    }
    return finish(stream, &text);
}

static void put_escaped(FILE *stream, const char *name, const char *value)
{
    fprintf(stream, ",%s=", name);
    for (; *value; value++) {
        if (*value == ',' || *value == '\\')
            fputc('\\', stream);
        fputc(*value, stream);
    }
}

/* Flags that differ from the defaults; a fusermount3 that does not know one of them says so. */
char *mount_options_for_fusermount(const struct mount_options *options)
{
    static const struct {
        unsigned long flag;
        const char *name;
    } names[] = {
        {MS_RDONLY, "ro"},
        {MS_NOEXEC, "noexec"},
        {MS_SYNCHRONOUS, "sync"},
        {MS_DIRSYNC, "dirsync"},
        {MS_NOATIME, "noatime"},
        {MS_NODIRATIME, "nodiratime"},
        {MS_STRICTATIME, "strictatime"},
        {MS_LAZYTIME, "lazytime"},
        {MS_NOSYMFOLLOW, "nosymfollow"},
    };
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    if (!stream)
        return NULL;
    fputs(options->flags & MS_NOSUID ? "nosuid" : "suid", stream);
    fputs(options->flags & MS_NODEV ? ",nodev" : ",dev", stream);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (options->flags & names[i].flag)
            fprintf(stream, ",%s", names[i].name);
    for (int i = 0; i < MOUNT_PARAMETERS; i++) {
        const char *value = options->parameters[i];
        if (value && *value)
            put_escaped(stream, mount_parameter_names[i], value);
        else if (value)
            fprintf(stream, ",%s", mount_parameter_names[i]);
    }
    if (options->fsname)
        put_escaped(stream, "fsname", options->fsname);
    if (options->subtype)
        put_escaped(stream, "subtype", options->subtype);
    if (options->block_device)
        fputs(",blkdev", stream);
    if (options->auto_unmount)
        fputs(",auto_unmount", stream);
    return finish(stream, &text);
}
