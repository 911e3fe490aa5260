#include "ffi_call.h"

#include <dlfcn.h>
#include <ffi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { TEXT_SIZE = 1024, FUNCTIONS_MAX = 256 };

static void (*symbols[FUNCTIONS_MAX])(void);
static char *scratch[CALL_ARGUMENTS_MAX];
static char *text;

static void *map_shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return memory;
}

void call_load(const char *library)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle || abi_function_count > FUNCTIONS_MAX) {
        fprintf(stderr, "cannot use %s: %s\n", library, handle ? "too many functions" : dlerror());
        exit(1);
    }
    for (size_t i = 0; i < abi_function_count; i++) {
        void *symbol = dlsym(handle, abi_functions[i].name);
        if (!symbol || abi_functions[i].argument_count > CALL_ARGUMENTS_MAX) {
            fprintf(stderr, "%s is not in %s, or has too many arguments\n", abi_functions[i].name, library);
            exit(1);
        }
        memcpy(&symbols[i], &symbol, sizeof symbol);
    }
    for (size_t i = 0; i < CALL_ARGUMENTS_MAX; i++)
        scratch[i] = map_shared(CALL_SCRATCH);
    text = map_shared(TEXT_SIZE);
}

const struct abi_function *call_find(const char *name)
{
    for (size_t i = 0; i < abi_function_count; i++)
        if (strcmp(abi_functions[i].name, name) == 0)
            return &abi_functions[i];
    fprintf(stderr, "the description has no %s\n", name);
    exit(1);
}

int call_argument(const struct abi_function *function, const char *name)
{
    for (size_t i = 0; i < function->argument_count; i++)
        if (strcmp(function->arguments[i].name, name) == 0)
            return (int)i;
    return -1;
}

const struct abi_struct *call_struct(const char *name)
{
    for (size_t i = 0; i < abi_struct_count; i++)
        if (name && strcmp(abi_structs[i].name, name) == 0)
            return &abi_structs[i];
    return NULL;
}

bool call_struct_is_sized(const struct abi_struct *structure)
{
    return structure && strcmp(structure->fields[0].name, "size") == 0 && structure->fields[0].offset == 0;
}

void call_set_number(struct call *call, int argument, uint64_t number)
{
    union call_value *value = &call->arguments[argument];
    *value = (union call_value){0};
    switch (call->function->arguments[argument].type.kind) {
    case ABI_INT32:
    case ABI_UINT32:
        value->uint32 = (uint32_t)number;
        break;
    case ABI_SIZE:
        value->size = (size_t)number;
        break;
    default:
        value->uint64 = number;
    }
}

static uint64_t harmless_number(const char *name, uint64_t id)
{
    static const struct {
        const char *name;
        int64_t number;
    } numbers[] = {
        {"timeout", 0},  {"size", 16},     {"name_size", 4}, {"capacity", 512}, {"used", 0},  {"count", 1},
        {"in_count", 1}, {"out_count", 1}, {"error", -5},    {"fd", -1},        {"flags", 0}, {"index", 0},
        {"nodeid", 77},  {"parent", 77},   {"child", 78}, /* no nodes of the kernel's */
    };
    if (strcmp(name, "id") == 0)
        return id;
    if (strcmp(name, "request_size") == 0)
        return call_struct("fusewire_request")->size;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (strcmp(name, numbers[i].name) == 0)
            return (uint64_t)numbers[i].number;
    return strstr(name, "_size") ? 16 : 1;
}

void call_prepare(struct call *call, const struct abi_function *function, void *connection, uint64_t id)
{
    *call = (struct call){.function = function};
    for (size_t i = 0; i < function->argument_count; i++) {
        const struct abi_argument *argument = &function->arguments[i];
        if (argument->type.kind != ABI_POINTER) {
            call_set_number(call, (int)i, harmless_number(argument->name, id));
        } else if (strcmp(argument->type.target, "fusewire_connection") == 0) {
            call->arguments[i].pointer = connection;
        } else {
            memset(scratch[i], 0, CALL_SCRATCH);
            call->arguments[i].pointer = scratch[i];
            const struct abi_struct *structure = call_struct(argument->type.target);
            if (call_struct_is_sized(structure))
                memcpy(scratch[i], &(uint64_t){structure->size}, sizeof(uint64_t));
            if (strcmp(argument->name, "mountpoint") == 0)
                strcpy(scratch[i], "/nonexistent/mountpoint");
            if (strcmp(argument->name, "name") == 0 && argument->type.target_const)
                strcpy(scratch[i], "name");
        }
    }
}

static ffi_type *ffi_type_of(enum abi_kind kind)
{
    switch (kind) {
    case ABI_VOID:
        return &ffi_type_void;
    case ABI_CHAR:
        return &ffi_type_schar;
    case ABI_INT32:
        return &ffi_type_sint32;
    case ABI_INT64:
        return &ffi_type_sint64;
    case ABI_UINT16:
        return &ffi_type_uint16;
    case ABI_UINT32:
        return &ffi_type_uint32;
    case ABI_UINT64:
        return &ffi_type_uint64;
    case ABI_SIZE:
        return sizeof(size_t) == 8 ? &ffi_type_uint64 : &ffi_type_uint32;
    case ABI_POINTER:
        return &ffi_type_pointer;
    case ABI_STRUCT:
        break;
    }
    fprintf(stderr, "a structure passed by value\n");
    exit(1);
}

static void write_text(const struct call *call)
{
    size_t used = (size_t)snprintf(text, TEXT_SIZE, "%s(", call->function->name);
    for (size_t i = 0; i < call->function->argument_count && used < TEXT_SIZE; i++) {
        const struct abi_argument *argument = &call->function->arguments[i];
        const char *comma = i ? ", " : "";
        int length;
        if (argument->type.kind == ABI_POINTER)
            length = snprintf(text + used, TEXT_SIZE - used, "%s%s %s", comma, argument->name,
                              call->arguments[i].pointer ? "given" : "NULL");
        else
            length = snprintf(text + used, TEXT_SIZE - used, "%s%s %#llx", comma, argument->name,
                              (unsigned long long)call->arguments[i].uint64);
        used += (size_t)length;
    }
    if (used < TEXT_SIZE - 1)
        strcpy(text + used, ")");
}

int64_t call_make(const struct call *call)
{
    const struct abi_function *function = call->function;
    ffi_type *types[CALL_ARGUMENTS_MAX];
    void *values[CALL_ARGUMENTS_MAX];
    for (size_t i = 0; i < function->argument_count; i++) {
        types[i] = ffi_type_of(function->arguments[i].type.kind);
        values[i] = (void *)&call->arguments[i];
    }
    ffi_cif cif;
    if (ffi_prep_cif(&cif, FFI_DEFAULT_ABI, (unsigned)function->argument_count, ffi_type_of(function->result.kind),
                     types) != FFI_OK) {
        fprintf(stderr, "libffi refuses %s\n", function->name);
        exit(1);
    }
    union {
        ffi_arg narrow; /* libffi widens what is smaller than a register */
        int64_t wide;
    } result = {0};
    write_text(call);
    ffi_call(&cif, symbols[function - abi_functions], &result, values);
    return function->result.kind == ABI_INT32 ? (int32_t)result.narrow : result.wide;
}

int64_t call_plain(const char *name, void *connection, uint64_t id)
{
    struct call call;
    call_prepare(&call, call_find(name), connection, id);
    return call_make(&call);
}

const char *call_text(void)
{
    return text;
}
