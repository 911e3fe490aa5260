#include "family.h"
#include "entries.h"
#include "queues.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* Room for interrupts on their way: when more are posted before a member looks, the oldest are lost to it. A lost one
 * leaves its client waiting for the answer, as if the filesystem ignored interrupts, which it may. */
enum { INTERRUPTS = 256 };

struct interrupt {
    atomic_ullong number; /* which one stands here, plus 1; written after `unique` */
    atomic_ullong unique;
};

/* Members that serve a queue. */
struct served {
    atomic_int last;   /* the process of the one that came last; 0 before there was any */
    atomic_uint count; /* those that have not ended; whoever dies does not tell */
};

struct family_state {
    atomic_bool stopped;
    atomic_bool agreed;
    atomic_ullong interrupts_posted;
    struct interrupt interrupts[INTERRUPTS];
    fusewire_session session;
    size_t payload_used;
    struct served queues[QUEUES_MAX];
};

struct family_here {
    struct family family;
    atomic_uint users;
};

struct family *family_create(void)
{
    struct family_here *here = calloc(1, sizeof *here);
    if (here == NULL)
        return NULL;
    here->family.state =
        mmap(NULL, sizeof *here->family.state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    here->family.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (here->family.state == MAP_FAILED || here->family.bell < 0) {
        if (here->family.state != MAP_FAILED)
            munmap(here->family.state, sizeof *here->family.state);
        if (here->family.bell >= 0)
            close(here->family.bell);
        free(here);
        return NULL;
    }
    atomic_store(&here->users, 1);
    return &here->family;
}

struct family *family_join(struct family *family)
{
    atomic_fetch_add(&((struct family_here *)family)->users, 1);
    return family;
}

void family_leave(struct family *family)
{
    struct family_here *here = (struct family_here *)family;
    if (atomic_fetch_sub(&here->users, 1) > 1)
        return;
    munmap(family->state, sizeof *family->state);
    close(family->bell);
    free(family->mountpoint);
    free(here);
}

static void ring_bell(struct family *family)
{
    static const uint64_t one = 1;
    /* Fails only when the counter is full, after 2^64 - 2 rings. */
    ssize_t ignored = write(family->bell, &one, sizeof one);
    (void)ignored;
}

void family_stop(struct family *family)
{
    atomic_store(&family->state->stopped, true);
    ring_bell(family);
}

bool family_stopped(const struct family *family)
{
    return atomic_load_explicit(&family->state->stopped, memory_order_acquire);
}

void family_agree(struct family *family, const fusewire_session *session)
{
    family->state->session = *session;
    family->state->payload_used = entries_payload_used(session);
    atomic_store(&family->state->agreed, true);
}

const fusewire_session *family_session(const struct family *family)
{
    return atomic_load(&family->state->agreed) ? &family->state->session : NULL;
}

bool family_queue_begin(struct family *family, uint16_t queue)
{
    struct served *served = &family->state->queues[queue];
    const pid_t last = atomic_exchange(&served->last, getpid());
    const bool served_now = atomic_fetch_add(&served->count, 1) > 0;
    return last != 0 && !(served_now && (kill(last, 0) == 0 || errno != ESRCH));
}

void family_queue_end(struct family *family, uint16_t queue)
{
    atomic_fetch_sub(&family->state->queues[queue].count, 1);
}

size_t family_payload_used(const struct family *family)
{
    return family->state->payload_used;
}

void family_post_interrupt(struct family *family, uint64_t unique)
{
    struct family_state *state = family->state;
    uint64_t number = atomic_fetch_add(&state->interrupts_posted, 1);
    struct interrupt *interrupt = &state->interrupts[number % INTERRUPTS];
    atomic_store(&interrupt->unique, unique);
    atomic_store(&interrupt->number, number + 1);
    ring_bell(family);
}

uint64_t family_interrupts_posted(const struct family *family)
{
    return atomic_load_explicit(&family->state->interrupts_posted, memory_order_acquire);
}

bool family_interrupt(const struct family *family, uint64_t number, uint64_t *unique)
{
    const struct interrupt *interrupt = &family->state->interrupts[number % INTERRUPTS];
    *unique = 0;
    if (atomic_load(&interrupt->number) == number + 1) {
        uint64_t found = atomic_load(&interrupt->unique);
        if (atomic_load(&interrupt->number) == number + 1)
            *unique = found;
        return true;
    }
    /* Overwritten, or its writer died before it was through; else it is about to come. */
    return family_interrupts_posted(family) - number > INTERRUPTS / 2;
}
