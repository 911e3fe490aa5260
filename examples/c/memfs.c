/* A filesystem in memory: complete as POSIX goes, gone when it is unmounted. */
#include "memfs.h"
#include "program.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Requests -------------------------------------------------------------------------------------------------- */

static int handle_statfs(struct memfs *fs, struct node *node, fusewire_connection *connection,
                         const fusewire_request *request)
{
    (void)node;
    uint64_t free_blocks = (fs->space.limit - fs->space.used) / MEMFS_PAGE;
    const fusewire_statfs statfs = {
        .blocks = fs->space.limit / MEMFS_PAGE,
        .bfree = free_blocks,
        .bavail = free_blocks,
        .files = fs->nodes_limit,
        .ffree = fs->nodes_limit - fs->nodes_used,
        .bsize = MEMFS_PAGE,
        .namelen = MEMFS_NAME_MAX,
        .frsize = MEMFS_PAGE,
    };
    return fusewire_reply_statfs(connection, request->id, &statfs);
}

static int handle_ioctl(struct memfs *fs, struct node *node, fusewire_connection *connection,
                        const fusewire_request *request)
{
    (void)fs, (void)node, (void)connection, (void)request;
    return -ENOTTY;
}

static int handle_nothing(struct memfs *fs, struct node *node, fusewire_connection *connection,
                          const fusewire_request *request)
{
    (void)fs, (void)node;
    return fusewire_reply_ok(connection, request->id);
}

/* What is not here is answered with ENOSYS. For FLUSH, FSYNC and FSYNCDIR that is a success, and the kernel does not
 * ask again; for ACCESS, POLL and BMAP it does what it does without us. Locks it keeps by itself. */
static handler *const handlers[] = {
    [FUSEWIRE_LOOKUP] = handle_lookup,
    [FUSEWIRE_GETATTR] = handle_getattr,
    [FUSEWIRE_SETATTR] = handle_setattr,
    [FUSEWIRE_READLINK] = handle_readlink,
    [FUSEWIRE_SYMLINK] = handle_symlink,
    [FUSEWIRE_MKNOD] = handle_mknod,
    [FUSEWIRE_MKDIR] = handle_mkdir,
    [FUSEWIRE_UNLINK] = handle_unlink,
    [FUSEWIRE_RMDIR] = handle_rmdir,
    [FUSEWIRE_RENAME] = handle_rename,
    [FUSEWIRE_RENAME2] = handle_rename,
    [FUSEWIRE_LINK] = handle_link,
    [FUSEWIRE_OPEN] = handle_open,
    [FUSEWIRE_READ] = handle_read,
    [FUSEWIRE_WRITE] = handle_write,
    [FUSEWIRE_STATFS] = handle_statfs,
    [FUSEWIRE_RELEASE] = handle_release,
    [FUSEWIRE_SETXATTR] = handle_setxattr,
    [FUSEWIRE_GETXATTR] = handle_getxattr,
    [FUSEWIRE_LISTXATTR] = handle_listxattr,
    [FUSEWIRE_REMOVEXATTR] = handle_removexattr,
    [FUSEWIRE_OPENDIR] = handle_opendir,
    [FUSEWIRE_READDIR] = handle_readdir,
    [FUSEWIRE_READDIRPLUS] = handle_readdir,
    [FUSEWIRE_RELEASEDIR] = handle_release,
    [FUSEWIRE_CREATE] = handle_create,
    [FUSEWIRE_DESTROY] = handle_nothing,
    [FUSEWIRE_IOCTL] = handle_ioctl,
    [FUSEWIRE_FALLOCATE] = handle_fallocate,
    [FUSEWIRE_LSEEK] = handle_lseek,
    [FUSEWIRE_COPY_FILE_RANGE] = handle_copy,
    [FUSEWIRE_COPY_FILE_RANGE_64] = handle_copy,
    [FUSEWIRE_SYNCFS] = handle_nothing,
    [FUSEWIRE_TMPFILE] = handle_tmpfile,
    [FUSEWIRE_STATX] = handle_statx,
};

static int dispatch(struct memfs *fs, fusewire_connection *connection, const fusewire_request *request)
{
    handler *handle = request->opcode < sizeof handlers / sizeof handlers[0] ? handlers[request->opcode] : NULL;
    if (handle == NULL)
        return -ENOSYS;
    if (handle == handle_nothing)
        return handle_nothing(fs, NULL, connection, request);
    struct node *node = node_find(fs, request->nodeid);
    return node != NULL ? handle(fs, node, connection, request) : -ESTALE;
}

static void forget_batch(struct memfs *fs, const fusewire_request *request)
{
    const fusewire_forget *forgets = request->data;
    for (uint32_t i = 0; i < request->count; i++)
        node_forget(fs, forgets[i].nodeid, forgets[i].nlookup);
}

/* On the first request: what INIT agreed upon. */
static void learn_session(struct memfs *fs, fusewire_connection *connection)
{
    fusewire_session session = {.size = sizeof session};
    if (fusewire_negotiated(connection, &session) < 0)
        return;
    fs->writeback_cache = session.capabilities & FUSEWIRE_CAP(WRITEBACK_CACHE);
    fs->agreed = true;
}

static void memfs_handle(void *context, fusewire_connection *connection, const fusewire_request *request)
{
    struct memfs *fs = context;
    pthread_mutex_lock(&fs->lock);
    if (!fs->agreed)
        learn_session(fs, connection);
    if (request->opcode == FUSEWIRE_FORGET) {
        node_forget(fs, request->nodeid, request->length);
    } else if (request->opcode == FUSEWIRE_BATCH_FORGET) {
        forget_batch(fs, request);
    } else if (request->id != 0 && request->opcode != FUSEWIRE_INTERRUPT) {
        int result = dispatch(fs, connection, request);
        if (result < 0)
            fusewire_reply_error(connection, request->id, result);
    }
    pthread_mutex_unlock(&fs->lock);
}

/* ---- The program ----------------------------------------------------------------------------------------------- */

/* In bytes, or as a share of the memory: "50%". */
static bool parse_size(const char *text, uint64_t *size)
{
    size_t length = text != NULL ? strlen(text) : 0;
    if (length < 2 || text[length - 1] != '%')
        return program_parse_number(text, INT64_MAX, size) && *size > 0;
    char *end;
    unsigned long percent = strtoul(text, &end, 10);
    if (end != text + length - 1 || percent == 0 || percent > 1000)
        return false;
    *size = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 100 * percent;
    return true;
}

static bool memfs_option(void *context, const char *key, const char *value)
{
    struct memfs *fs = context;
    if (strcmp(key, "noatime") == 0) {
        fs->noatime = true; /* the kernel is to know it too */
        return false;
    }
    if (strcmp(key, "size") == 0) {
        if (!parse_size(value, &fs->space.limit))
            fs->wrong_option = "size";
        return true;
    }
    if (strcmp(key, "inodes") == 0) {
        if (!program_parse_number(value, INT64_MAX, &fs->nodes_limit) || fs->nodes_limit == 0)
            fs->wrong_option = "inodes";
        return true;
    }
    return false;
}

static int memfs_prepare(void *context, const char *source)
{
    (void)source;
    struct memfs *fs = context;
    if (fs->wrong_option != NULL) {
        fprintf(stderr, "memfs: option %s takes a number, with k, m, g or t behind it%s\n", fs->wrong_option,
                strcmp(fs->wrong_option, "size") == 0 ? ", or %" : "");
        return -EINVAL;
    }
    fs->root = node_new(fs, S_IFDIR | 0755, getuid(), getgid());
    if (fs->root == NULL) {
        fprintf(stderr, "memfs: out of memory\n");
        return -ENOMEM;
    }
    fs->root->nlink = 2;
    fs->root->lookups = 1;
    fs->root->directory.parent = fs->root;
    return 0;
}

static void memfs_finish(void *context)
{
    memfs_free(context);
}

int main(int argc, char **argv)
{
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    struct memfs fs = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .space.limit = memory / 2,
        .nodes_limit = memory / 2 / MEMFS_PAGE,
    };
    const struct program program = {
        .name = "memfs",
        .description = "A filesystem in memory. What is in it is gone when it is unmounted.\n",
        .own_options = "  size=N             bytes of data at most, with k, m, g or % behind (default: 50%)\n"
                       "  inodes=N           files at most (default: one per 4 KiB of that)\n",
        .capabilities = FUSEWIRE_CAP(ATOMIC_O_TRUNC) | FUSEWIRE_CAP(EXPORT_SUPPORT) | FUSEWIRE_CAP(DO_READDIRPLUS) |
                        FUSEWIRE_CAP(READDIRPLUS_AUTO) | FUSEWIRE_CAP(PARALLEL_DIROPS) | FUSEWIRE_CAP(ASYNC_DIO) |
                        FUSEWIRE_CAP(CACHE_SYMLINKS) | FUSEWIRE_CAP(HANDLE_KILLPRIV_V2) |
                        FUSEWIRE_CAP(CREATE_SUPP_GROUP),
        /* Data changes only through the kernel: it need not drop its cache when it sees a new time. */
        .without_capabilities = FUSEWIRE_CAP(AUTO_INVAL_DATA),
        .mount_options = geteuid() == 0 ? "default_permissions,allow_other" : "default_permissions",
        .option = memfs_option,
        .prepare = memfs_prepare,
        .handle = memfs_handle,
        .finish = memfs_finish,
        .context = &fs,
    };
    return program_main(&program, argc, argv);
}
