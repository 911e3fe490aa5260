#include "memfs.h"

#include <string.h>
#include <sys/mman.h>

enum { SLAB_SIZE = 1 << 20, SLAB_PAGES = SLAB_SIZE / MEMFS_PAGE - 1 };

/* The first page of SLAB_SIZE aligned bytes; the pages follow. A slab without used pages goes back to the system,
 * unless it is the only one that has free pages. */
struct slab {
    struct slab *next; /* among those with free pages */
    struct slab *previous;
    uint32_t used;
    uint32_t fresh; /* from this page on none was ever used: they are zeros */
    uint32_t free_count;
    uint16_t free[SLAB_PAGES];
};

_Static_assert(sizeof(struct slab) <= MEMFS_PAGE, "the slab's head fits its page");

bool space_take(struct space *space, uint64_t bytes)
{
    if (bytes > space->limit || space->used > space->limit - bytes)
        return false;
    space->used += bytes;
    return true;
}

void space_give_back(struct space *space, uint64_t bytes)
{
    space->used -= bytes;
}

static void slab_enlist(struct space *space, struct slab *slab)
{
    slab->previous = NULL;
    slab->next = space->available;
    if (slab->next != NULL)
        slab->next->previous = slab;
    space->available = slab;
}

static void slab_delist(struct space *space, struct slab *slab)
{
    if (slab->previous != NULL)
        slab->previous->next = slab->next;
    else
        space->available = slab->next;
    if (slab->next != NULL)
        slab->next->previous = slab->previous;
}

static struct slab *slab_new(struct space *space)
{
    /* Twice the size has an aligned slab in it; what lies around that is given back. */
    char *area = mmap(NULL, 2 * SLAB_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        return NULL;
    size_t before = (SLAB_SIZE - (uintptr_t)area % SLAB_SIZE) % SLAB_SIZE;
    if (before > 0)
        munmap(area, before);
    munmap(area + before + SLAB_SIZE, SLAB_SIZE - before);
    struct slab *slab = (void *)(area + before);
    slab_enlist(space, slab);
    return slab;
}

unsigned char *page_take(struct space *space, bool zeros)
{
    if (!space_take(space, MEMFS_PAGE))
        return NULL;
    struct slab *slab = space->available;
    if (slab == NULL && (slab = slab_new(space)) == NULL) {
        space_give_back(space, MEMFS_PAGE);
        return NULL;
    }
    unsigned char *pages = (unsigned char *)slab + MEMFS_PAGE;
    unsigned char *page;
    if (slab->free_count > 0) {
        page = pages + (size_t)slab->free[--slab->free_count] * MEMFS_PAGE;
        if (zeros)
            memset(page, 0, MEMFS_PAGE);
    } else {
        page = pages + (size_t)slab->fresh++ * MEMFS_PAGE;
    }
    if (++slab->used == SLAB_PAGES)
        slab_delist(space, slab);
    return page;
}

void page_give_back(struct space *space, unsigned char *page)
{
    struct slab *slab = (void *)((uintptr_t)page & ~(uintptr_t)(SLAB_SIZE - 1));
    size_t index = (size_t)(page - (unsigned char *)slab) / MEMFS_PAGE - 1;
    space_give_back(space, MEMFS_PAGE);
    if (slab->used == SLAB_PAGES)
        slab_enlist(space, slab);
    slab->free[slab->free_count++] = (uint16_t)index;
    if (--slab->used == 0 && (slab->next != NULL || slab->previous != NULL)) {
        slab_delist(space, slab);
        munmap(slab, SLAB_SIZE);
    }
}

void space_free(struct space *space)
{
    while (space->available != NULL) {
        struct slab *slab = space->available;
        slab_delist(space, slab);
        munmap(slab, SLAB_SIZE);
    }
}
