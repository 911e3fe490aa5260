/* Takes apart arbitrary ring entries of FUSE-over-io_uring, and decodes the message that they make. Each piece of
 * memory ends where the kernel's would.
 *
 * The input: capabilities (8 bytes), minor (4), steering (4), then the header of the entry (288), then its payload,
 * which is as large as what is left. Steering bit 0: the length of the message is put right for the payload's size that
 * the header gives, with a fixed part of the size that the steering's second byte has. */
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

enum { PAYLOAD_SIZE = 272 };

static volatile unsigned sink;

static void *copy(const void *bytes, size_t size)
{
    void *memory = malloc(size ? size : 1);
    assert(memory);
    memcpy(memory, bytes, size);
    return memory;
}

static void put_right(unsigned char *header, uint32_t steering)
{
    uint32_t payload_size;
    memcpy(&payload_size, header + PAYLOAD_SIZE, sizeof payload_size);
    const uint32_t len = WIRE_IN_HEADER + (steering >> 8 & 0xff) + payload_size;
    memcpy(header, &len, sizeof len);
}

static void decode(const unsigned char *message, size_t size, const struct wire_dialect *dialect)
{
    fusewire_request request;
    memset(&request, 0xa5, sizeof request);
    int result = wire_decode(message, size, dialect, &request);
    assert(result == 0 || result == -EBADMSG);
    assert(request.message == message && request.message_size == size);
    if (result != 0 || !request.data)
        return;
    const unsigned char *data = request.data;
    assert(data >= message && data <= message + size && request.data_size <= (size_t)(message + size - data));
    for (size_t i = 0; i < request.data_size; i++)
        sink += data[i];
}

/* An answer and a command leave everything else in the header as it was. */
static void answer(unsigned char *header, const struct wire_uring_request *request, size_t payload_size)
{
    _Alignas(8) unsigned char head[WIRE_HEAD_MAX];
    unsigned char *before = copy(header, WIRE_URING_HEADER);
    unsigned char *command = malloc(WIRE_URING_COMMAND);
    assert(command);
    wire_reply_data(head, wire_uring_unique(header), payload_size);
    wire_uring_reply(header, head, payload_size);
    assert(wire_uring_unique(header) == wire_uring_unique(before));
    assert(memcmp(header + WIRE_OUT_HEADER, before + WIRE_OUT_HEADER, PAYLOAD_SIZE - WIRE_OUT_HEADER) == 0);
    assert(wire_uring_command(command, 1, request->commit_id) == WIRE_URING_COMMAND);
    assert(memcmp(command + 8, &request->commit_id, sizeof request->commit_id) == 0);
    free(command);
    free(before);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_size)
{
    struct prefix prefix;
    struct wire_uring_request request;
    if (input_size < sizeof prefix + WIRE_URING_HEADER)
        return 0;
    memcpy(&prefix, input, sizeof prefix);
    const size_t capacity = input_size - sizeof prefix - WIRE_URING_HEADER;
    unsigned char *header = copy(input + sizeof prefix, WIRE_URING_HEADER);
    unsigned char *payload = copy(input + sizeof prefix + WIRE_URING_HEADER, capacity);
    if (prefix.steering & 1)
        put_right(header, prefix.steering);

    int result = wire_uring_request(header, capacity, &request);
    assert(result == 0 || result == -EBADMSG);
    if (result == 0) {
        assert(request.prefix_size >= WIRE_IN_HEADER && request.prefix_size <= WIRE_URING_PREFIX_MAX);
        assert(request.payload_size <= capacity);
    } else {
        assert(request.prefix_size == 0 && request.payload_size == 0);
    }
    const size_t size = request.prefix_size + request.payload_size;
    unsigned char *message = malloc(size ? size : 1);
    assert(message);
    wire_uring_prefix(header, &request, message);
    memcpy(message + request.prefix_size, payload, request.payload_size);
    const struct wire_dialect dialect = {.minor = prefix.minor, .capabilities = prefix.capabilities};
    decode(message, size, &dialect);
    answer(header, &request, capacity);
    free(message);
    free(payload);
    free(header);
    return 0;
}
