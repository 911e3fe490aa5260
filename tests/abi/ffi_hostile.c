/* Calls every function of the library through libffi, as a binding does, with arguments that make no sense, and expects
 * errors: no crash, no hang, no request lost. Usage: ffi_hostile LIBRARY SCENARIO [poll|ring|uring]; see the list at
 * the end. */
#include "ffi_call.h"

#include <fusewire.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77, SCENARIO_SECONDS = 60 };

static unsigned failures, calls;
static uint32_t transport = FUSEWIRE_TRANSPORT_AUTO;

static void complain(const char *problem, int64_t result)
{
    failures++;
    fprintf(stderr, "%s: %s, result %lld\n", call_text(), problem, (long long)result);
}

static void check_words(void)
{
    char called[1024];
    snprintf(called, sizeof called, "%s", call_text());
    const char *words = (const char *)(intptr_t)call_plain("fusewire_last_error", NULL, 0);
    if (!words || !*words) {
        failures++;
        fprintf(stderr, "%s: failed without words\n", called);
    }
}

/* What a hostile call may bring about. */
enum verdict { MUST_FAIL, MAY_SUCCEED };

static bool gives_text(const struct abi_function *function)
{
    return function->result.kind == ABI_POINTER;
}

static void judge(const struct call *call, enum verdict verdict)
{
    int64_t result = call_make(call);
    calls++;
    if (gives_text(call->function)) {
        /* It has words for everything. */
        if (result == 0 || *(const char *)(intptr_t)result == '\0')
            complain("no words", result);
        return;
    }
    if (result < -4095)
        complain("no errno", result);
    if (result < 0) {
        check_words();
        return;
    }
    if (verdict == MUST_FAIL)
        complain("accepted", result);
    int out = call_argument(call->function, "out");
    if (result == 0 && out >= 0 && strcmp(call->function->arguments[out].type.target, "fusewire_connection *") == 0)
        call_plain("fusewire_close", *(void **)call->arguments[out].pointer, 0);
}

static bool is_number(const struct abi_function *function, size_t argument)
{
    return argument < function->argument_count && function->arguments[argument].type.kind != ABI_POINTER;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* The argument that says how much memory pointer `argument` points to, or -1. */
static int size_of_pointer(const struct abi_function *function, size_t argument)
{
    size_t next = argument + 1;
    if (!is_number(function, next))
        return -1;
    const char *name = function->arguments[next].name;
    return ends_with(name, "size") || ends_with(name, "count") || ends_with(name, "capacity") ? (int)next : -1;
}

/* NULL is a meaning of its own for these. */
static bool is_optional(const char *argument)
{
    return strcmp(argument, "options") == 0 || strcmp(argument, "mountpoint") == 0;
}

/* Would a number too large for the memory behind the pointer be believed, as in C it must? */
static bool is_believed(const struct abi_function *function, int number)
{
    return strcmp(function->name, "fusewire_read") == 0 || strcmp(function->name, "fusewire_worker_cpus") == 0 ||
           ends_with(function->name, "dirent") || ends_with(function->name, "direntplus") ||
           (strcmp(function->name, "fusewire_notify_store") == 0 &&
            strcmp(function->arguments[number].name, "size") == 0);
}

static const uint64_t huge[] = {UINT64_MAX, INT64_MAX, UINT64_C(1) << 63, UINT32_MAX, (UINT64_C(1) << 61) + 1};
static const size_t huge_count = sizeof huge / sizeof huge[0];

/* The size that the argument would be given, in its own width. */
static uint64_t in_width(const struct abi_function *function, int argument, uint64_t number)
{
    enum abi_kind kind = function->arguments[argument].type.kind;
    return kind == ABI_UINT32 || kind == ABI_INT32 ? (uint32_t)number : number;
}

/* Pointers that are NULL, alone and with huge sizes, and sizes that no message has: never valid. */
static void torment_pointers(const struct abi_function *function, void *connection, uint64_t id)
{
    struct call call;
    for (size_t i = 0; i < function->argument_count; i++) {
        if (is_number(function, i) || strcmp(function->arguments[i].name, "connection") == 0)
            continue;
        call_prepare(&call, function, connection, id);
        call.arguments[i].pointer = NULL;
        judge(&call, is_optional(function->arguments[i].name) ? MAY_SUCCEED : MUST_FAIL);
        int size = size_of_pointer(function, i);
        if (size < 0)
            continue;
        for (size_t k = 0; k < huge_count; k++) {
            if (in_width(function, size, huge[k]) <= CALL_SCRATCH)
                continue;
            call_prepare(&call, function, connection, id);
            call_set_number(&call, size, huge[k]);
            if (!is_believed(function, size))
                judge(&call, MUST_FAIL);
            call.arguments[i].pointer = NULL;
            judge(&call, MUST_FAIL);
        }
    }
    int error = call_argument(function, "error");
    static const int errors[] = {0, 1, 511, -512, -600, INT32_MIN, INT32_MAX};
    for (size_t k = 0; error >= 0 && k < sizeof errors / sizeof errors[0]; k++) {
        call_prepare(&call, function, connection, id);
        call.arguments[error].int32 = errors[k];
        judge(&call, MUST_FAIL);
    }
}

/* The harmless call, and each of its numbers at its extremes. */
static void torment_numbers(const struct abi_function *function, void *connection, uint64_t id, enum verdict verdict)
{
    struct call call;
    call_prepare(&call, function, connection, id);
    judge(&call, verdict);
    for (size_t i = 0; i < function->argument_count; i++) {
        const char *name = function->arguments[i].name;
        if (!is_number(function, i) || strcmp(name, "id") == 0 || strcmp(name, "timeout") == 0 ||
            (i > 0 && size_of_pointer(function, i - 1) == (int)i))
            continue;
        for (size_t k = 0; k < huge_count; k++) {
            call_prepare(&call, function, connection, id);
            call_set_number(&call, (int)i, huge[k]);
            judge(&call, strcmp(name, "used") == 0 ? MUST_FAIL : verdict);
        }
        call_prepare(&call, function, connection, id);
        call_set_number(&call, (int)i, 0);
        judge(&call, verdict);
    }
}

static void torment(const struct abi_function *function, void *connection, uint64_t id, enum verdict verdict)
{
    torment_pointers(function, connection, id);
    torment_numbers(function, connection, id, verdict);
}

static bool ends_connection(const struct abi_function *function)
{
    return strcmp(function->name, "fusewire_close") == 0 || strcmp(function->name, "fusewire_unmount") == 0 ||
           strcmp(function->name, "fusewire_notify_unmount") == 0;
}

static bool takes_id(const struct abi_function *function)
{
    return call_argument(function, "id") >= 0;
}

/* Every function that names a request, with an id that no open request of this connection has. */
static void torment_id(void *connection, uint64_t id)
{
    for (size_t i = 0; i < abi_function_count; i++)
        if (takes_id(&abi_functions[i]))
            torment(&abi_functions[i], connection, id, MUST_FAIL);
}

static void torment_ids(void *connection)
{
    static const uint64_t ids[] = {0, 1, 2, UINT32_MAX, UINT64_C(1) << 32, INT64_MAX, UINT64_C(1) << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        torment_id(connection, ids[i]);
    uint64_t random = UINT64_C(0x9e3779b97f4a7c15);
    for (int i = 0; i < 2000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        int64_t result = call_plain("fusewire_reply_ok", connection, random >> (i % 64));
        if (result >= 0)
            complain("accepted a random id", result);
    }
}

/* Every function that names no request and leaves the connection alive. */
static void torment_others(void *connection)
{
    for (size_t i = 0; i < abi_function_count; i++)
        if (!takes_id(&abi_functions[i]) && !ends_connection(&abi_functions[i]))
            torment(&abi_functions[i], connection, 0, MAY_SUCCEED);
}

/* ---- Structures that carry their size -------------------------------------------------------------------------- */

/* `size` bytes of zeros that end where no memory is. */
static char *before_the_abyss(size_t size)
{
    static char *page;
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
    if (!page) {
        page = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED || mprotect(page + page_size, page_size, PROT_NONE) < 0) {
            perror("mmap");
            exit(1);
        }
    }
    memset(page, 0, page_size);
    return page + page_size - size;
}

/* One call with the structure of `real` bytes saying that it has `claimed`. */
static void claim_size(const struct abi_function *function, size_t argument, void *connection, size_t real,
                       uint64_t claimed, char tail, enum verdict verdict)
{
    struct call call;
    call_prepare(&call, function, connection, 0);
    char *memory = before_the_abyss(real);
    if (real > call_struct(function->arguments[argument].type.target)->size)
        memory[real - 1] = tail;
    memcpy(memory, &claimed, real < sizeof claimed ? real : sizeof claimed);
    call.arguments[argument].pointer = memory;
    int mountpoint = call_argument(function, "mountpoint");
    if (mountpoint >= 0)
        call.arguments[mountpoint].pointer = NULL;
    judge(&call, verdict);
}

static void torment_sizes(void *connection)
{
    for (size_t i = 0; i < abi_function_count; i++) {
        const struct abi_function *function = &abi_functions[i];
        for (size_t k = 0; k < function->argument_count; k++) {
            const struct abi_type *type = &function->arguments[k].type;
            const struct abi_struct *structure = type->kind == ABI_POINTER ? call_struct(type->target) : NULL;
            if (!call_struct_is_sized(structure))
                continue;
            size_t size = structure->size;
            for (size_t real = sizeof(uint64_t); real <= size + 64; real += sizeof(uint64_t))
                claim_size(function, k, connection, real, real, 0, MAY_SUCCEED);
            for (uint64_t claimed = 0; claimed < sizeof(uint64_t); claimed++)
                claim_size(function, k, connection, size, claimed, 0, MUST_FAIL);
            for (size_t j = 0; j < huge_count; j++)
                claim_size(function, k, connection, size, huge[j], 0, MUST_FAIL);
            if (type->target_const)
                claim_size(function, k, connection, size + 64, size + 64, 1, MUST_FAIL);
        }
    }
    struct call call;
    for (uint64_t size = 0; size < sizeof(uint64_t); size++) {
        call_prepare(&call, call_find("fusewire_read"), connection, 0);
        call_set_number(&call, call_argument(call.function, "request_size"), size);
        judge(&call, MUST_FAIL);
    }
}

/* Opening with each option at its extremes. */
static void torment_options(void)
{
    const struct abi_struct *options = call_struct("fusewire_options");
    struct call call;
    for (size_t i = 1; i < options->field_count; i++) {
        const struct abi_field *field = &options->fields[i];
        if (field->type.kind == ABI_POINTER)
            continue;
        for (size_t k = 0; k < huge_count; k++) {
            call_prepare(&call, call_find("fusewire_open"), NULL, 0);
            call.arguments[call_argument(call.function, "mountpoint")].pointer = NULL;
            char *filled = call.arguments[call_argument(call.function, "options")].pointer;
            memcpy(filled + field->offset, &huge[k], field->size);
            if (strcmp(field->name, "flags") == 0 && huge[k] == INT64_MAX)
                memcpy(filled + field->offset, &(uint32_t){FUSEWIRE_OPEN_ADOPT}, sizeof(uint32_t));
            bool unknown = strcmp(field->name, "flags") == 0 || strcmp(field->name, "transport") == 0 ||
                           strcmp(field->name, "depth") == 0;
            bool reserved = strcmp(field->name, "padding") == 0;
            uint32_t given;
            memcpy(&given, filled + field->offset, sizeof given);
            judge(&call, (unknown && given > 1) || (reserved && given > 0) ? MUST_FAIL : MAY_SUCCEED);
        }
    }
    static const char *const mount_options[] = {"nonsense", "fsname", "max_read=x", "=", ",,,", "fd=3,rootmode=40000"};
    for (size_t i = 0; i < sizeof mount_options / sizeof mount_options[0]; i++) {
        call_prepare(&call, call_find("fusewire_open"), NULL, 0);
        fusewire_options *filled = call.arguments[call_argument(call.function, "options")].pointer;
        filled->mount_options = mount_options[i];
        judge(&call, MUST_FAIL); /* the mount point is missing anyway */
    }
}

/* Adopting the connection's device with a session that nobody can have agreed upon. */
static void torment_session(void *connection)
{
    int fd = (int)call_plain("fusewire_device_fd", connection, 0);
    size_t size = sizeof(fusewire_session);
    struct call call;
    call_prepare(&call, call_find("fusewire_open"), NULL, 0);
    call.arguments[call_argument(call.function, "mountpoint")].pointer = NULL;
    fusewire_options *options = call.arguments[call_argument(call.function, "options")].pointer;
    options->flags = FUSEWIRE_OPEN_ADOPT;
    options->fd = fd;
    for (size_t real = size - 32; real <= size + 64; real += sizeof(uint64_t)) {
        char *session = before_the_abyss(real);
        memcpy(session, &(uint64_t){real}, sizeof(uint64_t));
        options->session = (const fusewire_session *)session;
        judge(&call, MAY_SUCCEED);
        if (real > size) {
            session[real - 1] = 1;
            judge(&call, MUST_FAIL);
        }
    }
    for (size_t i = 0; i < huge_count; i++) {
        char *session = before_the_abyss(size);
        options->session = (const fusewire_session *)session;
        judge(&call, MUST_FAIL); /* a size of 0 */
        memcpy(session, &huge[i], sizeof(uint64_t));
        judge(&call, MUST_FAIL);
        memset(session, 0xff, size);
        memcpy(session, &(uint64_t){size}, sizeof(uint64_t));
        judge(&call, MUST_FAIL);
    }
    options->session = NULL;
    for (int other = -1; other <= 2; other++) {
        options->fd = other;
        judge(&call, MUST_FAIL);
    }
}

/* ---- Scenarios ------------------------------------------------------------------------------------------------- */

/* Fails where FUSE has to be there (CI), skips elsewhere. */
static int missing(const char *what, int64_t error)
{
    const char *words = (const char *)(intptr_t)call_plain("fusewire_last_error", NULL, 0);
    fprintf(stderr, "%s: %s (%s)\n", what, words, strerror((int)-error));
    /* Not each kernel that has FUSE has it over io_uring. */
    const bool optional = transport == FUSEWIRE_TRANSPORT_URING && error == -ENOTSUP;
    return getenv("CI") && !optional ? 1 : SKIPPED;
}

/* fusewire_open; `mountpoint` NULL for the device alone. */
static int64_t open_connection(fusewire_connection **out, const char *mountpoint)
{
    struct call call;
    call_prepare(&call, call_find("fusewire_open"), NULL, 0);
    call.arguments[call_argument(call.function, "out")].pointer = out;
    call.arguments[call_argument(call.function, "mountpoint")].pointer = (void *)(intptr_t)mountpoint;
    fusewire_options *options = call.arguments[call_argument(call.function, "options")].pointer;
    options->transport = transport;
    return call_make(&call);
}

static int64_t read_requests(fusewire_connection *connection, fusewire_request *requests, size_t capacity, int timeout)
{
    struct call call;
    call_prepare(&call, call_find("fusewire_read"), connection, 0);
    call.arguments[call_argument(call.function, "requests")].pointer = requests;
    call_set_number(&call, call_argument(call.function, "capacity"), capacity);
    call.arguments[call_argument(call.function, "timeout")].int32 = timeout;
    return call_make(&call);
}

static void close_connection(fusewire_connection *connection)
{
    int64_t result = call_plain("fusewire_close", connection, 0);
    if (result != 0)
        complain("not closed", result);
}

static int scenario_null(const char *folder)
{
    (void)folder;
    struct call call;
    for (size_t i = 0; i < abi_function_count; i++) {
        const struct abi_function *function = &abi_functions[i];
        bool closes = strcmp(function->name, "fusewire_close") == 0;
        if (function->argument_count == 0)
            continue;
        call = (struct call){.function = function};
        judge(&call, closes ? MAY_SUCCEED : MUST_FAIL);
        if (call_argument(function, "connection") < 0) {
            torment(function, NULL, 0, MAY_SUCCEED);
            continue;
        }
        torment(function, NULL, 1, closes ? MAY_SUCCEED : MUST_FAIL);
        if (gives_text(function))
            continue;
        call_prepare(&call, function, NULL, 1);
        int64_t result = call_make(&call);
        if (result != (closes ? 0 : -EINVAL))
            complain("a NULL connection", result);
    }
    if (call_plain("fusewire_version", NULL, 0) != FUSEWIRE_VERSION)
        complain("not the header's version", call_plain("fusewire_version", NULL, 0));
    torment_options();
    return 0;
}

static int scenario_device(const char *folder)
{
    (void)folder;
    fusewire_connection *connection;
    int64_t error = open_connection(&connection, NULL);
    if (error < 0)
        return missing("cannot open /dev/fuse", error);
    torment_others(connection);
    torment_ids(connection);
    torment_sizes(connection);
    torment_session(connection);
    close_connection(connection);
    return 0;
}

static int scenario_stopped(const char *folder)
{
    (void)folder;
    fusewire_connection *connection;
    fusewire_request request;
    int64_t error = open_connection(&connection, NULL);
    if (error < 0)
        return missing("cannot open /dev/fuse", error);
    for (int i = 0; i < 2; i++)
        if ((error = call_plain("fusewire_notify_unmount", connection, 0)) != 0)
            complain("not stopped", error);
    for (int i = 0; i < 3; i++) {
        if ((error = read_requests(connection, &request, 1, 1000)) != -ESHUTDOWN)
            complain("not the end expected", error);
        torment_others(connection);
        torment_ids(connection);
    }
    torment_sizes(connection);
    close_connection(connection);
    return 0;
}

/* What the client does: getattr, opendir, readdir, lookup, statfs. */
static int client(const char *folder)
{
    char path[4096];
    struct stat status;
    struct statvfs statistics;
    snprintf(path, sizeof path, "%s/missing", folder);
    if (stat(folder, &status) < 0 || !S_ISDIR(status.st_mode))
        return 1;
    DIR *directory = opendir(folder);
    if (!directory)
        return 2;
    errno = 0;
    if (readdir(directory) || errno)
        return 3;
    if (stat(path, &status) == 0 || errno != ENOENT)
        return 4;
    if (statvfs(folder, &statistics) < 0 || statistics.f_namemax != 255)
        return 5;
    closedir(directory);
    return 0;
}

/* May this function answer such a request, or leave it open without an error? */
static bool fits(uint32_t opcode, const char *function)
{
    static const struct {
        uint32_t opcode;
        const char *function;
    } pairs[] = {
        {FUSEWIRE_GETATTR, "fusewire_reply_attr"},     {FUSEWIRE_LOOKUP, "fusewire_reply_entry"},
        {FUSEWIRE_OPENDIR, "fusewire_reply_open"},     {FUSEWIRE_STATFS, "fusewire_reply_statfs"},
        {FUSEWIRE_READDIR, "fusewire_reply_data"},     {FUSEWIRE_READDIR, "fusewire_reply_data_vector"},
        {FUSEWIRE_READDIR, "fusewire_reply_ok"},       {FUSEWIRE_READDIR, "fusewire_borrow"},
        {FUSEWIRE_READDIRPLUS, "fusewire_reply_data"}, {FUSEWIRE_READDIRPLUS, "fusewire_reply_data_vector"},
        {FUSEWIRE_READDIRPLUS, "fusewire_reply_ok"},   {FUSEWIRE_READDIRPLUS, "fusewire_borrow"},
        {FUSEWIRE_RELEASEDIR, "fusewire_reply_ok"},    {FUSEWIRE_ACCESS, "fusewire_reply_ok"},
    };
    if (strcmp(function, "fusewire_reply_error") == 0 || strcmp(function, "fusewire_expect_outcome") == 0)
        return true;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        if (pairs[i].opcode == opcode && strcmp(pairs[i].function, function) == 0)
            return true;
    return false;
}

/* Answers the request as it should be, through the same door. */
static int64_t answer(fusewire_connection *connection, const fusewire_request *request)
{
    struct call call;
    switch (request->opcode) {
    case FUSEWIRE_GETATTR: {
        call_prepare(&call, call_find("fusewire_reply_attr"), connection, request->id);
        fusewire_attr *attr = call.arguments[call_argument(call.function, "attr")].pointer;
        *attr = (fusewire_attr){.ino = request->nodeid, .mode = S_IFDIR | 0755, .nlink = 2};
        return call_make(&call);
    }
    case FUSEWIRE_STATFS: {
        call_prepare(&call, call_find("fusewire_reply_statfs"), connection, request->id);
        fusewire_statfs *statfs = call.arguments[call_argument(call.function, "statfs")].pointer;
        *statfs = (fusewire_statfs){.bsize = 4096, .frsize = 4096, .namelen = 255};
        return call_make(&call);
    }
    case FUSEWIRE_OPENDIR:
        call_prepare(&call, call_find("fusewire_reply_open"), connection, request->id);
        call_set_number(&call, call_argument(call.function, "open_flags"), 0);
        call_set_number(&call, call_argument(call.function, "backing_id"), 0);
        return call_make(&call);
    case FUSEWIRE_READDIR:
    case FUSEWIRE_READDIRPLUS:
    case FUSEWIRE_RELEASEDIR:
    case FUSEWIRE_ACCESS:
        return call_plain("fusewire_reply_ok", connection, request->id);
    case FUSEWIRE_LOOKUP:
        call_prepare(&call, call_find("fusewire_reply_error"), connection, request->id);
        call.arguments[call_argument(call.function, "error")].int32 = -ENOENT;
        return call_make(&call);
    default:
        call_prepare(&call, call_find("fusewire_reply_error"), connection, request->id);
        call.arguments[call_argument(call.function, "error")].int32 = -ENOSYS;
        return call_make(&call);
    }
}

/* Hostile calls with the id of a request that a client waits for; then the answer, then the same id again. */
static void torment_open_request(fusewire_connection *connection, fusewire_connection *clone,
                                 const fusewire_request *request)
{
    for (size_t i = 0; i < abi_function_count; i++) {
        const struct abi_function *function = &abi_functions[i];
        if (!takes_id(function) && call_argument(function, "connection") >= 0 && !ends_connection(function))
            torment_pointers(function, connection, 0);
        else if (takes_id(function) && fits(request->opcode, function->name))
            torment_pointers(function, connection, request->id);
        else if (takes_id(function))
            torment(function, connection, request->id, MUST_FAIL);
    }
    torment_id(clone, request->id);
    int64_t result = call_plain("fusewire_reply_error", clone, request->id);
    if (result != -EXDEV)
        complain("an id of another connection", result);
    if ((result = answer(connection, request)) != 0)
        complain("the proper answer was refused", result);
    if ((result = call_plain("fusewire_reply_error", connection, request->id)) != -EALREADY)
        complain("answered twice", result);
    torment_id(connection, request->id);
}

/* Serves `folder` until the client has ended. */
static void serve(fusewire_connection *connection, fusewire_connection *clone, const char *folder)
{
    pid_t child = fork();
    if (child == 0)
        _exit(client(folder));
    unsigned tormented = 0;
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) {
        fusewire_request requests[16];
        int64_t count = read_requests(connection, requests, 16, 50);
        if (count < 0 && count != -EINTR) {
            complain("reading requests", count);
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            break;
        }
        for (int64_t i = 0; i < count; i++) {
            if (requests[i].id == 0 || requests[i].opcode == FUSEWIRE_INTERRUPT)
                continue;
            torment_open_request(connection, clone, &requests[i]);
            tormented++;
        }
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        failures++;
        fprintf(stderr, "the client failed: wait status %#x\n", (unsigned)status);
    }
    if (tormented < 5) {
        failures++;
        fprintf(stderr, "only %u requests were seen\n", tormented);
    }
}

static int scenario_mounted(const char *folder)
{
    fusewire_connection *connection, *clone;
    int64_t error = open_connection(&connection, folder);
    if (error < 0)
        return missing("cannot mount", error);
    struct call call;
    call_prepare(&call, call_find("fusewire_clone"), connection, 0);
    call.arguments[call_argument(call.function, "out")].pointer = &clone;
    call.arguments[call_argument(call.function, "options")].pointer = NULL;
    if ((error = call_make(&call)) < 0) {
        complain("not cloned", error);
        close_connection(connection);
        return 1;
    }
    torment_others(connection);
    torment_ids(connection);
    torment_sizes(connection);
    serve(connection, clone, folder);
    close_connection(clone);
    close_connection(connection);
    return 0;
}

static int scenario_unmounted(const char *folder)
{
    fusewire_connection *connection;
    fusewire_request request;
    int64_t error = open_connection(&connection, folder);
    if (error < 0)
        return missing("cannot mount", error);
    if ((error = call_plain("fusewire_unmount", connection, 0)) != 0)
        complain("not unmounted", error);
    while ((error = read_requests(connection, &request, 1, 1000)) >= 0)
        if (error > 0 && request.id)
            answer(connection, &request);
    if (error != -ENODEV)
        complain("not the end expected", error);
    torment_others(connection);
    torment_ids(connection);
    torment_sizes(connection);
    close_connection(connection);
    return 0;
}

/* In the child: its parent's connection, which says so each time. */
static int torment_forked(fusewire_connection *connection)
{
    for (size_t i = 0; i < abi_function_count; i++) {
        const struct abi_function *function = &abi_functions[i];
        if (call_argument(function, "connection") < 0 || strcmp(function->name, "fusewire_close") == 0)
            continue;
        int64_t result = gives_text(function) ? -ECHILD : call_plain(function->name, connection, 1);
        if (result != -ECHILD)
            complain("the parent's connection", result);
        torment(function, connection, 1, MUST_FAIL);
    }
    close_connection(connection);
    return failures != 0;
}

static int scenario_forked(const char *folder)
{
    fusewire_connection *connection, *clone;
    fusewire_request request;
    int64_t error = open_connection(&connection, folder);
    if (error < 0)
        return missing("cannot mount", error);
    if ((error = read_requests(connection, &request, 1, 0)) != 0)
        complain("reading before anybody asks", error);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(torment_forked(connection));
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) {
        failures++;
        fprintf(stderr, "in the child: wait status %#x\n", (unsigned)status);
    }
    struct call call;
    call_prepare(&call, call_find("fusewire_clone"), connection, 0);
    call.arguments[call_argument(call.function, "out")].pointer = &clone;
    if ((error = call_make(&call)) < 0) {
        complain("not cloned", error);
    } else {
        serve(connection, clone, folder);
        close_connection(clone);
    }
    close_connection(connection);
    return 0;
}

static const struct {
    const char *name;
    int (*run)(const char *folder);
} scenarios[] = {
    {"null", scenario_null},           /* NULL for pointers and handles, options that contradict */
    {"device", scenario_device},       /* an open device that nobody has mounted */
    {"stopped", scenario_stopped},     /* after fusewire_notify_unmount */
    {"mounted", scenario_mounted},     /* a mount, with ids of open, answered and other connections' requests */
    {"unmounted", scenario_unmounted}, /* after fusewire_unmount */
    {"forked", scenario_forked},       /* in a forked child */
};

/* Runs the scenario in a child, so that a crash or a hang can be named. */
static int run(int (*scenario)(const char *), const char *folder)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(SCENARIO_SECONDS);
        int status = scenario(folder);
        printf("%u hostile calls\n", calls);
        exit(status ? status : failures != 0);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("fork");
        return 1;
    }
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "%s in %s\n", strsignal(WTERMSIG(status)), call_text());
        return 1;
    }
    return WEXITSTATUS(status);
}

/* Removes what a scenario that crashed has left behind. */
static void detach(const char *folder)
{
    if (umount2(folder, MNT_DETACH) == 0 || errno != EPERM)
        return;
    pid_t child = fork();
    if (child == 0) {
        execlp("fusermount3", "fusermount3", "-q", "-u", "-z", folder, (char *)NULL);
        _exit(127);
    }
    waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: ffi_hostile LIBRARY SCENARIO [poll|ring|uring]\n");
        return 2;
    }
    if (argc == 4)
        transport = strcmp(argv[3], "uring") == 0  ? FUSEWIRE_TRANSPORT_URING
                    : strcmp(argv[3], "ring") == 0 ? FUSEWIRE_TRANSPORT_RING
                                                   : FUSEWIRE_TRANSPORT_POLL;
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        if (strcmp(scenarios[i].name, argv[2]) != 0)
            continue;
        char folder[] = "/tmp/fusewire-ffi-XXXXXX";
        if (!mkdtemp(folder)) {
            perror(folder);
            return 1;
        }
        call_load(argv[1]);
        int status = run(scenarios[i].run, folder);
        detach(folder);
        if (rmdir(folder) < 0) {
            perror(folder);
            return 1;
        }
        return status;
    }
    fprintf(stderr, "no scenario %s\n", argv[2]);
    return 2;
}
