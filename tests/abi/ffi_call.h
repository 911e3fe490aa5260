/* Calls any function of the ABI by name through libffi, its arguments' types taken from the description table. */
#ifndef FFI_CALL_H
#define FFI_CALL_H

#include "table.h"

enum { CALL_ARGUMENTS_MAX = 8, CALL_SCRATCH = 65536 };

union call_value {
    int32_t int32;
    int64_t int64;
    uint32_t uint32;
    uint64_t uint64;
    size_t size;
    void *pointer;
};

/* A call in the making. */
struct call {
    const struct abi_function *function;
    union call_value arguments[CALL_ARGUMENTS_MAX];
};

/* Loads the library and finds every function of the table in it. Exits with words where one is missing. */
void call_load(const char *library);

const struct abi_function *call_find(const char *name);

/* The index of the function's argument of that name, or -1. */
int call_argument(const struct abi_function *function, const char *name);

const struct abi_struct *call_struct(const char *name);

/* Does the structure begin with its own size? */
bool call_struct_is_sized(const struct abi_struct *structure);

/* Sets every argument to something harmless: pointers to zeroed memory of their own (CALL_SCRATCH bytes each, `size` set
 * where a structure begins with it), small numbers that fit it, `connection` and `id` where one is asked for. */
void call_prepare(struct call *call, const struct abi_function *function, void *connection, uint64_t id);

/* Sets a number of whatever width the argument has. */
void call_set_number(struct call *call, int argument, uint64_t number);

/* Makes the call. The result is a number as it is, or a pointer as one. */
int64_t call_make(const struct call *call);

/* The same, prepared first. */
int64_t call_plain(const char *name, void *connection, uint64_t id);

/* The call as text, for messages; the same buffer each time, in memory that is shared with forked children. */
const char *call_text(void);

#endif
