/* Checks arbitrary replies and notifications. What passes has to be what the kernel asks of a message.
 *
 * The input: what is expected (unique 8, limit 8, kind 4, op_flags 4), the dialect's minor (4), the bytes of body
 * behind the head (4), steering (4), unused (4), then the head, which is checked at an odd address. Steering bit 0: the
 * header's length is put right; bit 1: its unique; bit 2: an ioctl's data is expected whole. */
#undef NDEBUG
#include "wire/wire.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct prefix {
    uint64_t unique;
    uint64_t limit;
    uint32_t kind;
    uint32_t op_flags;
    uint32_t minor;
    uint32_t behind;
    uint32_t steering;
    uint32_t unused;
};

static uint32_t u32_at(const void *message, size_t offset)
{
    uint32_t value;
    memcpy(&value, (const char *)message + offset, sizeof value);
    return value;
}

static uint64_t u64_at(const void *message, size_t offset)
{
    uint64_t value;
    memcpy(&value, (const char *)message + offset, sizeof value);
    return value;
}

/* The body's size in the kernel's structures; SIZE_MAX where it varies. */
static size_t body_of(enum wire_reply_kind kind)
{
    static const size_t sizes[] = {
        [WIRE_REPLY_NEVER] = SIZE_MAX, [WIRE_REPLY_EMPTY] = 0,    [WIRE_REPLY_ENTRY] = 128,
        [WIRE_REPLY_ATTR] = 104,       [WIRE_REPLY_OPEN] = 16,    [WIRE_REPLY_CREATE] = 144,
        [WIRE_REPLY_DATA] = SIZE_MAX,  [WIRE_REPLY_WRITE] = 8,    [WIRE_REPLY_COPIED] = 8,
        [WIRE_REPLY_XATTR_SIZE] = 8,   [WIRE_REPLY_STATFS] = 80,  [WIRE_REPLY_LOCK] = 24,
        [WIRE_REPLY_BMAP] = 8,         [WIRE_REPLY_IOCTL] = SIZE_MAX, [WIRE_REPLY_POLL] = 8,
        [WIRE_REPLY_LSEEK] = 8,        [WIRE_REPLY_STATX] = 288,  [WIRE_REPLY_INIT] = SIZE_MAX,
        [WIRE_REPLY_UNKNOWN] = SIZE_MAX,
    };
    return sizes[kind];
}

static void check_ioctl(const struct wire_expected *expected, const char *head, size_t head_size, size_t body)
{
    assert(body >= 16);
    assert(!expected->whole || body - 16 >= expected->limit);
    if (head_size < 32) {
        assert(body - 16 <= expected->limit || body - 16 <= 4096);
        return;
    }
    uint32_t in_count = u32_at(head, 24);
    uint32_t out_count = u32_at(head, 28);
    if (!(u32_at(head, 20) & FUSEWIRE_IOCTL_RETRY)) {
        assert(body - 16 <= expected->limit);
        return;
    }
    assert(expected->op_flags & FUSEWIRE_IOCTL_UNRESTRICTED);
    assert(in_count <= 256 && out_count <= 256 && in_count + out_count <= 256);
    assert(body - 16 == (in_count + out_count) * (size_t)16);
}

static void check_accepted_reply(const struct wire_expected *expected, const char *head, size_t head_size, size_t total)
{
    int32_t error = (int32_t)u32_at(head, 4);
    assert(expected->kind != WIRE_REPLY_NEVER);
    assert(u32_at(head, 0) == total);
    assert(u64_at(head, 8) == expected->unique);
    assert(error > -512 && error <= 0);
    size_t body = total - 16;
    if (error != 0) {
        assert(body == 0);
        return;
    }
    if (body_of(expected->kind) != SIZE_MAX)
        assert(body == body_of(expected->kind));
    if (expected->kind == WIRE_REPLY_DATA)
        assert(body <= expected->limit);
    if (expected->kind == WIRE_REPLY_INIT)
        assert(body >= 8 && body <= 64);
    if (expected->kind == WIRE_REPLY_WRITE && head_size >= 24)
        assert(u32_at(head, 16) <= expected->limit);
    if (expected->kind == WIRE_REPLY_COPIED && head_size >= 24)
        assert(u64_at(head, 16) <= expected->limit);
    if (expected->kind == WIRE_REPLY_IOCTL)
        check_ioctl(expected, head, head_size, body);
}

static void check_accepted_notification(const char *head, size_t head_size, size_t total, bool may_block)
{
    static const size_t fixed[] = {0, 8, 24, 16, 24, 32, 24, 0, 0, 16};
    uint32_t code = u32_at(head, 4);
    assert(u32_at(head, 0) == total);
    assert(u64_at(head, 8) == 0);
    assert(code >= 1 && code <= 9);
    assert(may_block == (code != 1 && code != 7 && code != 8));
    assert(total >= 16 + fixed[code]);
    uint64_t rest = total - 16 - fixed[code];
    if (code == 1 || code == 2 || code == 5 || code == 7 || code == 8)
        assert(rest == 0);
    if (head_size < 16 + fixed[code])
        return;
    if (code == 3 || code == 6) {
        uint32_t name_size = u32_at(head, code == 3 ? 24 : 32);
        assert(name_size >= 1 && name_size <= 1024 && rest == name_size + UINT64_C(1));
    }
    if (code == 4)
        assert(rest == u32_at(head, 32));
    if (code == 9)
        assert(rest == u32_at(head, 16) * UINT64_C(8));
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    struct prefix prefix;
    if (input_size < sizeof prefix)
        return 0;
    memcpy(&prefix, input, sizeof prefix);
    size_t head_size = input_size - sizeof prefix;
    size_t total = head_size + prefix.behind;
    uint32_t len = (uint32_t)total;
    char *memory = malloc(head_size + 1);
    assert(memory);
    char *head = memory + 1;
    memcpy(head, input + sizeof prefix, head_size);
    if ((prefix.steering & 1) && head_size >= 16)
        memcpy(head, &len, sizeof len);
    if ((prefix.steering & 2) && head_size >= 16)
        memcpy(head + 8, &prefix.unique, sizeof prefix.unique);

    const struct wire_expected expected = {.unique = prefix.unique,
                                           .limit = prefix.limit,
                                           .kind = prefix.kind % (WIRE_REPLY_UNKNOWN + 1),
                                           .op_flags = prefix.op_flags,
                                           .whole = prefix.steering & 4};
    const struct wire_dialect dialect = {.minor = prefix.minor};
    const char *why = NULL;
    int result = wire_check_reply(&expected, &dialect, head, head_size, total, &why);
    assert(result == 0 || result == -EINVAL || result == -ERANGE || result == -EMSGSIZE);
    assert((result != 0) == (why != NULL));
    if (result == 0)
        check_accepted_reply(&expected, head, head_size, total);

    bool may_block = false;
    result = wire_check_notification(head, head_size, total, &may_block, &why);
    assert(result == 0 || result == -EINVAL);
    if (result == 0)
        check_accepted_notification(head, head_size, total, may_block);

    struct wire_dialect learned;
    result = wire_init_dialect(head, head_size, &learned);
    assert(result == 0 || result == -EBADMSG);
    free(memory);
    return 0;
}
