#include "mount_point.h"

#include "error.h"
#include "helper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000U
#endif

enum { PROBE_MILLISECONDS = 1000 };

/* Octal escapes of /proc: blank, tab, newline and backslash. */
static void unescape(char *text)
{
    char *out = text;
    while (*text) {
        if (text[0] == '\\' && strspn(text + 1, "01234567") >= 3) {
            *out++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
            text += 4;
        } else {
            *out++ = *text++;
        }
    }
    *out = '\0';
}

/* Ends the blank-separated word at *text, moves *text behind it; "" at the end. */
static char *next_word(char **text)
{
    char *word = *text + strspn(*text, " \n");
    char *end = word + strcspn(word, " \n");
    *text = *end ? end + 1 : end;
    *end = '\0';
    unescape(word);
    return word;
}

/* What is mounted at a path. */
struct mounted {
    char *type; /* NULL: nothing, or it cannot be known */
    char *source;
};

/* The topmost mount at `path`; its strings are to be freed. */
static struct mounted find_mounted(const char *path)
{
    struct mounted found = {NULL, NULL};
    FILE *table = fopen("/proc/self/mountinfo", "re");
    if (!table)
        return found;
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, table) >= 0) {
        /* "ID PARENT DEVICE ROOT POINT OPTIONS... - TYPE SOURCE OPTIONS": of several at a point the last is on top */
        char *behind = strstr(line, " - ");
        if (!behind)
            continue;
        char *before = line;
        for (int i = 0; i < 4; i++)
            next_word(&before);
        if (strcmp(next_word(&before), path) != 0)
            continue;
        behind += strlen(" - ");
        free(found.type);
        free(found.source);
        found.type = strdup(next_word(&behind));
        found.source = strdup(next_word(&behind));
    }
    free(line);
    fclose(table);
    return found;
}

/* Has the server of the mount at `path` gone? Asked by a stat in a child, as a server that hangs would hang us. */
static bool is_dead(const char *path)
{
    pid_t pid = helper_fork();
    if (pid == 0) {
        helper_close_from(0);
        struct stat ignored;
        _exit(stat(path, &ignored) < 0 && errno == ENOTCONN);
    }
    int status;
    return pid > 0 && helper_finish(pid, PROBE_MILLISECONDS, &status) && status != -1 && WIFEXITED(status) &&
           WEXITSTATUS(status) == 1;
}

static int refuse_dead(const char *path)
{
    return fail(-ENOTCONN,
                "mount point \"%s\" is a FUSE mount whose server has gone: unmount it first, with "
                "fusermount3 -u or, as root, umount -l",
                path);
}

/* A mount of systemd's automounter is there to be mounted upon. */
static int check_not_mounted(const char *path)
{
    struct mounted found = find_mounted(path);
    int error = 0;
    if (found.type && strncmp(found.type, "fuse", 4) == 0 && is_dead(path))
        error = refuse_dead(path);
    else if (found.type && strcmp(found.type, "autofs") != 0)
        error = fail(-EBUSY, "mount point \"%s\" is in use: \"%s\" is mounted there, of type %s", path,
                     found.source ? found.source : "", found.type);
    free(found.type);
    free(found.source);
    return error;
}

static int check_empty(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder)
        return 0; /* whoever may not look inside may still be allowed to mount */
    bool empty = true;
    for (struct dirent *entry; empty && (entry = readdir(folder));)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(folder);
    if (empty)
        return 0;
    return fail(-ENOTEMPTY,
                "mount point \"%s\" is not empty, and a mount would hide what is in it: use another folder, or "
                "-o nonempty if that is meant",
                path);
}

static int check(const char *path, bool nonempty)
{
    int error = check_not_mounted(path);
    if (error < 0)
        return error;
    struct stat status;
    if (stat(path, &status) < 0)
        return errno == ENOTCONN ? refuse_dead(path) : fail_errno(-errno, "mount point \"%s\" cannot be reached", path);
    if (!S_ISDIR(status.st_mode))
        return fail(-ENOTDIR, "mount point \"%s\" is not a folder", path);
    return nonempty ? 0 : check_empty(path);
}

int mount_point_resolve(const char *path, bool nonempty, char **absolute)
{
    char *resolved = realpath(path, NULL);
    if (!resolved) {
        switch (errno) {
        case ENOENT:
            return fail(-ENOENT, "mount point \"%s\" does not exist: make the folder first", path);
        case ENOTDIR:
            return fail(-ENOTDIR, "mount point \"%s\" is not a folder", path);
        case ENOTCONN:
            return fail(-ENOTCONN, "mount point \"%s\" lies in a FUSE mount whose server has gone", path);
        default:
            return fail_errno(-errno, "mount point \"%s\" cannot be reached", path);
        }
    }
    int error = check(resolved, nonempty);
    if (error < 0)
        free(resolved);
    else
        *absolute = resolved;
    return error;
}

int mount_point_identify(const char *absolute, struct mount_identity *identity)
{
    /* With DONT_SYNC the kernel answers from what it has: a server that is gone or hangs is not asked. */
    struct statx status;
    if (statx(AT_FDCWD, absolute, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, STATX_MNT_ID_UNIQUE,
              &status) < 0)
        return -errno;
    identity->id = status.stx_mask & (STATX_MNT_ID | STATX_MNT_ID_UNIQUE) ? status.stx_mnt_id : 0;
    identity->device_major = status.stx_dev_major;
    identity->device_minor = status.stx_dev_minor;
    return 0;
}

bool mount_identity_equal(const struct mount_identity *a, const struct mount_identity *b)
{
    return a->id == b->id && a->device_major == b->device_major && a->device_minor == b->device_minor;
}
