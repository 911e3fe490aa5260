#include "notifier.h"
#include "ring.h"
#include "transport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRIES = 64 };

/* A notification under way. It owns its bytes until the kernel has taken them. */
struct note {
    struct note *next;
    struct note **link;
    struct iovec message;
    bool report;
    unsigned char bytes[];
};

struct notifier {
    struct ring *ring; /* NULL where io_uring is not to be had */
    struct note *notes;
    unsigned pending;
};

/* With the ring closed nobody tells when a worker is done with the bytes of a notification, so those of the unfinished
 * are never freed. */
static void give_ring_up(struct notifier *notifier)
{
    if (notifier->ring != NULL)
        ring_destroy(notifier->ring);
    notifier->ring = NULL;
    notifier->notes = NULL;
    notifier->pending = 0;
}

static struct notifier *the_notifier(struct fusewire_connection *c)
{
    if (c->notifier == NULL) {
        c->notifier = calloc(1, sizeof *c->notifier);
        if (c->notifier != NULL && ring_create(&c->notifier->ring, ENTRIES) != 0)
            c->notifier->ring = NULL;
        if (notifier_descriptor(c) >= 0 && c->transport->watch(c, notifier_descriptor(c)) != 0)
            give_ring_up(c->notifier);
    }
    return c->notifier;
}

static void report(struct fusewire_connection *c, int64_t result, bool wanted)
{
    /* -ENOENT says that nothing was cached: what was asked for is so already. */
    int32_t outcome = result == -ENOENT || result >= 0 ? 0 : (int32_t)result;
    if (outcome != 0)
        c->stats.notifications_failed++;
    if (!wanted)
        return;
    struct slot *slot = slot_available(&c->slots) ? slot_take(&c->slots, SLOT_OPEN) : NULL;
    if (slot == NULL)
        return;
    memset(&slot->expected, 0, sizeof slot->expected);
    slot->nodeid = 0;
    slot->outcome = outcome;
    conn_report(c, slot);
}

static int send_now(struct fusewire_connection *c, const void *head, size_t head_size, const void *body,
                    size_t body_size, bool wanted)
{
    const struct iovec pieces[2] = {{(void *)(uintptr_t)head, head_size}, {(void *)(uintptr_t)body, body_size}};
    report(c, dev_write(c->mount.device_fd, pieces, body_size > 0 ? 2 : 1, &c->stats.system_calls), wanted);
    return 0;
}

int notifier_send(struct fusewire_connection *c, const void *head, size_t head_size, const void *body, size_t body_size,
                  bool may_block, bool wanted)
{
    c->stats.notifications++;
    struct notifier *notifier = may_block ? the_notifier(c) : NULL;
    if (notifier == NULL || notifier->ring == NULL)
        return send_now(c, head, head_size, body, body_size, wanted);

    struct note *note = malloc(sizeof *note + head_size + body_size);
    if (note == NULL)
        return fail(-ENOMEM, "no memory for a notification of %zu bytes", head_size + body_size);
    memcpy(note->bytes, head, head_size);
    if (body_size > 0)
        memcpy(note->bytes + head_size, body, body_size);
    note->message = (struct iovec){note->bytes, head_size + body_size};
    note->report = wanted;
    if (ring_write_async(notifier->ring, c->mount.device_fd, &note->message, 1, (uint64_t)(uintptr_t)note) != 0 ||
        ring_submit(notifier->ring) < 0) {
        give_ring_up(notifier);
        free(note);
        return send_now(c, head, head_size, body, body_size, wanted);
    }
    note->next = notifier->notes;
    note->link = &notifier->notes;
    if (note->next != NULL)
        note->next->link = &note->next;
    notifier->notes = note;
    notifier->pending++;
    return 0;
}

int notifier_descriptor(const struct fusewire_connection *c)
{
    return c->notifier == NULL || c->notifier->ring == NULL ? -1 : ring_descriptor(c->notifier->ring);
}

void notifier_reap(struct fusewire_connection *c)
{
    struct notifier *notifier = c->notifier;
    struct ring_completion completion;
    while (notifier->ring != NULL && ring_next(notifier->ring, &completion)) {
        struct note *note = (struct note *)(uintptr_t)completion.tag;
        *note->link = note->next;
        if (note->next != NULL)
            note->next->link = note->link;
        notifier->pending--;
        report(c, completion.result, note->report);
        free(note);
    }
}

unsigned notifier_pending(const struct fusewire_connection *c)
{
    return c->notifier == NULL ? 0 : c->notifier->pending;
}

void notifier_close(struct fusewire_connection *c)
{
    struct notifier *notifier = c->notifier;
    if (notifier == NULL)
        return;
    give_ring_up(notifier);
    free(notifier);
    c->notifier = NULL;
}

void notifier_forget(struct fusewire_connection *c)
{
    if (c->notifier != NULL && c->notifier->ring != NULL)
        ring_close(c->notifier->ring);
}

void notifier_discard(struct fusewire_connection *c)
{
    if (c->notifier == NULL)
        return;
    if (c->notifier->ring != NULL)
        ring_discard(c->notifier->ring);
    for (struct note *note = c->notifier->notes; note != NULL;) {
        struct note *next = note->next;
        free(note);
        note = next;
    }
    free(c->notifier);
}
