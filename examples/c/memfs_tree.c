#include "memfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- What the handlers share ----------------------------------------------------------------------------------- */

static int check_name(const struct node *directory, const char *name, size_t size)
{
    if (!S_ISDIR(directory->mode))
        return -ENOTDIR;
    if (size > MEMFS_NAME_MAX)
        return -ENAMETOOLONG;
    if (size == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -EINVAL;
    return 0;
}

/* The same for a name that is to come. */
static int check_new_name(const struct memfs *fs, const struct node *directory, const char *name, size_t size)
{
    int result = check_name(directory, name, size);
    if (result < 0)
        return result;
    if (directory->nlink == 0)
        return -ENOENT; /* removed, and still somebody's current folder */
    return entry_find(fs, directory, name, size) != NULL ? -EEXIST : 0;
}

static int reply_node(struct memfs *fs, struct node *node, fusewire_connection *connection, uint64_t id)
{
    fusewire_entry entry;
    node_entry(fs, node, &entry);
    node->lookups++;
    int result = fusewire_reply_entry(connection, id, &entry);
    if (result < 0)
        node_forget(fs, node->id, 1);
    return result;
}

/* To CREATE and TMPFILE: the node, open. */
static int reply_open_node(struct memfs *fs, struct node *node, fusewire_connection *connection, uint64_t id)
{
    fusewire_entry entry;
    node_entry(fs, node, &entry);
    node->lookups++;
    node->opens++;
    int result =
        fusewire_reply_create(connection, id, &entry, 0, FUSEWIRE_FOPEN_KEEP_CACHE | FUSEWIRE_FOPEN_NOFLUSH, 0);
    if (result < 0) {
        node->opens--;
        node_forget(fs, node->id, 1);
    }
    return result;
}

static bool caller_is_in_group(const fusewire_request *request, uint32_t gid)
{
    if (request->uid == 0 || request->gid == gid)
        return true;
    for (uint32_t i = 0; i < request->supp_group_count; i++) {
        uint32_t group;
        memcpy(&group, (const char *)request->supp_groups + i * sizeof group, sizeof group);
        if (group == gid)
            return true;
    }
    return false;
}

/* A node that belongs to the caller; in a set-group-ID directory, to the directory's group. */
static struct node *new_child(struct memfs *fs, const struct node *directory, const fusewire_request *request,
                              uint32_t mode)
{
    uint32_t gid = request->gid;
    if (directory->mode & S_ISGID) {
        gid = directory->gid;
        if (S_ISDIR(mode))
            mode |= S_ISGID;
        else if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && !caller_is_in_group(request, gid))
            mode &= ~(uint32_t)S_ISGID;
    }
    return node_new(fs, mode, request->uid, gid);
}

/* Counts the link that an entry of `directory` is. */
static void attach(struct node *directory, struct node *node)
{
    if (S_ISDIR(node->mode)) {
        node->nlink = 2;
        node->directory.parent = directory;
        directory->nlink++;
    } else {
        node->nlink++;
    }
    node_touch(directory, NODE_MTIME | NODE_CTIME);
}

/* Takes the link away again; the node may be gone after that. */
static void detach(struct memfs *fs, struct node *directory, struct node *node)
{
    if (S_ISDIR(node->mode)) {
        node->nlink = 0;
        node->directory.parent = NULL;
        directory->nlink--;
    } else if (--node->nlink > 0) {
        fs->nodes_used--;
    }
    node_touch(directory, NODE_MTIME | NODE_CTIME);
    node_touch(node, NODE_CTIME);
    node_settle(fs, node);
}

/* Gives a new node (NULL: there was no room) its name and answers. */
static int add_and_reply(struct memfs *fs, struct node *directory, struct node *node, fusewire_connection *connection,
                         const fusewire_request *request)
{
    if (node == NULL)
        return -ENOSPC;
    int result = entry_add(fs, directory, request->name, request->name_size, node);
    if (result < 0) {
        node_settle(fs, node);
        return result;
    }
    attach(directory, node);
    return request->opcode == FUSEWIRE_CREATE ? reply_open_node(fs, node, connection, request->id)
                                              : reply_node(fs, node, connection, request->id);
}

/* ---- Names ----------------------------------------------------------------------------------------------------- */

int handle_lookup(struct memfs *fs, struct node *directory, fusewire_connection *connection,
                  const fusewire_request *request)
{
    /* Asked for by those who hold a file handle (NFS, open_by_handle_at) and not a path. */
    if (strcmp(request->name, ".") == 0)
        return reply_node(fs, directory, connection, request->id);
    if (!S_ISDIR(directory->mode))
        return -ENOTDIR;
    if (strcmp(request->name, "..") == 0)
        return directory->directory.parent != NULL
                   ? reply_node(fs, directory->directory.parent, connection, request->id)
                   : -ENOENT;
    if (request->name_size > MEMFS_NAME_MAX)
        return -ENAMETOOLONG;
    const struct entry *found = entry_find(fs, directory, request->name, request->name_size);
    if (found != NULL)
        return reply_node(fs, found->node, connection, request->id);
    const fusewire_entry nothing = {.entry_valid = MEMFS_VALID_SECONDS};
    return fusewire_reply_entry(connection, request->id, &nothing);
}

int handle_create(struct memfs *fs, struct node *directory, fusewire_connection *connection,
                  const fusewire_request *request)
{
    int result = check_new_name(fs, directory, request->name, request->name_size);
    if (result < 0)
        return result;
    struct node *node = new_child(fs, directory, request, S_IFREG | (request->mode & ALLPERMS));
    return add_and_reply(fs, directory, node, connection, request);
}

int handle_tmpfile(struct memfs *fs, struct node *directory, fusewire_connection *connection,
                   const fusewire_request *request)
{
    if (!S_ISDIR(directory->mode))
        return -ENOTDIR;
    struct node *node = new_child(fs, directory, request, S_IFREG | (request->mode & ALLPERMS));
    return node != NULL ? reply_open_node(fs, node, connection, request->id) : -ENOSPC;
}

int handle_mknod(struct memfs *fs, struct node *directory, fusewire_connection *connection,
                 const fusewire_request *request)
{
    int result = check_new_name(fs, directory, request->name, request->name_size);
    if (result < 0)
        return result;
    if (S_ISDIR(request->mode) || S_ISLNK(request->mode))
        return -EINVAL;
    uint32_t type = (request->mode & S_IFMT) != 0 ? request->mode & S_IFMT : S_IFREG;
    struct node *node = new_child(fs, directory, request, type | (request->mode & ALLPERMS));
    if (node != NULL)
        node->rdev = request->rdev;
    return add_and_reply(fs, directory, node, connection, request);
}

int handle_mkdir(struct memfs *fs, struct node *directory, fusewire_connection *connection,
                 const fusewire_request *request)
{
    int result = check_new_name(fs, directory, request->name, request->name_size);
    if (result < 0)
        return result;
    if (directory->nlink >= MEMFS_LINK_MAX)
        return -EMLINK;
    struct node *node = new_child(fs, directory, request, S_IFDIR | (request->mode & ALLPERMS));
    return add_and_reply(fs, directory, node, connection, request);
}

int handle_symlink(struct memfs *fs, struct node *directory, fusewire_connection *connection,
                   const fusewire_request *request)
{
    int result = check_new_name(fs, directory, request->name, request->name_size);
    if (result < 0)
        return result;
    struct node *node = new_child(fs, directory, request, S_IFLNK | ACCESSPERMS);
    if (node != NULL && space_take(&fs->space, request->newname_size)) {
        node->target = strdup(request->newname);
        if (node->target == NULL)
            space_give_back(&fs->space, request->newname_size);
    }
    if (node != NULL && node->target == NULL) {
        node_settle(fs, node);
        return -ENOSPC;
    }
    if (node != NULL)
        node->size = request->newname_size;
    return add_and_reply(fs, directory, node, connection, request);
}

int handle_link(struct memfs *fs, struct node *directory, fusewire_connection *connection,
                const fusewire_request *request)
{
    struct node *node = node_find(fs, request->newnodeid);
    if (node == NULL)
        return -ESTALE;
    if (S_ISDIR(node->mode))
        return -EPERM;
    int result = check_new_name(fs, directory, request->name, request->name_size);
    if (result < 0)
        return result;
    if (node->nlink >= MEMFS_LINK_MAX)
        return -EMLINK;
    bool further = node->nlink > 0; /* not so what O_TMPFILE made */
    if (further && !memfs_reserve_node(fs))
        return -ENOSPC;
    result = entry_add(fs, directory, request->name, request->name_size, node);
    if (result < 0) {
        if (further)
            fs->nodes_used--;
        return result;
    }
    attach(directory, node);
    node_touch(node, NODE_CTIME);
    return reply_node(fs, node, connection, request->id);
}

static int remove_entry(struct memfs *fs, struct node *directory, fusewire_connection *connection,
                        const fusewire_request *request, bool want_directory)
{
    int result = check_name(directory, request->name, request->name_size);
    if (result < 0)
        return result;
    struct entry *entry = entry_find(fs, directory, request->name, request->name_size);
    if (entry == NULL)
        return -ENOENT;
    struct node *node = entry->node;
    if (S_ISDIR(node->mode) != want_directory)
        return want_directory ? -ENOTDIR : -EISDIR;
    if (want_directory && node->directory.entries > 0)
        return -ENOTEMPTY;
    entry_remove(fs, entry);
    detach(fs, directory, node);
    return fusewire_reply_ok(connection, request->id);
}

int handle_unlink(struct memfs *fs, struct node *directory, fusewire_connection *connection,
                  const fusewire_request *request)
{
    return remove_entry(fs, directory, connection, request, false);
}

int handle_rmdir(struct memfs *fs, struct node *directory, fusewire_connection *connection,
                 const fusewire_request *request)
{
    return remove_entry(fs, directory, connection, request, true);
}

/* ---- Renaming -------------------------------------------------------------------------------------------------- */

static bool is_within(const struct node *directory, const struct node *ancestor)
{
    while (directory != ancestor && directory != NULL && directory != directory->directory.parent)
        directory = directory->directory.parent;
    return directory == ancestor;
}

static void change_parent(struct node *node, struct node *from, struct node *to)
{
    if (S_ISDIR(node->mode) && from != to) {
        from->nlink--;
        to->nlink++;
        node->directory.parent = to;
    }
}

static int exchange(struct entry *a, struct entry *b)
{
    struct node *node = a->node;
    struct node *other = b->node;
    if ((S_ISDIR(node->mode) && is_within(b->directory, node)) ||
        (S_ISDIR(other->mode) && is_within(a->directory, other)))
        return -EINVAL;
    change_parent(node, a->directory, b->directory);
    change_parent(other, b->directory, a->directory);
    a->node = other;
    b->node = node;
    node_touch(other, NODE_CTIME);
    return 0;
}

/* Moves the entry to where `to` is, or, where that is NULL, to a new name. */
static int move(struct memfs *fs, struct entry *from, struct node *directory, struct entry *to,
                const fusewire_request *request)
{
    struct node *node = from->node;
    struct node *replaced = to != NULL ? to->node : NULL;
    struct node *source = from->directory;
    if (S_ISDIR(node->mode) && is_within(directory, node))
        return -EINVAL;
    if (replaced != NULL) {
        if (S_ISDIR(replaced->mode) && !S_ISDIR(node->mode))
            return -EISDIR;
        if (S_ISDIR(node->mode) && !S_ISDIR(replaced->mode))
            return -ENOTDIR;
        if (S_ISDIR(replaced->mode) && replaced->directory.entries > 0)
            return -ENOTEMPTY;
        to->node = node;
    } else {
        if (directory->nlink == 0)
            return -ENOENT;
        if (S_ISDIR(node->mode) && directory->nlink >= MEMFS_LINK_MAX)
            return -EMLINK;
        int result = entry_add(fs, directory, request->newname, request->newname_size, node);
        if (result < 0)
            return result;
    }
    entry_remove(fs, from);
    change_parent(node, source, directory);
    if (replaced != NULL)
        detach(fs, directory, replaced);
    return 0;
}

int handle_rename(struct memfs *fs, struct node *source, fusewire_connection *connection,
                  const fusewire_request *request)
{
    uint32_t flags = request->opcode == FUSEWIRE_RENAME2 ? request->flags : 0;
    if ((flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0 || flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL;
    struct node *target = node_find(fs, request->newnodeid);
    if (target == NULL)
        return -ESTALE;
    int result = check_name(source, request->name, request->name_size);
    if (result == 0)
        result = check_name(target, request->newname, request->newname_size);
    if (result < 0)
        return result;
    struct entry *from = entry_find(fs, source, request->name, request->name_size);
    struct entry *to = entry_find(fs, target, request->newname, request->newname_size);
    if (from == NULL || (to == NULL && (flags & RENAME_EXCHANGE)))
        return -ENOENT;
    if (to != NULL && (flags & RENAME_NOREPLACE))
        return -EEXIST;
    struct node *node = from->node;
    if (to != NULL && to->node == node)
        return fusewire_reply_ok(connection, request->id); /* two names of one file: POSIX leaves both */
    result = flags & RENAME_EXCHANGE ? exchange(from, to) : move(fs, from, target, to, request);
    if (result < 0)
        return result;
    node_touch(node, NODE_CTIME);
    node_touch(source, NODE_MTIME | NODE_CTIME);
    node_touch(target, NODE_MTIME | NODE_CTIME);
    return fusewire_reply_ok(connection, request->id);
}

/* ---- Listing --------------------------------------------------------------------------------------------------- */

/* A listing on its way into a reply. */
struct listing {
    const struct memfs *fs;
    unsigned char *buffer;
    size_t capacity;
    size_t used;
    bool plus;
};

/* False when it no longer fits. `counted`: with READDIRPLUS this is a lookup. */
static bool list(struct listing *listing, struct node *node, const char *name, size_t name_size, uint64_t cookie,
                 bool counted)
{
    int64_t used;
    if (listing->plus) {
        fusewire_entry entry;
        node_entry(listing->fs, node, &entry);
        if (!counted)
            entry.nodeid = 0;
        used = fusewire_direntplus(listing->buffer, listing->capacity, listing->used, &entry, cookie, name, name_size);
    } else {
        used = fusewire_dirent(listing->buffer, listing->capacity, listing->used, node->id, cookie, node->mode & S_IFMT,
                               name, name_size);
    }
    if (used < 0)
        return false;
    listing->used = (size_t)used;
    if (listing->plus && counted)
        node->lookups++;
    return true;
}

static void list_from(struct listing *listing, struct node *node, uint64_t cookie)
{
    struct node *parent = node->directory.parent != NULL ? node->directory.parent : node;
    if (cookie < 1 && !list(listing, node, ".", 1, 1, false))
        return;
    if (cookie < 2 && !list(listing, parent, "..", 2, 2, false))
        return;
    const struct directory *directory = &node->directory;
    for (size_t i = directory_after(directory, cookie); i < directory->used; i++) {
        const struct entry *entry = directory->slots[i].entry;
        if (entry != NULL &&
            !list(listing, entry->node, entry->name, entry->name_size, directory->slots[i].cookie, true))
            return;
    }
}

int handle_readdir(struct memfs *fs, struct node *node, fusewire_connection *connection,
                   const fusewire_request *request)
{
    if (!S_ISDIR(node->mode))
        return -ENOTDIR;
    _Alignas(8) unsigned char own[MEMFS_PAGE];
    void *buffer;
    size_t capacity;
    bool borrowed = fusewire_borrow(connection, request->id, &buffer, &capacity) == 0;
    if (!borrowed) {
        buffer = own;
        capacity = sizeof own;
    }
    struct listing listing = {
        .fs = fs,
        .buffer = buffer,
        .capacity = request->length < capacity ? (size_t)request->length : capacity,
        .plus = request->opcode == FUSEWIRE_READDIRPLUS,
    };
    list_from(&listing, node, request->offset);
    if (!fs->noatime)
        node_touch(node, NODE_ATIME);
    return borrowed ? fusewire_reply_borrowed(connection, request->id, listing.used)
                    : fusewire_reply_data(connection, request->id, own, listing.used);
}
