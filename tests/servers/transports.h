/* The transports by name, for command lines. */
#ifndef TRANSPORTS_H
#define TRANSPORTS_H

#include <fusewire.h>

#include <stdint.h>
#include <string.h>

static const char *const transport_names[] = {
    [FUSEWIRE_TRANSPORT_AUTO] = "auto",
    [FUSEWIRE_TRANSPORT_POLL] = "poll",
    [FUSEWIRE_TRANSPORT_RING] = "ring",
    [FUSEWIRE_TRANSPORT_URING] = "uring",
};

enum { TRANSPORT_COUNT = sizeof transport_names / sizeof transport_names[0] };

/* Of an unknown name a number that the library does not know either. */
static inline uint32_t transport_of(const char *name)
{
    uint32_t number = 0;
    while (number < TRANSPORT_COUNT && strcmp(transport_names[number], name) != 0)
        number++;
    return number;
}

#endif
