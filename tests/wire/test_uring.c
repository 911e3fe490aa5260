/* Messages in the ring entries of FUSE-over-io_uring: sizes, the way together and apart, commands. */
#include "reply.h"

#include <errno.h>

/* Where the kernel has what; the tests state it on their own. */
enum { OP_IN = 128, COMMIT_ID = 264, PAYLOAD_SIZE = 272, HEADER_END = 288, FIXED_MAX = 128, CAPACITY = 4096 };

/* An entry's header that ends where its memory does. Bytes that nobody sets count up. */
static unsigned char *new_header(uint32_t len, uint32_t payload_size)
{
    static const uint64_t unique = 10, commit_id = 0x123456789abcdef0;
    unsigned char *header = malloc(HEADER_END);
    CHECK(header);
    for (size_t i = 0; i < HEADER_END; i++)
        header[i] = (unsigned char)i;
    memcpy(header, &len, sizeof len);
    memcpy(header + 8, &unique, sizeof unique);
    memcpy(header + COMMIT_ID, &commit_id, sizeof commit_id);
    memcpy(header + PAYLOAD_SIZE, &payload_size, sizeof payload_size);
    return header;
}

static int read_sizes(uint32_t len, uint32_t payload_size, size_t capacity, struct wire_uring_request *request)
{
    unsigned char *header = new_header(len, payload_size);
    memset(request, 0xa5, sizeof *request);
    int result = wire_uring_request(header, capacity, request);
    CHECK_EQ(request->commit_id, 0x123456789abcdef0);
    CHECK_EQ(wire_uring_unique(header), 10);
    free(header);
    return result;
}

static void check_sizes(uint32_t fixed, uint32_t payload_size, size_t capacity)
{
    struct wire_uring_request request;
    CHECK_EQ(read_sizes(WIRE_IN_HEADER + fixed + payload_size, payload_size, capacity, &request), 0);
    CHECK_EQ(request.prefix_size, WIRE_IN_HEADER + fixed);
    CHECK_EQ(request.payload_size, payload_size);
}

static void check_refused(uint32_t len, uint32_t payload_size, size_t capacity)
{
    struct wire_uring_request request;
    CHECK_EQ(read_sizes(len, payload_size, capacity, &request), -EBADMSG);
    CHECK_EQ(request.prefix_size, 0);
    CHECK_EQ(request.payload_size, 0);
}

static void test_sizes(void)
{
    CHECK_EQ(WIRE_URING_HEADER, HEADER_END);
    CHECK_EQ(WIRE_URING_PREFIX_MAX, WIRE_IN_HEADER + FIXED_MAX);
    for (uint32_t fixed = 0; fixed <= FIXED_MAX; fixed += 8) {
        check_sizes(fixed, 0, CAPACITY);
        check_sizes(fixed, 5, CAPACITY);
        check_sizes(fixed, CAPACITY, CAPACITY);
    }
    check_sizes(0, 0, 0);
    check_sizes(FIXED_MAX, UINT32_MAX - WIRE_IN_HEADER - FIXED_MAX, UINT32_MAX);
}

static void test_sizes_that_contradict_each_other(void)
{
    /* longer than header, fixed part and payload can be */
    check_refused(WIRE_IN_HEADER + FIXED_MAX + 1, 0, CAPACITY);
    check_refused(WIRE_IN_HEADER + FIXED_MAX + 1 + 100, 100, CAPACITY);
    check_refused(UINT32_MAX, 0, CAPACITY);
    check_refused(UINT32_MAX, CAPACITY, CAPACITY);
    /* shorter than the header, or than header and payload */
    for (uint32_t len = 0; len < WIRE_IN_HEADER; len++)
        check_refused(len, 0, CAPACITY);
    check_refused(0, 100, CAPACITY);
    check_refused(WIRE_IN_HEADER, 1, CAPACITY);
    check_refused(WIRE_IN_HEADER + 99, 100, CAPACITY);
    /* a payload beyond the entry's, also where len agrees, and where the sum does not fit in 32 bits */
    check_refused(WIRE_IN_HEADER + CAPACITY + 1, CAPACITY + 1, CAPACITY);
    check_refused(WIRE_IN_HEADER + 1, 1, 0);
    check_refused(WIRE_IN_HEADER - 1, UINT32_MAX, CAPACITY);
    check_refused(WIRE_IN_HEADER - 1, UINT32_MAX, SIZE_MAX);
    check_refused(UINT32_MAX, UINT32_MAX, SIZE_MAX);
}

/* The prefix is the request's header and what the fixed part has; a byte more is neither read nor written. */
static void test_prefix(void)
{
    for (uint32_t fixed = 0; fixed <= FIXED_MAX; fixed++) {
        const size_t size = WIRE_IN_HEADER + fixed;
        unsigned char *header = new_header((uint32_t)size + 100, 100);
        unsigned char *prefix = malloc(size);
        struct wire_uring_request request;
        CHECK(prefix);
        CHECK_EQ(wire_uring_request(header, CAPACITY, &request), 0);
        wire_uring_prefix(header, &request, prefix);
        CHECK(memcmp(prefix, header, WIRE_IN_HEADER) == 0);
        CHECK(memcmp(prefix + WIRE_IN_HEADER, header + OP_IN, fixed) == 0);
        free(prefix);
        free(header);
    }
}

/* Of a refused one nothing is left to be copied; its header still can. */
static void test_prefix_of_a_refused_request(void)
{
    unsigned char *header = new_header(0, 100);
    struct wire_uring_request request;
    unsigned char prefix[WIRE_IN_HEADER + 1] = {0};
    CHECK_EQ(wire_uring_request(header, CAPACITY, &request), -EBADMSG);
    wire_uring_prefix(header, &request, prefix);
    check_zeros(prefix, 0, sizeof prefix);
    request.prefix_size = WIRE_IN_HEADER;
    wire_uring_prefix(header, &request, prefix);
    CHECK(memcmp(prefix, header, WIRE_IN_HEADER) == 0);
    CHECK_EQ(prefix[WIRE_IN_HEADER], 0);
    free(header);
}

/* What comes in an entry decodes to the same as what comes over /dev/fuse. */
static void test_whole_message(void)
{
    static const char data[] = "four";
    const uint32_t fixed = WIRE_WRITE_PREFIX - WIRE_IN_HEADER, size = 4, opcode = FUSEWIRE_WRITE;
    const uint64_t fh = 20, offset = 21;
    unsigned char *header = new_header(WIRE_WRITE_PREFIX + size, size);
    const struct wire_dialect newest = {.minor = 45};
    struct wire_uring_request parts;
    fusewire_request request;
    memset(header + 24, 0, OP_IN - 24);
    memset(header + OP_IN, 0, FIXED_MAX);
    memcpy(header + 4, &opcode, sizeof opcode);
    memcpy(header + OP_IN, &fh, sizeof fh);
    memcpy(header + OP_IN + 8, &offset, sizeof offset);
    memcpy(header + OP_IN + 16, &size, sizeof size);
    CHECK_EQ(wire_uring_request(header, CAPACITY, &parts), 0);
    CHECK_EQ(parts.prefix_size, WIRE_IN_HEADER + fixed);
    unsigned char *message = malloc(parts.prefix_size + parts.payload_size);
    CHECK(message);
    wire_uring_prefix(header, &parts, message);
    memcpy(message + parts.prefix_size, data, parts.payload_size);
    CHECK_EQ(wire_decode(message, parts.prefix_size + parts.payload_size, &newest, &request), 0);
    CHECK_EQ(request.opcode, FUSEWIRE_WRITE);
    CHECK_EQ(request.unique, 10);
    CHECK_EQ(request.fh, 20);
    CHECK_EQ(request.offset, 21);
    CHECK_EQ(request.data_size, 4);
    CHECK(memcmp(request.data, data, 4) == 0);
    free(message);
    free(header);
}

/* The reply's header and the payload's size, and not a byte beside them. */
static void check_reply(size_t body_size)
{
    struct head head;
    unsigned char *header = new_header(WIRE_IN_HEADER, 0), *before = new_header(WIRE_IN_HEADER, 0);
    wire_reply_data(dirty(&head), 10, body_size);
    wire_uring_reply(header, &head, body_size);
    check_header(header, WIRE_OUT_HEADER + body_size, 0, 10);
    CHECK_EQ(u32_at(header, PAYLOAD_SIZE), body_size);
    CHECK(memcmp(header + WIRE_OUT_HEADER, before + WIRE_OUT_HEADER, PAYLOAD_SIZE - WIRE_OUT_HEADER) == 0);
    CHECK(memcmp(header + PAYLOAD_SIZE + 4, before + PAYLOAD_SIZE + 4, HEADER_END - PAYLOAD_SIZE - 4) == 0);
    free(header);
    free(before);
}

static void test_reply(void)
{
    check_reply(0);
    check_reply(1);
    check_reply(1 << 20);

    struct head head;
    unsigned char *header = new_header(WIRE_IN_HEADER + 100, 100);
    wire_reply_error(dirty(&head), 10, -5);
    wire_uring_reply(header, &head, 0);
    check_header(header, WIRE_OUT_HEADER, -5, 10);
    CHECK_EQ(u32_at(header, PAYLOAD_SIZE), 0);
    free(header);
}

static void check_command(uint16_t queue, uint64_t commit_id)
{
    unsigned char *command = malloc(WIRE_URING_COMMAND);
    CHECK(command);
    memset(command, 0xa5, WIRE_URING_COMMAND);
    CHECK_EQ(wire_uring_command(command, queue, commit_id), 24);
    CHECK_EQ(u64_at(command, 0), 0); /* flags */
    CHECK_EQ(u64_at(command, 8), commit_id);
    CHECK_EQ(u16_at(command, 16), queue);
    check_zeros(command, 18, 24);
    free(command);
}

static void test_command(void)
{
    CHECK_EQ(WIRE_URING_COMMAND, 24);
    CHECK_EQ(WIRE_URING_REGISTER, 1);
    CHECK_EQ(WIRE_URING_COMMIT_AND_FETCH, 2);
    check_command(0, 0);
    check_command(7, 12);
    check_command(UINT16_MAX, UINT64_MAX);
}

/* Each number comes back. On its way it is even, as the kernel expects of a request's, and larger than any of those. */
static void test_retrieve_numbers(void)
{
    static const uint64_t numbers[] = {
        0, 1, 2, 3, 12, UINT32_MAX, (UINT64_C(1) << 59) + 1, (UINT64_C(1) << WIRE_URING_RETRIEVE_BITS) - 1};
    const size_t count = sizeof numbers / sizeof numbers[0];
    CHECK_EQ(WIRE_URING_RETRIEVE_BITS, 60);
    for (size_t i = 0; i < count; i++) {
        const uint64_t travels = wire_uring_retrieve(numbers[i]);
        CHECK_EQ(wire_uring_retrieved(travels), numbers[i]);
        CHECK(travels >> 62 == 1);
        CHECK_EQ(travels & 1, 0);
        CHECK_EQ(travels & WIRE_UNIQUE_RESEND, 0);
        for (size_t k = 0; k < i; k++)
            CHECK(wire_uring_retrieve(numbers[k]) != travels);
    }
}

static void test_agreed(void)
{
    CHECK(!wire_over_io_uring(0));
    CHECK(!wire_over_io_uring(~(UINT64_C(1) << 41)));
    CHECK(wire_over_io_uring(UINT64_C(1) << 41));
    CHECK(wire_over_io_uring(UINT64_MAX));
}

int main(void)
{
    test_sizes();
    test_sizes_that_contradict_each_other();
    test_prefix();
    test_prefix_of_a_refused_request();
    test_whole_message();
    test_reply();
    test_command();
    test_retrieve_numbers();
    test_agreed();
    return 0;
}
