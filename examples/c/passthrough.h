/* What the parts of the passthrough filesystem share. */
#ifndef PASSTHROUGH_H
#define PASSTHROUGH_H

#include "passthrough_grant.h"
#include "passthrough_handle.h"
#include "passthrough_identity.h"
#include "passthrough_mount.h"
#include "passthrough_node.h"

#include <fusewire.h>

#include <stdatomic.h>

struct passthrough {
    struct nodes nodes;
    struct handles handles;
    struct grants grants;
    struct mounts mounts;
    uint64_t source_device;
    uint64_t valid_seconds; /* for which the kernel may believe what it was told */
    uint32_t valid_nanoseconds;
    bool valid_wrong;          /* -o timeout has a wrong value */
    atomic_bool kernel_io;     /* -o passthrough, and the kernel can */
    atomic_bool writes_cached; /* by the kernel: -o writeback_cache */
    atomic_bool kernel_prunes; /* forgets what it is asked to forget */
};

/* One request, its node acquired. */
struct call {
    struct passthrough *filesystem;
    fusewire_connection *connection;
    const fusewire_request *request;
    struct node *node;
};

/* What an operation returns: 0 (the request succeeded and wants no data), a negative errno, or that it has answered. */
enum { ANSWERED = 1 };

typedef int operation(const struct call *call);

operation passthrough_lookup, passthrough_mknod, passthrough_mkdir, passthrough_symlink, passthrough_link;
operation passthrough_unlink, passthrough_rmdir, passthrough_rename, passthrough_readlink;
operation passthrough_create, passthrough_tmpfile, passthrough_open, passthrough_release;
operation passthrough_read, passthrough_write, passthrough_flush, passthrough_fsync, passthrough_fallocate;
operation passthrough_lseek, passthrough_copy, passthrough_ioctl;
operation passthrough_opendir, passthrough_readdir, passthrough_readdirplus, passthrough_releasedir;
operation passthrough_getattr, passthrough_setattr, passthrough_statx, passthrough_statfs, passthrough_syncfs;
operation passthrough_setxattr, passthrough_getxattr, passthrough_listxattr, passthrough_removexattr;

/* The path by which calls that take no O_PATH descriptor reach its file, a symbolic link itself too. */
struct descriptor_path {
    char text[32];
};

const char *descriptor_path(struct descriptor_path *path, int fd);

/* The inode number that clients see. */
uint64_t passthrough_inode(const struct passthrough *filesystem, uint64_t device, uint64_t inode);

void passthrough_fill_attr(const struct passthrough *filesystem, const struct stat *status, fusewire_attr *attr);
void passthrough_fill_entry(const struct passthrough *filesystem, const struct node *node, const struct stat *status,
                            fusewire_entry *entry);

/* Finds `name` in `parent`, without following it, as nodes_take() does. */
int passthrough_find(struct passthrough *filesystem, const struct node *parent, const char *name, struct node **node,
                     struct stat *status);

/* The file behind an O_PATH or other descriptor of the mount that `parent` is on. */
int passthrough_find_open(struct passthrough *filesystem, const struct node *parent, int fd, struct node **node,
                          struct stat *status);

/* What RELEASE does. */
void passthrough_close(struct passthrough *filesystem, fusewire_connection *connection, struct handle *handle);

/* Answers with the entry of `node`, which it releases, for a lookup that has been counted. */
int passthrough_answer_entry(const struct call *call, struct node *node, const struct stat *status);

#endif
