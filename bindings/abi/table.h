/* The C ABI as data, for whoever calls it through libffi: describe.py makes the tables from fusewire_abi.h. */
#ifndef ABI_TABLE_H
#define ABI_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum abi_kind {
    ABI_VOID,
    ABI_CHAR,
    ABI_INT32,
    ABI_INT64,
    ABI_UINT16,
    ABI_UINT32,
    ABI_UINT64,
    ABI_SIZE, /* size_t */
    ABI_POINTER,
    ABI_STRUCT /* of a field: embedded */
};

struct abi_type {
    const char *spelling; /* as in the header */
    enum abi_kind kind;
    const char *target; /* of a pointer: what it points to, without const; else NULL */
    bool target_const;  /* of a pointer: the callee only reads what it points to */
};

struct abi_argument {
    const char *name;
    struct abi_type type;
};

struct abi_function {
    const char *name;
    struct abi_type result;
    const struct abi_argument *arguments;
    size_t argument_count;
};

struct abi_field {
    const char *name;
    struct abi_type type; /* of one element */
    size_t offset;
    size_t size;  /* of all elements */
    size_t count; /* of elements: 1 where it is no array */
};

struct abi_struct {
    const char *name;
    size_t size;
    size_t alignment;
    const struct abi_field *fields;
    size_t field_count;
};

struct abi_constant {
    const char *name;
    int64_t value;
};

extern const struct abi_constant abi_constants[];
extern const size_t abi_constant_count;
extern const struct abi_struct abi_structs[];
extern const size_t abi_struct_count;
extern const struct abi_function abi_functions[];
extern const size_t abi_function_count;

#endif
