/* INIT: what is agreed upon, and how the reply says it. */
#include "message.h"
#include "reply.h"

#include <errno.h>
#include <unistd.h>

/* What Linux 6.18 offers: all up to REQUEST_TIMEOUT, bit 31 aside. */
#define EVERYTHING ((UINT64_C(1) << 43) - 1 - (UINT64_C(1) << 31))

static const struct wire_wishes plain = {.max_write = 1 << 20};
static struct message message;
static struct head reply;
static size_t reply_size;
static fusewire_session session;

static void make_init(uint32_t major, uint32_t minor, uint64_t offered, size_t body_size)
{
    const uint32_t fields[] = {major, minor, 131072, (uint32_t)offered, (uint32_t)(offered >> 32)};
    message_start(&message, FUSEWIRE_INIT);
    for (size_t i = 0; i < 16; i++)
        message_add_u32(&message, i < 5 ? fields[i] : 0);
    message.size = WIRE_IN_HEADER + body_size;
}

static int init(const struct wire_wishes *wishes)
{
    message_set_u32(&message, 0, (uint32_t)message.size);
    free(message.exact);
    message.exact = malloc(message.size);
    CHECK(message.exact);
    memcpy(message.exact, message.bytes, message.size);
    memset(&session, 0xa5, sizeof session);
    return wire_init(message.exact, message.size, wishes, &session, dirty(&reply), &reply_size);
}

/* Agrees with a kernel of today that offers `offered`. */
static void agree(uint64_t offered, const struct wire_wishes *wishes)
{
    make_init(7, 45, offered, 64);
    CHECK_EQ(init(wishes), 0);
    CHECK_EQ(reply_size, 80);
    check_header(&reply, 80, 0, 10);
    CHECK_EQ(u32_at(&reply, 16), 7);
    CHECK_EQ(u32_at(&reply, 20), 45);
    CHECK_EQ(session.size, sizeof session);
    CHECK_EQ(session.offered, offered);
    CHECK_EQ(session.capabilities & ~offered, 0);
    CHECK_EQ(u32_at(&reply, 28), (uint32_t)session.capabilities);
    CHECK_EQ(u32_at(&reply, 48), session.capabilities >> 32);
    CHECK_EQ(u16_at(&reply, 46), 0); /* map_alignment */
    check_zeros(&reply, 58, 80);

    /* Whoever reads the reply comes to the same dialect. */
    struct wire_dialect dialect = {0};
    CHECK_EQ(wire_init_dialect(&reply, reply_size, &dialect), 0);
    CHECK_EQ(dialect.minor, session.minor);
    CHECK_EQ(dialect.capabilities, session.capabilities);
}

static void test_defaults(void)
{
    agree(EVERYTHING, &plain);
    CHECK_EQ(session.capabilities, wire_default_capabilities);
    CHECK_EQ(session.major, 7);
    CHECK_EQ(session.minor, 45);
    CHECK_EQ(session.max_readahead, 131072);
    CHECK_EQ(u32_at(&reply, 24), 131072);
    CHECK_EQ(session.max_write, 1 << 20);
    CHECK_EQ(u32_at(&reply, 36), 1 << 20);
    CHECK_EQ(session.max_pages, (1 << 20) / sysconf(_SC_PAGESIZE));
    CHECK_EQ(u16_at(&reply, 44), session.max_pages);
    CHECK_EQ(session.max_background, 12);
    CHECK_EQ(session.congestion_threshold, 9);
    CHECK_EQ(u32_at(&reply, 32), 0); /* both left to the kernel */
    CHECK_EQ(session.time_gran, 1);
    CHECK_EQ(u32_at(&reply, 40), 1);
    CHECK_EQ(session.max_stack_depth, 0);
    CHECK_EQ(session.request_timeout, 0);

    /* Nothing that a filesystem would have to know of. */
    const uint64_t opt_in = FUSEWIRE_CAP(POSIX_LOCKS) | FUSEWIRE_CAP(ATOMIC_O_TRUNC) | FUSEWIRE_CAP(EXPORT_SUPPORT) |
                            FUSEWIRE_CAP(DONT_MASK) | FUSEWIRE_CAP(FLOCK_LOCKS) | FUSEWIRE_CAP(DO_READDIRPLUS) |
                            FUSEWIRE_CAP(WRITEBACK_CACHE) | FUSEWIRE_CAP(HANDLE_KILLPRIV) | FUSEWIRE_CAP(POSIX_ACL) |
                            FUSEWIRE_CAP(CACHE_SYMLINKS) | FUSEWIRE_CAP(EXPLICIT_INVAL_DATA) |
                            FUSEWIRE_CAP(HANDLE_KILLPRIV_V2) | FUSEWIRE_CAP(SECURITY_CTX) | FUSEWIRE_CAP(PASSTHROUGH) |
                            FUSEWIRE_CAP(ALLOW_IDMAP) | FUSEWIRE_CAP(OVER_IO_URING) | FUSEWIRE_CAP(REQUEST_TIMEOUT);
    CHECK_EQ(wire_default_capabilities & opt_in, 0);
}

static void test_choice(void)
{
    struct wire_wishes wishes = plain;
    wishes.capabilities = FUSEWIRE_CAP(WRITEBACK_CACHE) | FUSEWIRE_CAP(CREATE_SUPP_GROUP);
    wishes.without_capabilities = FUSEWIRE_CAP(ASYNC_READ) | FUSEWIRE_CAP(BIG_WRITES);
    agree(EVERYTHING, &wishes);
    CHECK_EQ(session.capabilities,
             (wire_default_capabilities | wishes.capabilities) & ~FUSEWIRE_CAP(ASYNC_READ)); /* BIG_WRITES stays */

    agree(FUSEWIRE_CAP(ASYNC_READ) | FUSEWIRE_CAP(INIT_EXT), &wishes);
    CHECK_EQ(session.capabilities, FUSEWIRE_CAP(INIT_EXT));

    /* Without INIT_EXT nothing beyond bit 31 can be said. */
    wishes.without_capabilities = FUSEWIRE_CAP(INIT_EXT);
    agree(EVERYTHING, &wishes);
    CHECK_EQ(session.capabilities >> 30, 0);
}

static void test_max_write(void)
{
    const uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);
    struct wire_wishes wishes = plain;
    agree(EVERYTHING & ~FUSEWIRE_CAP(MAX_PAGES), &wishes);
    CHECK_EQ(session.max_pages, 32);
    CHECK_EQ(session.max_write, 32 * page < 1 << 20 ? 32 * page : 1 << 20);
    CHECK_EQ(u32_at(&reply, 36), session.max_write);
    CHECK_EQ(u16_at(&reply, 44), 0);

    wishes.max_write = page + 1;
    agree(EVERYTHING, &wishes);
    CHECK_EQ(session.max_write, page + 1);
    CHECK_EQ(session.max_pages, 2);
    wishes.max_write = 4096;
    agree(EVERYTHING, &wishes);
    CHECK_EQ(session.max_pages, 1);
}

static void test_background(void)
{
    struct wire_wishes wishes = plain;
    wishes.max_background = 64;
    agree(EVERYTHING, &wishes);
    CHECK_EQ(session.max_background, 64);
    CHECK_EQ(session.congestion_threshold, 48);
    CHECK_EQ(u16_at(&reply, 32), 64);
    CHECK_EQ(u16_at(&reply, 34), 48);

    wishes.congestion_threshold = 10;
    agree(EVERYTHING, &wishes);
    CHECK_EQ(u16_at(&reply, 34), 10);

    wishes = (struct wire_wishes){.max_write = 4096, .max_background = 1 << 20};
    agree(EVERYTHING, &wishes);
    CHECK_EQ(session.max_background, UINT16_MAX);
    CHECK_EQ(session.congestion_threshold, 49151);
    wishes.max_background = 1;
    agree(EVERYTHING, &wishes);
    CHECK_EQ(session.congestion_threshold, 1);
}

static void test_other_wishes(void)
{
    struct wire_wishes wishes = plain;
    wishes.max_readahead = 4096;
    wishes.time_gran = 1000;
    agree(EVERYTHING, &wishes);
    CHECK_EQ(session.max_readahead, 4096);
    CHECK_EQ(u32_at(&reply, 24), 4096);
    CHECK_EQ(u32_at(&reply, 40), 1000);
    wishes.max_readahead = 1 << 30;
    agree(EVERYTHING, &wishes);
    CHECK_EQ(session.max_readahead, 131072);

    wishes = plain;
    wishes.capabilities = FUSEWIRE_CAP(PASSTHROUGH);
    agree(EVERYTHING, &wishes);
    CHECK_EQ(u32_at(&reply, 52), 1);
    wishes.max_stack_depth = 2;
    agree(EVERYTHING, &wishes);
    CHECK_EQ(u32_at(&reply, 52), 2);
    CHECK_EQ(session.max_stack_depth, 2);
    agree(EVERYTHING & ~FUSEWIRE_CAP(PASSTHROUGH), &wishes);
    CHECK_EQ(u32_at(&reply, 52), 0);
    wishes.capabilities |= FUSEWIRE_CAP(WRITEBACK_CACHE); /* with which the kernel does no passthrough */
    agree(EVERYTHING, &wishes);
    CHECK_EQ(session.capabilities & FUSEWIRE_CAP(PASSTHROUGH), 0);
    CHECK_EQ(u32_at(&reply, 52), 0);

    wishes = plain;
    wishes.request_timeout = 30;
    agree(EVERYTHING, &wishes);
    CHECK(session.capabilities & FUSEWIRE_CAP(REQUEST_TIMEOUT));
    CHECK_EQ(u16_at(&reply, 56), 30);
    wishes.request_timeout = 1 << 20;
    agree(EVERYTHING, &wishes);
    CHECK_EQ(session.request_timeout, UINT16_MAX);
    agree(EVERYTHING & ~FUSEWIRE_CAP(REQUEST_TIMEOUT), &wishes);
    CHECK_EQ(session.request_timeout, 0);
    CHECK_EQ(u16_at(&reply, 56), 0);
}

static void test_old_kernels(void)
{
    /* 7.35 and older send 16 bytes, and know no flags2 */
    make_init(7, 31, EVERYTHING & UINT32_MAX & ~FUSEWIRE_CAP(INIT_EXT), 16);
    CHECK_EQ(init(&plain), 0);
    CHECK_EQ(session.minor, 31);
    CHECK_EQ(session.capabilities >> 30, 0);
    CHECK_EQ(reply_size, 80);
    CHECK_EQ(u32_at(&reply, 20), 31);

    /* flags2 that is not announced does not count */
    make_init(7, 31, EVERYTHING & ~FUSEWIRE_CAP(INIT_EXT), 64);
    CHECK_EQ(init(&plain), 0);
    CHECK_EQ(session.offered >> 32, 0);

    struct wire_wishes wishes = plain;
    wishes.time_gran = 1000; /* there is no room for it */
    make_init(7, 22, FUSEWIRE_CAP(ASYNC_READ) | FUSEWIRE_CAP(BIG_WRITES), 16);
    CHECK_EQ(init(&wishes), 0);
    CHECK_EQ(reply_size, 40);
    check_header(&reply, 40, 0, 10);
    CHECK_EQ(session.time_gran, 1);
    CHECK_EQ(u32_at(&reply, 36), session.max_write);
    CHECK_EQ(reply.bytes[40], 0xa5);

    make_init(7, 23, FUSEWIRE_CAP(ASYNC_READ), 16);
    CHECK_EQ(init(&wishes), 0);
    CHECK_EQ(reply_size, 80);
    CHECK_EQ(session.time_gran, 1000);

    make_init(7, 12, 0, 16);
    CHECK_EQ(init(&plain), 0);
    make_init(7, 11, 0, 16);
    CHECK_EQ(init(&plain), -EPROTO);
    CHECK_EQ(reply_size, 16);
    check_header(&reply, 16, -EPROTO, 10);
    make_init(6, 45, 0, 16);
    CHECK_EQ(init(&plain), -EPROTO);
}

static void test_new_kernels(void)
{
    make_init(7, 99, EVERYTHING | UINT64_C(0xffff) << 48, 64);
    CHECK_EQ(init(&plain), 0);
    CHECK_EQ(session.minor, 45);
    CHECK_EQ(session.capabilities, wire_default_capabilities);

    make_init(8, 0, 0, 8);
    CHECK_EQ(init(&plain), 1);
    CHECK_EQ(reply_size, 24);
    check_header(&reply, 24, 0, 10);
    CHECK_EQ(u32_at(&reply, 16), 7);
    CHECK_EQ(u32_at(&reply, 20), 45);
}

static void test_no_init(void)
{
    make_init(7, 45, 0, 15);
    CHECK_EQ(init(&plain), -EBADMSG);
    make_init(7, 45, 0, 7);
    CHECK_EQ(init(&plain), -EBADMSG);
    message.size = WIRE_IN_HEADER - 1;
    CHECK_EQ(init(&plain), -EBADMSG);
    make_init(7, 45, 0, 64);
    message_set_u32(&message, 4, FUSEWIRE_STATFS);
    CHECK_EQ(init(&plain), -EBADMSG);
    make_init(7, 45, 0, 64);
    CHECK_EQ(init(&plain), 0);
    message_set_u32(&message, 0, 103);
    CHECK_EQ(wire_init(memcpy(message.exact, message.bytes, 104), 104, &plain, &session, &reply, &reply_size),
             -EBADMSG);
}

static void test_foreign_reply(void)
{
    struct wire_dialect dialect;
    make_init(7, 45, EVERYTHING, 64);
    CHECK_EQ(init(&plain), 0);
    unsigned char unaligned[81];
    memcpy(unaligned + 1, &reply, 80);
    CHECK_EQ(wire_init_dialect(unaligned + 1, 80, &dialect), 0);
    CHECK_EQ(dialect.capabilities, wire_default_capabilities);
    CHECK_EQ(wire_init_dialect(&reply, 40, &dialect), 0); /* the old form has no flags2 */
    CHECK_EQ(dialect.minor, 45);
    CHECK_EQ(dialect.capabilities, wire_default_capabilities & UINT32_MAX);
    CHECK_EQ(wire_init_dialect(&reply, 39, &dialect), -EBADMSG);
    reply.bytes[16] = 8;
    CHECK_EQ(wire_init_dialect(&reply, 80, &dialect), -EBADMSG);
    wire_reply_error(&reply, 10, -EPROTO);
    CHECK_EQ(wire_init_dialect(&reply, 16, &dialect), -EBADMSG);
}

int main(void)
{
    test_defaults();
    test_choice();
    test_max_write();
    test_background();
    test_other_wishes();
    test_old_kernels();
    test_new_kernels();
    test_no_init();
    test_foreign_reply();
    free(message.exact);
    return 0;
}
