/* The bench filesystem on libfuse's low-level API, with what libfuse does by default: one thread in fuse_session_loop,
 * or with --threads its own pool of them (and --clone-fd, a device descriptor for each), or, built against a libfuse
 * that has it, with --io-uring a thread for each CPU's queue of FUSE-over-io_uring. */
#define FUSE_USE_VERSION 312

#include "bench_filesystem.h"

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdio.h>

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18)
#define HAS_IO_URING true
#else
#define HAS_IO_URING false
#define fuse_req_is_uring(request) ((void)(request), false)
#endif

static _Alignas(4096) char content[BENCH_MAX_WRITE]; /* on a page, in every server alike: it saves the kernel one */
static bool io_uring;

/* Every request is answered by the thread that got it, which is worth a lock to libfuse. */
static void init(void *data, struct fuse_conn_info *connection)
{
    (void)data;
    (void)connection;
#ifdef FUSE_CONN_FLAG_SINGLE_ISSUER
    fuse_set_conn_flag(connection, FUSE_CONN_FLAG_SINGLE_ISSUER);
#endif
}

static struct stat stat_of(uint64_t node)
{
    fusewire_attr attr;
    bench_attr(node, &attr);
    return (struct stat){.st_ino = attr.ino,
                         .st_mode = attr.mode,
                         .st_nlink = attr.nlink,
                         .st_size = (off_t)attr.size,
                         .st_blksize = (blksize_t)attr.blksize};
}

static void lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    uint64_t node = bench_node(parent, name);
    if (!node) {
        fuse_reply_err(request, ENOENT);
        return;
    }
    struct fuse_entry_param entry = {.ino = node, .attr = stat_of(node), .entry_timeout = BENCH_ENTRY_VALID};
    fuse_reply_entry(request, &entry);
}

static void getattr(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *file)
{
    (void)file;
    struct stat attr = stat_of(node);
    fuse_reply_attr(request, &attr, 0);
}

static void open_file(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *file)
{
    (void)node;
    if (io_uring && !fuse_req_is_uring(request)) { /* libfuse goes on without it, and would be measured so */
        fprintf(stderr, "libfuse_ll: io_uring is not in use\n");
        fuse_reply_err(request, EIO);
        return;
    }
    file->direct_io = 1;
    fuse_reply_open(request, file);
}

static void read_file(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *file)
{
    (void)node;
    (void)offset;
    (void)file;
    fuse_reply_buf(request, content, size);
}

static void write_file(fuse_req_t request, fuse_ino_t node, const char *data, size_t size, off_t offset,
                       struct fuse_file_info *file)
{
    (void)node;
    (void)data;
    (void)offset;
    (void)file;
    fuse_reply_write(request, size);
}

static const struct fuse_lowlevel_ops operations = {
    .init = init,
    .lookup = lookup,
    .getattr = getattr,
    .open = open_file,
    .read = read_file,
    .write = write_file,
};

static int serve(struct fuse_session *session, bool threads, bool clone_fd)
{
    if (!threads)
        return fuse_session_loop(session);
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    if (!config)
        return -1;
    fuse_loop_cfg_set_clone_fd(config, clone_fd);
    int result = fuse_session_loop_mt(session, config);
    fuse_loop_cfg_destroy(config);
    return result;
}

int main(int argc, char **argv)
{
    const char *mountpoint = NULL;
    bool threads = false;
    bool clone_fd = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--threads") == 0)
            threads = true;
        else if (strcmp(argv[i], "--clone-fd") == 0)
            threads = clone_fd = true;
        else if (HAS_IO_URING && strcmp(argv[i], "--io-uring") == 0)
            io_uring = true;
        else if (!mountpoint && argv[i][0] != '-')
            mountpoint = argv[i];
        else
            argc = 0;
    }
    if (!mountpoint || argc == 0) {
        fprintf(stderr, "usage: libfuse_ll [--threads] [--clone-fd]%s MOUNTPOINT\n",
                HAS_IO_URING ? " [--io-uring]" : "");
        return 2;
    }

    memset(content, BENCH_CONTENT, sizeof content);
    char *arguments[] = {"libfuse_ll", "-ofsname=bench-libfuse", "-oio_uring", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(io_uring ? 3 : 2, arguments);
    struct fuse_session *session = fuse_session_new(&args, &operations, sizeof operations, NULL);
    if (!session)
        return 1;
    int status = 1;
    if (fuse_set_signal_handlers(session) == 0) {
        if (fuse_session_mount(session, mountpoint) == 0) {
            status = serve(session, threads, clone_fd) < 0 ? 1 : 0;
            fuse_session_unmount(session);
        }
        fuse_remove_signal_handlers(session);
    }
    fuse_session_destroy(session);
    return status;
}
