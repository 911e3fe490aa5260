/* Decodes arbitrary messages. Whatever the record hands out has to lie inside the message, in full.
 *
 * The input: capabilities (8 bytes), minor (4), steering (4), then the message. Steering bit 0: the header's length is
 * put right, so that it does not stand in the way of the rest. */
#undef NDEBUG
#include "wire/wire.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct prefix {
    uint64_t capabilities;
    uint32_t minor;
    uint32_t steering;
};

static volatile unsigned sink;

/* Reads each byte, which makes the sanitizer look at each. */
static void touch(const fusewire_request *request, const void *data, uint64_t size)
{
    const char *message = request->message;
    assert((const char *)data >= message && (const char *)data <= message + request->message_size);
    assert(size <= (uint64_t)(message + request->message_size - (const char *)data));
    for (uint64_t i = 0; i < size; i++)
        sink += ((const unsigned char *)data)[i];
}

static void touch_name(const fusewire_request *request, const char *name, uint32_t size)
{
    if (!name)
        return;
    touch(request, name, size + UINT64_C(1));
    assert(size > 0 && strlen(name) == size);
}

static void touch_contexts(const fusewire_request *request)
{
    const char *name;
    const void *value;
    size_t value_size;
    for (uint32_t i = 0; i < request->security_context_count; i++) {
        assert(wire_security_context(request, i, &name, &value, &value_size) == 0);
        touch(request, name, strlen(name) + 1);
        touch(request, value, value_size);
    }
    assert(wire_security_context(request, request->security_context_count, &name, &value, &value_size) == -ERANGE);
    if (request->security_context)
        touch(request, request->security_context, request->security_context_size);
}

static void touch_all(const fusewire_request *request)
{
    touch_name(request, request->name, request->name_size);
    touch_name(request, request->newname, request->newname_size);
    if (request->data)
        touch(request, request->data, request->data_size);
    else
        assert(request->data_size == 0);
    if (request->opcode == FUSEWIRE_BATCH_FORGET)
        assert(request->data_size == request->count * sizeof(fusewire_forget));
    if (request->opcode == FUSEWIRE_REMOVEMAPPING)
        assert(request->data_size == request->count * sizeof(fusewire_mapping));
    if (request->supp_groups)
        touch(request, request->supp_groups, request->supp_group_count * sizeof(uint32_t));
    touch_contexts(request);
}

static void try_init(const void *message, size_t size)
{
    const struct wire_wishes wishes = {.capabilities = UINT64_MAX, .max_write = 1 << 20, .max_background = 100};
    fusewire_session session;
    _Alignas(8) unsigned char reply[WIRE_HEAD_MAX];
    size_t reply_size = 0;
    int result = wire_init(message, size, &wishes, &session, reply, &reply_size);
    assert(result == 0 || result == 1 || result == -EPROTO || result == -EBADMSG);
    if (result == 0) {
        struct wire_dialect dialect;
        assert((session.capabilities & ~session.offered) == 0);
        assert(wire_init_dialect(reply, reply_size, &dialect) == 0);
        assert(dialect.minor == session.minor);
    }
    assert(reply_size <= sizeof reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    struct prefix prefix;
    if (input_size < sizeof prefix)
        return 0;
    memcpy(&prefix, input, sizeof prefix);
    size_t size = input_size - sizeof prefix;
    char *message = malloc(size ? size : 1);
    assert(message);
    memcpy(message, input + sizeof prefix, size);
    uint32_t len = (uint32_t)size;
    if ((prefix.steering & 1) && size >= sizeof len)
        memcpy(message, &len, sizeof len);

    const struct wire_dialect dialect = {.minor = prefix.minor, .capabilities = prefix.capabilities};
    fusewire_request request;
    memset(&request, 0xa5, sizeof request);
    int result = wire_decode(message, size, &dialect, &request);
    assert(result == 0 || result == -EBADMSG);
    assert(request.message == message && request.message_size == size);
    if (result == 0) {
        struct wire_expected expected;
        touch_all(&request);
        wire_expect(&request, &expected);
        assert(expected.unique == request.unique && expected.kind <= WIRE_REPLY_UNKNOWN);
    }
    try_init(message, size);
    free(message);
    return 0;
}
