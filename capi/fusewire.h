/* fusewire: a FUSE connection on io_uring, for C and C++. The declarations and their contracts are in fusewire_abi.h. */
#ifndef FUSEWIRE_H
#define FUSEWIRE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#include "fusewire_abi.h"

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

/* The version of this header, as fusewire_version() returns that of the library. */
#define FUSEWIRE_VERSION 0x000100

/* A capability as a bit of a 64-bit set: FUSEWIRE_CAP(WRITEBACK_CACHE). */
#define FUSEWIRE_CAP(name) (UINT64_C(1) << FUSEWIRE_CAP_##name)

#endif
