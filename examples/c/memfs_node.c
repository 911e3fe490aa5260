#include "memfs.h"

#include <stdlib.h>

struct timespec node_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return now;
}

void node_touch(struct node *node, int times)
{
    struct timespec now = node_now();
    if (times & NODE_ATIME)
        node->atime = now;
    if (times & NODE_MTIME)
        node->mtime = now;
    if (times & NODE_CTIME)
        node->ctime = now;
}

/* ---- The table of nodes ---------------------------------------------------------------------------------------- */

/* Ids are given in turn, so their low bits spread as well as any hash of them. */
static struct node **bucket_of(const struct memfs *fs, uint64_t id)
{
    return &fs->node_table[id & (fs->node_buckets - 1)];
}

static bool table_grow(struct memfs *fs)
{
    size_t buckets = fs->node_buckets > 0 ? 2 * fs->node_buckets : 1024;
    struct node **table = calloc(buckets, sizeof(struct node *));
    if (table == NULL)
        return fs->node_buckets > 0; /* longer chains will do */
    for (size_t i = 0; i < fs->node_buckets; i++) {
        struct node *next;
        for (struct node *node = fs->node_table[i]; node != NULL; node = next) {
            next = node->next_in_bucket;
            node->next_in_bucket = table[node->id & (buckets - 1)];
            table[node->id & (buckets - 1)] = node;
        }
    }
    free(fs->node_table);
    fs->node_table = table;
    fs->node_buckets = buckets;
    return true;
}

struct node *node_find(const struct memfs *fs, uint64_t id)
{
    struct node *node = *bucket_of(fs, id);
    while (node != NULL && node->id != id)
        node = node->next_in_bucket;
    return node;
}

/* ---- Life ------------------------------------------------------------------------------------------------------ */

bool memfs_reserve_node(struct memfs *fs)
{
    if (fs->nodes_used >= fs->nodes_limit)
        return false;
    fs->nodes_used++;
    return true;
}

struct node *node_new(struct memfs *fs, uint32_t mode, uint32_t uid, uint32_t gid)
{
    if (fs->nodes >= fs->node_buckets && !table_grow(fs))
        return NULL;
    if (!memfs_reserve_node(fs))
        return NULL;
    struct node *node = calloc(1, sizeof *node);
    if (node == NULL) {
        fs->nodes_used--;
        return NULL;
    }
    node->id = ++fs->last_id;
    node->mode = mode;
    node->uid = uid;
    node->gid = gid;
    node->atime = node->mtime = node->ctime = node->btime = node_now();
    struct node **bucket = bucket_of(fs, node->id);
    node->next_in_bucket = *bucket;
    *bucket = node;
    fs->nodes++;
    return node;
}

static void node_free(struct memfs *fs, struct node *node)
{
    struct node **place = bucket_of(fs, node->id);
    while (*place != node)
        place = &(*place)->next_in_bucket;
    *place = node->next_in_bucket;
    fs->nodes--;
    fs->nodes_used--;
    xattrs_free(fs, node);
    if (S_ISREG(node->mode))
        contents_truncate(&fs->space, &node->contents, 0);
    else if (S_ISDIR(node->mode))
        free(node->directory.slots);
    else if (S_ISLNK(node->mode) && node->target != NULL) {
        space_give_back(&fs->space, node->size);
        free(node->target);
    }
    free(node);
}

void node_settle(struct memfs *fs, struct node *node)
{
    if (node->nlink == 0 && node->lookups == 0 && node->opens == 0)
        node_free(fs, node);
}

void node_forget(struct memfs *fs, uint64_t id, uint64_t lookups)
{
    struct node *node = node_find(fs, id);
    if (node == NULL)
        return;
    node->lookups -= lookups < node->lookups ? lookups : node->lookups;
    node_settle(fs, node);
}

void memfs_free(struct memfs *fs)
{
    for (size_t i = 0; i < fs->entry_buckets; i++) {
        while (fs->entry_table[i] != NULL)
            entry_remove(fs, fs->entry_table[i]);
    }
    for (size_t i = 0; i < fs->node_buckets; i++) {
        while (fs->node_table[i] != NULL)
            node_free(fs, fs->node_table[i]);
    }
    free(fs->entry_table);
    free(fs->node_table);
    space_free(&fs->space);
}

/* ---- Attributes ------------------------------------------------------------------------------------------------ */

void node_attr(const struct node *node, fusewire_attr *attr)
{
    *attr = (fusewire_attr){
        .ino = node->id,
        .size = node->size,
        .blocks = S_ISREG(node->mode) ? node->contents.pages * (MEMFS_PAGE / 512) : 0,
        .atime = node->atime.tv_sec,
        .mtime = node->mtime.tv_sec,
        .ctime = node->ctime.tv_sec,
        .atimensec = (uint32_t)node->atime.tv_nsec,
        .mtimensec = (uint32_t)node->mtime.tv_nsec,
        .ctimensec = (uint32_t)node->ctime.tv_nsec,
        .mode = node->mode,
        .nlink = node->nlink,
        .uid = node->uid,
        .gid = node->gid,
        .rdev = node->rdev,
        .blksize = MEMFS_PAGE,
    };
}

/* With the writeback cache the kernel does not notice that data which it wrote back has taken up blocks. */
uint64_t node_attr_valid(const struct memfs *fs, const struct node *node)
{
    return fs->writeback_cache && S_ISREG(node->mode) ? 1 : MEMFS_VALID_SECONDS;
}

void node_entry(const struct memfs *fs, const struct node *node, fusewire_entry *entry)
{
    *entry = (fusewire_entry){
        .nodeid = node->id,
        .entry_valid = MEMFS_VALID_SECONDS,
        .attr_valid = node_attr_valid(fs, node),
    };
    node_attr(node, &entry->attr);
}

void node_kill_privileges(struct memfs *fs, struct node *node, bool mode_bits)
{
    if (mode_bits && !S_ISDIR(node->mode)) {
        node->mode &= ~(uint32_t)S_ISUID;
        if (node->mode & S_IXGRP)
            node->mode &= ~(uint32_t)S_ISGID;
    }
    xattr_drop(fs, node, "security.capability");
}
