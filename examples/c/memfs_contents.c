#include "memfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BRANCH_SHIFT = 6, BRANCH_SLOTS = 1 << BRANCH_SHIFT };

/* An inner node of the tree: at level 1 its slots are pages, above that branches. The root's level is the height. */
struct branch {
    uint32_t used;
    void *slots[BRANCH_SLOTS];
};

static const unsigned char zeros[16 * MEMFS_PAGE];

static uint64_t min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How many pages a subtree of this level spans. */
static uint64_t span(uint32_t level)
{
    return UINT64_C(1) << (BRANCH_SHIFT * level);
}

static size_t slot_of(uint64_t index, uint32_t level)
{
    return (size_t)(index >> (BRANCH_SHIFT * (level - 1)) & (BRANCH_SLOTS - 1));
}

static unsigned char *page_at(const struct contents *contents, uint64_t index)
{
    if (index >= span(contents->height))
        return NULL;
    void *at = contents->root;
    for (uint32_t level = contents->height; level > 0 && at != NULL; level--)
        at = ((struct branch *)at)->slots[slot_of(index, level)];
    return at;
}

/* The first page at `index` or behind it, in a subtree of this level (index relative to it); UINT64_MAX: none. */
static uint64_t next_in(const void *at, uint32_t level, uint64_t index)
{
    if (at == NULL)
        return UINT64_MAX;
    if (level == 0)
        return 0;
    const struct branch *branch = at;
    uint64_t below = span(level - 1);
    for (size_t slot = (size_t)(index / below); slot < BRANCH_SLOTS; slot++) {
        uint64_t found = next_in(branch->slots[slot], level - 1, index % below);
        if (found != UINT64_MAX)
            return slot * below + found;
        index = 0;
    }
    return UINT64_MAX;
}

static uint64_t next_page(const struct contents *contents, uint64_t index)
{
    return index < span(contents->height) ? next_in(contents->root, contents->height, index) : UINT64_MAX;
}

/* Frees the pages [first, last] of a subtree. True if nothing is left of it: it is then freed itself. */
static bool drop_in(struct space *space, struct contents *contents, void *at, uint32_t level, uint64_t first,
                    uint64_t last)
{
    if (level == 0) {
        page_give_back(space, at);
        contents->pages--;
        return true;
    }
    struct branch *branch = at;
    uint64_t below = span(level - 1);
    for (uint64_t slot = first / below; slot <= last / below; slot++) {
        if (branch->slots[slot] == NULL)
            continue;
        uint64_t from = slot == first / below ? first % below : 0;
        uint64_t to = slot == last / below ? last % below : below - 1;
        if (drop_in(space, contents, branch->slots[slot], level - 1, from, to)) {
            branch->slots[slot] = NULL;
            branch->used--;
        }
    }
    if (branch->used > 0)
        return false;
    free(branch);
    return true;
}

static void drop_pages(struct space *space, struct contents *contents, uint64_t first, uint64_t last)
{
    uint64_t end = span(contents->height) - 1;
    if (contents->root == NULL || first > end || first > last)
        return;
    if (drop_in(space, contents, contents->root, contents->height, first, min(last, end))) {
        contents->root = NULL;
        contents->height = 0;
    }
}

static struct branch *branch_new(void *first)
{
    struct branch *branch = calloc(1, sizeof *branch);
    if (branch != NULL && first != NULL) {
        branch->slots[0] = first;
        branch->used = 1;
    }
    return branch;
}

/* Puts a page into a subtree where there is none; NULL when there is no room, with the tree as it was. */
static unsigned char *add_in(struct space *space, void **place, uint32_t level, uint64_t index, bool clean)
{
    if (level == 0) {
        *place = page_take(space, clean);
        return *place;
    }
    if (*place == NULL && (*place = branch_new(NULL)) == NULL)
        return NULL;
    struct branch *branch = *place;
    void **slot = &branch->slots[slot_of(index, level)];
    bool had = *slot != NULL;
    unsigned char *page = add_in(space, slot, level - 1, index, clean);
    if (!had && *slot != NULL)
        branch->used++;
    if (branch->used == 0) {
        free(branch);
        *place = NULL;
    }
    return page;
}

static unsigned char *add_page(struct space *space, struct contents *contents, uint64_t index, bool clean)
{
    for (; index >= span(contents->height); contents->height++) {
        if (contents->root == NULL)
            continue;
        struct branch *branch = branch_new(contents->root);
        if (branch == NULL)
            return NULL;
        contents->root = branch;
    }
    unsigned char *page = add_in(space, &contents->root, contents->height, index, clean);
    if (page != NULL)
        contents->pages++;
    return page;
}

int64_t contents_write(struct space *space, struct contents *contents, uint64_t offset, const void *data, uint64_t size)
{
    uint64_t done = 0;
    while (done < size) {
        uint64_t index = (offset + done) >> MEMFS_PAGE_SHIFT;
        size_t within = (size_t)((offset + done) % MEMFS_PAGE);
        size_t part = (size_t)min(MEMFS_PAGE - within, size - done);
        unsigned char *page = page_at(contents, index);
        if (page == NULL)
            page = add_page(space, contents, index, part < MEMFS_PAGE);
        if (page == NULL)
            break;
        memcpy(page + within, (const char *)data + done, part);
        done += part;
    }
    return done > 0 || size == 0 ? (int64_t)done : -ENOSPC;
}

void contents_read(const struct contents *contents, uint64_t offset, void *data, uint64_t size)
{
    for (uint64_t done = 0; done < size;) {
        size_t within = (size_t)((offset + done) % MEMFS_PAGE);
        size_t part = (size_t)min(MEMFS_PAGE - within, size - done);
        const unsigned char *page = page_at(contents, (offset + done) >> MEMFS_PAGE_SHIFT);
        memcpy((char *)data + done, page != NULL ? page + within : zeros, part);
        done += part;
    }
}

size_t contents_pieces(const struct contents *contents, uint64_t offset, uint64_t size, fusewire_iovec *pieces,
                       size_t capacity)
{
    size_t count = 0;
    for (uint64_t done = 0; done < size;) {
        size_t within = (size_t)((offset + done) % MEMFS_PAGE);
        size_t part = (size_t)min(MEMFS_PAGE - within, size - done);
        const unsigned char *page = page_at(contents, (offset + done) >> MEMFS_PAGE_SHIFT);
        fusewire_iovec *last = count > 0 ? &pieces[count - 1] : NULL;
        done += part;
        if (last != NULL && page != NULL && (const unsigned char *)last->base + last->size == page + within) {
            last->size += part;
        } else if (last != NULL && page == NULL && last->base == zeros && last->size + part <= sizeof zeros) {
            last->size += part;
        } else if (count == capacity) {
            return capacity + 1;
        } else {
            pieces[count].base = page != NULL ? page + within : zeros;
            pieces[count++].size = part;
        }
    }
    return count;
}

void contents_zero(struct contents *contents, uint64_t offset, uint64_t size)
{
    uint64_t end = offset + size;
    uint64_t index = next_page(contents, offset >> MEMFS_PAGE_SHIFT);
    while (index != UINT64_MAX && index << MEMFS_PAGE_SHIFT < end) {
        uint64_t start = index << MEMFS_PAGE_SHIFT;
        size_t from = start < offset ? (size_t)(offset - start) : 0;
        size_t to = (size_t)min(MEMFS_PAGE, end - start);
        memset(page_at(contents, index) + from, 0, to - from);
        index = next_page(contents, index + 1);
    }
}

void contents_punch(struct space *space, struct contents *contents, uint64_t offset, uint64_t size)
{
    uint64_t end = offset + size;
    uint64_t first = (offset + MEMFS_PAGE - 1) >> MEMFS_PAGE_SHIFT; /* of the pages that go as a whole */
    uint64_t behind = end >> MEMFS_PAGE_SHIFT;
    if (first >= behind) {
        contents_zero(contents, offset, size);
        return;
    }
    contents_zero(contents, offset, (first << MEMFS_PAGE_SHIFT) - offset);
    contents_zero(contents, behind << MEMFS_PAGE_SHIFT, end % MEMFS_PAGE);
    drop_pages(space, contents, first, behind - 1);
}

void contents_truncate(struct space *space, struct contents *contents, uint64_t size)
{
    uint64_t whole = (size + MEMFS_PAGE - 1) >> MEMFS_PAGE_SHIFT;
    contents_zero(contents, size, (whole << MEMFS_PAGE_SHIFT) - size);
    drop_pages(space, contents, whole, UINT64_MAX);
}

int contents_allocate(struct space *space, struct contents *contents, uint64_t offset, uint64_t size)
{
    if (size == 0)
        return 0;
    uint64_t first = offset >> MEMFS_PAGE_SHIFT;
    uint64_t last = (offset + size - 1) >> MEMFS_PAGE_SHIFT;
    /* What cannot fit is refused at once: the range may be as large as the file may get. */
    uint64_t room = (space->limit - space->used) >> MEMFS_PAGE_SHIFT;
    if (last - first >= room + contents->pages)
        return -ENOSPC;
    uint64_t missing = 0;
    for (uint64_t index = first; index <= last; index++)
        missing += page_at(contents, index) == NULL;
    if (missing > room)
        return -ENOSPC;
    for (uint64_t index = first; index <= last; index++) {
        if (page_at(contents, index) == NULL && add_page(space, contents, index, true) == NULL)
            return -ENOSPC;
    }
    return 0;
}

uint64_t contents_seek_data(const struct contents *contents, uint64_t offset)
{
    uint64_t index = next_page(contents, offset >> MEMFS_PAGE_SHIFT);
    if (index == UINT64_MAX)
        return UINT64_MAX;
    uint64_t start = index << MEMFS_PAGE_SHIFT;
    return start > offset ? start : offset;
}

uint64_t contents_seek_hole(const struct contents *contents, uint64_t offset)
{
    uint64_t index = offset >> MEMFS_PAGE_SHIFT;
    if (page_at(contents, index) == NULL)
        return offset;
    while (page_at(contents, index) != NULL)
        index++;
    return index << MEMFS_PAGE_SHIFT;
}
