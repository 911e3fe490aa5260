/* The filesystem that every server of the benchmark is: a root folder with the files "0" to "63", each of 64 MiB of the
 * same byte. Attributes are never cached, so that each stat is a request; entries are, so that an open is none but OPEN
 * and RELEASE; files are DIRECT_IO, so that each read and write is a request of just its size. What is written is
 * thrown away. */
#ifndef BENCH_FILESYSTEM_H
#define BENCH_FILESYSTEM_H

#include <fusewire.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    BENCH_FILES = 64,
    BENCH_FIRST_FILE = 2, /* node id of "0" */
    BENCH_FILE_SIZE = 64 << 20,
    BENCH_MAX_WRITE = 1 << 20,
    BENCH_ENTRY_VALID = 3600, /* seconds */
    BENCH_CONTENT = 'x'
};

static inline void bench_attr(uint64_t node, fusewire_attr *attr)
{
    memset(attr, 0, sizeof *attr);
    attr->ino = node;
    attr->mode = node == FUSEWIRE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
    attr->nlink = node == FUSEWIRE_ROOT_ID ? 2 : 1;
    attr->size = node == FUSEWIRE_ROOT_ID ? 0 : BENCH_FILE_SIZE;
    attr->blksize = 4096;
}

/* The node of a name in the root, or 0. */
static inline uint64_t bench_node(uint64_t parent, const char *name)
{
    char *end;
    unsigned long number = strtoul(name, &end, 10);
    return parent == FUSEWIRE_ROOT_ID && *name && !*end && number < BENCH_FILES ? number + BENCH_FIRST_FILE : 0;
}

static inline int bench_lookup(uint64_t parent, const char *name, fusewire_entry *entry)
{
    uint64_t node = bench_node(parent, name);
    if (!node)
        return -ENOENT;
    memset(entry, 0, sizeof *entry);
    entry->nodeid = node;
    entry->entry_valid = BENCH_ENTRY_VALID;
    bench_attr(node, &entry->attr);
    return 0;
}

#endif
