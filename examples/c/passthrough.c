/* A folder, shown somewhere else: every request is carried out on the file below, by way of a descriptor of it.
 *
 *     passthrough SOURCE MOUNTPOINT
 *
 * Run by root it serves all users: the kernel checks permissions (modes, groups and ACLs), and what is made belongs to
 * the caller. Locks are the kernel's own. The source may change behind the mount's back.
 *
 * With -o passthrough the kernel reads and writes the files below by itself. It then opens them with the flags of
 * open(2), so that fcntl cannot take O_APPEND away later, and any write, root's too, clears set-user-ID bits. */
#include "passthrough.h"
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static operation *const operations[] = {
    [FUSEWIRE_LOOKUP] = passthrough_lookup,
    [FUSEWIRE_GETATTR] = passthrough_getattr,
    [FUSEWIRE_SETATTR] = passthrough_setattr,
    [FUSEWIRE_READLINK] = passthrough_readlink,
    [FUSEWIRE_SYMLINK] = passthrough_symlink,
    [FUSEWIRE_MKNOD] = passthrough_mknod,
    [FUSEWIRE_MKDIR] = passthrough_mkdir,
    [FUSEWIRE_UNLINK] = passthrough_unlink,
    [FUSEWIRE_RMDIR] = passthrough_rmdir,
    [FUSEWIRE_RENAME] = passthrough_rename,
    [FUSEWIRE_LINK] = passthrough_link,
    [FUSEWIRE_OPEN] = passthrough_open,
    [FUSEWIRE_READ] = passthrough_read,
    [FUSEWIRE_WRITE] = passthrough_write,
    [FUSEWIRE_STATFS] = passthrough_statfs,
    [FUSEWIRE_RELEASE] = passthrough_release,
    [FUSEWIRE_FSYNC] = passthrough_fsync,
    [FUSEWIRE_SETXATTR] = passthrough_setxattr,
    [FUSEWIRE_GETXATTR] = passthrough_getxattr,
    [FUSEWIRE_LISTXATTR] = passthrough_listxattr,
    [FUSEWIRE_REMOVEXATTR] = passthrough_removexattr,
    [FUSEWIRE_FLUSH] = passthrough_flush,
    [FUSEWIRE_OPENDIR] = passthrough_opendir,
    [FUSEWIRE_READDIR] = passthrough_readdir,
    [FUSEWIRE_RELEASEDIR] = passthrough_releasedir,
    [FUSEWIRE_FSYNCDIR] = passthrough_fsync,
    [FUSEWIRE_CREATE] = passthrough_create,
    [FUSEWIRE_IOCTL] = passthrough_ioctl,
    [FUSEWIRE_FALLOCATE] = passthrough_fallocate,
    [FUSEWIRE_READDIRPLUS] = passthrough_readdirplus,
    [FUSEWIRE_RENAME2] = passthrough_rename,
    [FUSEWIRE_LSEEK] = passthrough_lseek,
    [FUSEWIRE_COPY_FILE_RANGE] = passthrough_copy,
    [FUSEWIRE_SYNCFS] = passthrough_syncfs,
    [FUSEWIRE_TMPFILE] = passthrough_tmpfile,
    [FUSEWIRE_STATX] = passthrough_statx,
    [FUSEWIRE_COPY_FILE_RANGE_64] = passthrough_copy,
};

static int carry_out(struct passthrough *filesystem, fusewire_connection *connection, const fusewire_request *request)
{
    struct call call = {.filesystem = filesystem, .connection = connection, .request = request};
    operation *operation =
        request->opcode < sizeof operations / sizeof operations[0] ? operations[request->opcode] : NULL;
    if (request->opcode == FUSEWIRE_DESTROY)
        return 0;
    if (!operation)
        return -ENOSYS;
    int result = nodes_acquire(&filesystem->nodes, request->nodeid, &call.node);
    if (result < 0)
        return result;
    result = operation(&call);
    nodes_release(&filesystem->nodes, call.node);
    return result;
}

static void forget_many(struct passthrough *filesystem, const fusewire_request *request)
{
    const fusewire_forget *forgets = request->data;
    for (uint32_t i = 0; i < request->count; i++)
        nodes_forget(&filesystem->nodes, forgets[i].nodeid, forgets[i].nlookup);
}

/* What INIT agreed upon, once per thread. */
static void learn_session(struct passthrough *filesystem, fusewire_connection *connection)
{
    static _Thread_local bool learnt;
    fusewire_session session = {.size = sizeof session};
    if (learnt || fusewire_negotiated(connection, &session) < 0)
        return;
    learnt = true;
    filesystem->writes_cached = session.capabilities & FUSEWIRE_CAP(WRITEBACK_CACHE);
    filesystem->kernel_prunes = session.minor >= 45;
    if (!(session.capabilities & FUSEWIRE_CAP(PASSTHROUGH)))
        filesystem->kernel_io = false;
}

static void prune(struct passthrough *filesystem, fusewire_connection *connection)
{
    uint64_t ids[256];
    size_t count = nodes_to_prune(&filesystem->nodes, ids, sizeof ids / sizeof ids[0]);
    if (count > 0 && filesystem->kernel_prunes)
        fusewire_notify_prune(connection, ids, count);
}

static void handle(void *context, fusewire_connection *connection, const fusewire_request *request)
{
    struct passthrough *filesystem = context;
    learn_session(filesystem, connection);
    switch (request->opcode) {
    case FUSEWIRE_FORGET:
        nodes_forget(&filesystem->nodes, request->nodeid, request->length);
        return;
    case FUSEWIRE_BATCH_FORGET:
        forget_many(filesystem, request);
        return;
    case FUSEWIRE_OUTCOME:
        grant_settle(filesystem, connection, request);
        return;
    case FUSEWIRE_INTERRUPT: /* nothing here waits for anybody */
    case FUSEWIRE_NOTIFY_REPLY:
        return;
    default:
        break;
    }
    int result = carry_out(filesystem, connection, request);
    if (result == 0)
        fusewire_reply_ok(connection, request->id);
    else if (result < 0)
        fusewire_reply_error(connection, request->id, result);
    prune(filesystem, connection);
}

/* ---- The program ----------------------------------------------------------------------------------------------- */

static struct passthrough filesystem = {.valid_seconds = 1};

static const char description[] = "Shows the folder SOURCE at MOUNTPOINT, and carries out there what is done here.\n"
                                  "Run by root it serves all users, each with his own rights.\n";

static const char own_options[] = "  timeout=SECONDS    for how long the kernel may believe names and attributes (1)\n"
                                  "  passthrough        let the kernel read and write the files below by itself\n";

static struct program program = {
    .name = "passthrough",
    .description = description,
    .own_options = own_options,
    .needs_source = true,
    .capabilities = FUSEWIRE_CAP(ATOMIC_O_TRUNC) | FUSEWIRE_CAP(DONT_MASK) | FUSEWIRE_CAP(DO_READDIRPLUS) |
                    FUSEWIRE_CAP(READDIRPLUS_AUTO) | FUSEWIRE_CAP(PARALLEL_DIROPS) | FUSEWIRE_CAP(POSIX_ACL) |
                    FUSEWIRE_CAP(CACHE_SYMLINKS) | FUSEWIRE_CAP(HANDLE_KILLPRIV_V2) | FUSEWIRE_CAP(SETXATTR_EXT) |
                    FUSEWIRE_CAP(CREATE_SUPP_GROUP) | FUSEWIRE_CAP(AUTO_INVAL_DATA),
    .mount_options = "default_permissions",
};

/* Seconds with fractions, up to a million. */
static bool parse_seconds(const char *text, uint64_t *seconds, uint32_t *nanoseconds)
{
    char *end;
    if (!text || text[0] < '0' || text[0] > '9')
        return false;
    double value = strtod(text, &end);
    if (*end != 0 || !(value <= 1e6))
        return false;
    *seconds = (uint64_t)value;
    *nanoseconds = (uint32_t)((value - (double)*seconds) * 1e9);
    return true;
}

static bool take_option(void *context, const char *key, const char *value)
{
    struct passthrough *taking = context;
    if (strcmp(key, "timeout") == 0) {
        taking->valid_wrong = !parse_seconds(value, &taking->valid_seconds, &taking->valid_nanoseconds);
        return true;
    }
    if (strcmp(key, "passthrough") == 0 && !value) {
        taking->kernel_io = true;
        program.capabilities |= FUSEWIRE_CAP(PASSTHROUGH);
        return true;
    }
    return false;
}

static int complain(const char *what, int error)
{
    fprintf(stderr, "passthrough: %s: %s\n", what, strerror(-error));
    return error;
}

static int prepare(void *context, const char *source)
{
    struct passthrough *starting = context;
    struct stat status;
    uint64_t mount;
    if (starting->valid_wrong)
        return complain("-o timeout takes a number of seconds", -EINVAL);
    /* Before the mount, which may cover it. */
    int fd = open(source, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return complain(source, -errno);
    int error = fstat(fd, &status) < 0 ? -errno : mounts_id(fd, &mount);
    if (error == 0)
        error = mounts_start(&starting->mounts);
    if (error < 0) {
        close(fd);
        return complain(source, error);
    }
    error = nodes_start(&starting->nodes, fd, &status, mount);
    if (error < 0)
        return complain("starting", error);
    starting->source_device = status.st_dev;
    handles_start(&starting->handles);
    grants_start(&starting->grants);
    identity_prepare();
    signal(SIGXFSZ, SIG_IGN); /* a file that becomes too large is an error of the client's */
    return 0;
}

static void finish(void *context)
{
    struct passthrough *ending = context;
    grants_finish(&ending->grants);
    handles_finish(&ending->handles);
    nodes_finish(&ending->nodes);
    mounts_finish(&ending->mounts);
}

int main(int argc, char **argv)
{
    program.option = take_option;
    program.prepare = prepare;
    program.handle = handle;
    program.finish = finish;
    program.context = &filesystem;
    if (geteuid() == 0)
        program.mount_options = "default_permissions,allow_other";
    return program_main(&program, argc, argv);
}
