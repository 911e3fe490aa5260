/* A filesystem in memory: what its parts share. All of it is used under one lock, which memfs.c takes. */
#ifndef MEMFS_H
#define MEMFS_H

#include <fusewire.h>

#include <pthread.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

enum {
    MEMFS_PAGE_SHIFT = 12,
    MEMFS_PAGE = 1 << MEMFS_PAGE_SHIFT,
    MEMFS_NAME_MAX = 255,
    MEMFS_LINK_MAX = INT32_MAX,
    MEMFS_VALID_SECONDS = 86400 /* of names and attributes: nothing changes here but through the kernel */
};

/* ---- Memory: pages of file data, up to a limit (memfs_pages.c) ------------------------------------------------- */

struct slab;

/* Pages come from slabs, so that they are aligned and neighbours often lie side by side. */
struct space {
    uint64_t limit;         /* in bytes */
    uint64_t used;          /* pages, and whatever else is counted with space_take */
    struct slab *available; /* slabs with free pages */
};

bool space_take(struct space *space, uint64_t bytes);
void space_give_back(struct space *space, uint64_t bytes);

/* A page, of zeros or of anything; NULL when the space is used up. */
unsigned char *page_take(struct space *space, bool zeros);
void page_give_back(struct space *space, unsigned char *page);
/* At the end, when all pages have been given back. */
void space_free(struct space *space);

/* ---- The contents of a file: a tree of pages, holes left out (memfs_contents.c) ---------------------------------- */

/* Whatever lies behind the file's size reads as zeros, pages allocated there included. */
struct contents {
    void *root; /* a page where height is 0, else a branch */
    uint32_t height;
    uint64_t pages;
};

/* Returns the bytes written, fewer than asked for when the space is used up; -ENOSPC for none. */
int64_t contents_write(struct space *space, struct contents *contents, uint64_t offset, const void *data,
                       uint64_t size);
void contents_read(const struct contents *contents, uint64_t offset, void *data, uint64_t size);
/* Where [offset, offset + size) lies in memory, in up to `capacity` pieces; more than that: returns capacity + 1. */
size_t contents_pieces(const struct contents *contents, uint64_t offset, uint64_t size, fusewire_iovec *pieces,
                       size_t capacity);
/* Frees what lies at `size` and behind it. */
void contents_truncate(struct space *space, struct contents *contents, uint64_t size);
/* Makes a hole. */
void contents_punch(struct space *space, struct contents *contents, uint64_t offset, uint64_t size);
/* Writes zeros over what is allocated. */
void contents_zero(struct contents *contents, uint64_t offset, uint64_t size);
/* Fills the holes. 0 or -ENOSPC, then as it was but for some holes filled. */
int contents_allocate(struct space *space, struct contents *contents, uint64_t offset, uint64_t size);
/* The first byte from `offset` on that is allocated, or is not. UINT64_MAX: none. */
uint64_t contents_seek_data(const struct contents *contents, uint64_t offset);
uint64_t contents_seek_hole(const struct contents *contents, uint64_t offset);

/* ---- Nodes (memfs_node.c) ---------------------------------------------------------------------------------------- */

struct entry;

/* A place in the order of a directory. */
struct slot {
    uint64_t cookie;
    struct entry *entry; /* NULL: removed */
};

/* Entries in the order in which they came. An entry's cookie is never given again, so that whoever lists the directory
 * goes on where he was, whatever comes and goes meanwhile. */
struct directory {
    struct node *parent; /* NULL once removed; the root is its own */
    struct slot *slots;
    size_t used;
    size_t capacity;
    size_t entries;
    uint64_t last_cookie;
};

struct xattr {
    struct xattr *next;
    char *name;
    size_t name_size;
    size_t value_size;
    unsigned char value[];
};

struct node {
    uint64_t id; /* never given again: generations are not needed */
    struct node *next_in_bucket;
    uint64_t lookups; /* how often the kernel has to forget it */
    uint64_t opens;
    uint64_t size;
    struct timespec atime;
    struct timespec mtime;
    struct timespec ctime;
    struct timespec btime;
    struct xattr *xattrs;
    uint32_t mode;
    uint32_t nlink;
    uint32_t uid;
    uint32_t gid;
    uint32_t rdev;
    union {
        struct contents contents;   /* regular files */
        struct directory directory; /* directories */
        char *target;               /* symbolic links */
    };
};

struct entry {
    struct entry *next_in_bucket;
    struct node *directory;
    struct node *node;
    uint64_t hash;
    size_t slot;
    size_t name_size;
    char name[]; /* with a NUL */
};

struct memfs {
    pthread_mutex_t lock;
    struct space space;
    uint64_t nodes_limit;
    uint64_t nodes_used; /* a further name counts as a node, since it takes memory too */
    uint64_t last_id;
    struct node *root;
    struct node **node_table;
    size_t node_buckets; /* a power of two, as entry_buckets */
    size_t nodes;
    struct entry **entry_table;
    size_t entry_buckets;
    size_t entries;
    bool noatime;
    bool agreed; /* the session is known, and what it says below */
    bool writeback_cache;
    const char *wrong_option; /* what prepare is to refuse */
};

/* Now, from the clock that the kernel takes for its own timestamps: with the writeback cache it sets some of them
 * itself, and a finer clock here would make time run backwards. */
struct timespec node_now(void);
enum node_times { NODE_ATIME = 1, NODE_MTIME = 2, NODE_CTIME = 4 };
void node_touch(struct node *node, int times);

bool memfs_reserve_node(struct memfs *fs);
/* A node without a name, with no lookups; NULL when there is no room. Times are now. */
struct node *node_new(struct memfs *fs, uint32_t mode, uint32_t uid, uint32_t gid);
struct node *node_find(const struct memfs *fs, uint64_t id);
void node_forget(struct memfs *fs, uint64_t id, uint64_t lookups);
/* Frees the node if nobody can reach it any more: no name, no lookup, not open. */
void node_settle(struct memfs *fs, struct node *node);
/* Frees everything. */
void memfs_free(struct memfs *fs);
void node_attr(const struct node *node, fusewire_attr *attr);
/* For how many seconds the kernel may keep them. */
uint64_t node_attr_valid(const struct memfs *fs, const struct node *node);
void node_entry(const struct memfs *fs, const struct node *node, fusewire_entry *entry);
/* Takes away set-user-ID and set-group-ID, and capabilities, as writing and chown do. */
void node_kill_privileges(struct memfs *fs, struct node *node, bool mode_bits);

/* ---- Directory entries (memfs_directory.c) ----------------------------------------------------------------------- */

struct entry *entry_find(const struct memfs *fs, const struct node *directory, const char *name, size_t size);
/* Adds a name for the node. Counts no link. 0, -ENOSPC or -ENOMEM. */
int entry_add(struct memfs *fs, struct node *directory, const char *name, size_t size, struct node *node);
void entry_remove(struct memfs *fs, struct entry *entry);
/* The slot with the first cookie beyond this one; directory.used at the end. Slots may be empty. */
size_t directory_after(const struct directory *directory, uint64_t cookie);

/* ---- Requests: 0 when answered, else a negative errno to be answered with -------------------------------------- */

typedef int handler(struct memfs *fs, struct node *node, fusewire_connection *connection,
                    const fusewire_request *request);

handler handle_lookup, handle_create, handle_tmpfile, handle_mknod, handle_mkdir, handle_symlink, handle_link,
    handle_unlink, handle_rmdir, handle_rename, handle_readdir; /* memfs_tree.c */
handler handle_getattr, handle_setattr, handle_statx, handle_readlink, handle_open, handle_opendir, handle_release,
    handle_read, handle_write, handle_fallocate, handle_lseek, handle_copy;     /* memfs_file.c */
handler handle_setxattr, handle_getxattr, handle_listxattr, handle_removexattr; /* memfs_xattr.c */
void xattrs_free(struct memfs *fs, struct node *node);
void xattr_drop(struct memfs *fs, struct node *node, const char *name);

#endif
