#include "memfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { COOKIES_BEFORE = 2 /* those of "." and ".." */ };

/* FNV-1a, begun with the directory's id. */
static uint64_t hash_of(const struct node *directory, const char *name, size_t size)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ directory->id;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)name[i]) * UINT64_C(0x100000001b3);
    return hash ^ hash >> 32;
}

static bool table_grow(struct memfs *fs)
{
    size_t buckets = fs->entry_buckets > 0 ? 2 * fs->entry_buckets : 1024;
    struct entry **table = calloc(buckets, sizeof(struct entry *));
    if (table == NULL)
        return fs->entry_buckets > 0; /* longer chains will do */
    for (size_t i = 0; i < fs->entry_buckets; i++) {
        struct entry *next;
        for (struct entry *entry = fs->entry_table[i]; entry != NULL; entry = next) {
            next = entry->next_in_bucket;
            entry->next_in_bucket = table[entry->hash & (buckets - 1)];
            table[entry->hash & (buckets - 1)] = entry;
        }
    }
    free(fs->entry_table);
    fs->entry_table = table;
    fs->entry_buckets = buckets;
    return true;
}

struct entry *entry_find(const struct memfs *fs, const struct node *directory, const char *name, size_t size)
{
    if (fs->entry_buckets == 0)
        return NULL;
    uint64_t hash = hash_of(directory, name, size);
    for (struct entry *entry = fs->entry_table[hash & (fs->entry_buckets - 1)]; entry != NULL;
         entry = entry->next_in_bucket) {
        if (entry->hash == hash && entry->directory == directory && entry->name_size == size &&
            memcmp(entry->name, name, size) == 0)
            return entry;
    }
    return NULL;
}

static bool slots_grow(struct directory *directory)
{
    size_t capacity = directory->capacity > 0 ? 2 * directory->capacity : 8;
    struct slot *slots = reallocarray(directory->slots, capacity, sizeof *slots);
    if (slots == NULL)
        return false;
    directory->slots = slots;
    directory->capacity = capacity;
    return true;
}

/* Closes the gaps once they are more than the entries: cookies stay as they are. */
static void slots_compact(struct directory *directory)
{
    if (directory->used < 2 * directory->entries + 16)
        return;
    size_t kept = 0;
    for (size_t i = 0; i < directory->used; i++) {
        struct slot slot = directory->slots[i];
        if (slot.entry == NULL)
            continue;
        slot.entry->slot = kept;
        directory->slots[kept++] = slot;
    }
    directory->used = kept;
}

int entry_add(struct memfs *fs, struct node *directory, const char *name, size_t size, struct node *node)
{
    struct directory *listing = &directory->directory;
    if (listing->used == listing->capacity && !slots_grow(listing))
        return -ENOMEM;
    if (fs->entries >= fs->entry_buckets && !table_grow(fs))
        return -ENOMEM;
    struct entry *entry = malloc(sizeof *entry + size + 1);
    if (entry == NULL)
        return -ENOMEM;
    *entry = (struct entry){
        .directory = directory,
        .node = node,
        .hash = hash_of(directory, name, size),
        .slot = listing->used,
        .name_size = size,
    };
    memcpy(entry->name, name, size);
    entry->name[size] = 0;
    struct entry **bucket = &fs->entry_table[entry->hash & (fs->entry_buckets - 1)];
    entry->next_in_bucket = *bucket;
    *bucket = entry;
    fs->entries++;
    if (listing->last_cookie == 0)
        listing->last_cookie = COOKIES_BEFORE;
    listing->slots[listing->used++] = (struct slot){.cookie = ++listing->last_cookie, .entry = entry};
    listing->entries++;
    directory->size = listing->entries * sizeof *entry;
    return 0;
}

void entry_remove(struct memfs *fs, struct entry *entry)
{
    struct entry **place = &fs->entry_table[entry->hash & (fs->entry_buckets - 1)];
    while (*place != entry)
        place = &(*place)->next_in_bucket;
    *place = entry->next_in_bucket;
    fs->entries--;
    struct directory *listing = &entry->directory->directory;
    listing->slots[entry->slot].entry = NULL;
    listing->entries--;
    entry->directory->size = listing->entries * sizeof *entry;
    slots_compact(listing);
    free(entry);
}

size_t directory_after(const struct directory *directory, uint64_t cookie)
{
    size_t low = 0;
    size_t high = directory->used;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (directory->slots[middle].cookie > cookie)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}
