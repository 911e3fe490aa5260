/* INIT: what the kernel offers, what is wished for, and the session that comes of it. */
#include "protocol.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Each of them is either mere information (NO_OPEN_SUPPORT, NO_OPENDIR_SUPPORT, HAS_EXPIRE_ONLY, HAS_RESEND), or a form
 * of messages that this library handles (BIG_WRITES, MAX_PAGES, INIT_EXT, SETXATTR_EXT, ABORT_ERROR), or lets more
 * requests arrive at once, as they do for different files anyway (ASYNC_READ, ASYNC_DIO, PARALLEL_DIROPS), or makes the
 * kernel ask where it would have guessed (AUTO_INVAL_DATA: drops cached data when the attributes have changed;
 * HAS_IOCTL_DIR: ENOSYS reaches the client as ENOTTY, as without it). All others change what a filesystem has to do or
 * what its clients see; DIRECT_IO_ALLOW_MMAP too: shared mappings cache what FOPEN_DIRECT_IO says not to cache. */
const uint64_t wire_default_capabilities =
    FUSEWIRE_CAP(ASYNC_READ) | FUSEWIRE_CAP(BIG_WRITES) | FUSEWIRE_CAP(HAS_IOCTL_DIR) | FUSEWIRE_CAP(AUTO_INVAL_DATA) |
    FUSEWIRE_CAP(ASYNC_DIO) | FUSEWIRE_CAP(NO_OPEN_SUPPORT) | FUSEWIRE_CAP(PARALLEL_DIROPS) |
    FUSEWIRE_CAP(ABORT_ERROR) | FUSEWIRE_CAP(MAX_PAGES) | FUSEWIRE_CAP(NO_OPENDIR_SUPPORT) |
    FUSEWIRE_CAP(SETXATTR_EXT) | FUSEWIRE_CAP(INIT_EXT) | FUSEWIRE_CAP(HAS_EXPIRE_ONLY) | FUSEWIRE_CAP(HAS_RESEND);

enum {
    DEFAULT_MAX_PAGES = 32,      /* of one request, without MAX_PAGES */
    DEFAULT_MAX_BACKGROUND = 12, /* the kernel's own, where the reply has 0 */
    DEFAULT_CONGESTION_THRESHOLD = 9,
    MAX_STACK_DEPTH = 2 /* with more the kernel turns passthrough off without a word */
};

static bool has(uint64_t capabilities, enum fusewire_capability capability)
{
    return (capabilities >> capability) & 1;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint16_t clamp_16(uint32_t value)
{
    return (uint16_t)smaller(value, UINT16_MAX);
}

static uint64_t choose_capabilities(uint64_t offered, const struct wire_wishes *wishes)
{
    uint64_t wanted = wire_default_capabilities | wishes->capabilities;
    if (wishes->request_timeout)
        wanted |= FUSEWIRE_CAP(REQUEST_TIMEOUT);
    wanted &= ~wishes->without_capabilities;
    uint64_t chosen = offered & (wanted | FUSEWIRE_CAP(BIG_WRITES));
    if (!has(chosen, FUSEWIRE_CAP_INIT_EXT))
        chosen &= UINT32_MAX;
    /* The kernel takes passthrough only without its own cache of writes. */
    if (has(chosen, FUSEWIRE_CAP_WRITEBACK_CACHE))
        chosen &= ~FUSEWIRE_CAP(PASSTHROUGH);
    return chosen;
}

static void choose_sizes(fusewire_session *session, const struct wire_wishes *wishes)
{
    uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);
    session->max_write = wishes->max_write;
    if (has(session->capabilities, FUSEWIRE_CAP_MAX_PAGES)) {
        session->max_pages = clamp_16((session->max_write + page - 1) / page);
        /* The kernel does not check that a request fits into a ring entry's payload, which is at least so many pages.
         */
        const uint32_t least = (WIRE_URING_PAYLOAD_MIN + page - 1) / page;
        if (has(session->capabilities, FUSEWIRE_CAP_OVER_IO_URING) && session->max_pages < least)
            session->max_pages = least;
    } else {
        session->max_pages = DEFAULT_MAX_PAGES;
        session->max_write = smaller(session->max_write, DEFAULT_MAX_PAGES * page);
    }
}

static uint32_t three_quarters(uint32_t count)
{
    uint32_t result = count / 4 * 3 + count % 4 * 3 / 4;
    return result > 0 ? result : 1;
}

static size_t encode(void *reply, uint64_t unique, const fusewire_session *session, uint16_t max_background,
                     uint16_t congestion_threshold)
{
    struct wire_init_out out = {
        .major = session->major,
        .minor = session->minor,
        .max_readahead = session->max_readahead,
        .flags = (uint32_t)session->capabilities,
        .max_background = max_background,
        .congestion_threshold = congestion_threshold,
        .max_write = session->max_write,
        .time_gran = session->time_gran,
        .max_pages = has(session->capabilities, FUSEWIRE_CAP_MAX_PAGES) ? (uint16_t)session->max_pages : 0,
        .flags2 = (uint32_t)(session->capabilities >> 32),
        .max_stack_depth = session->max_stack_depth,
        .request_timeout = (uint16_t)session->request_timeout,
    };
    size_t size = session->minor < WIRE_MINOR_LONG_INIT ? WIRE_INIT_OUT_SHORT : sizeof out;
    size_t head = wire_reply_data(reply, unique, size);
    memcpy(wire_body(reply), &out, size);
    return head + size;
}

/* The kernel then sends INIT again, in our major version. */
static int refer_to_our_major(void *reply, size_t *reply_size, uint64_t unique)
{
    const uint32_t version[2] = {WIRE_MAJOR, WIRE_MINOR};
    static_assert(sizeof version == WIRE_INIT_VERSION, "major and minor");
    *reply_size = wire_reply_data(reply, unique, sizeof version) + sizeof version;
    memcpy(wire_body(reply), version, sizeof version);
    return 1;
}

int wire_init(const void *message, size_t size, const struct wire_wishes *wishes, fusewire_session *session,
              void *reply, size_t *reply_size)
{
    const struct wire_in_header *header = message;
    if (size < WIRE_IN_HEADER + WIRE_INIT_VERSION || header->len != size || header->opcode != FUSEWIRE_INIT)
        return -EBADMSG;
    struct wire_init_in in = {0}; /* what an older kernel does not send is zero */
    size_t body_size = size - WIRE_IN_HEADER;
    memcpy(&in, (const char *)message + WIRE_IN_HEADER, body_size < sizeof in ? body_size : sizeof in);

    if (in.major > WIRE_MAJOR)
        return refer_to_our_major(reply, reply_size, header->unique);
    if (in.major < WIRE_MAJOR || in.minor < WIRE_MINOR_OLDEST) {
        *reply_size = wire_reply_error(reply, header->unique, -EPROTO);
        return -EPROTO;
    }
    if (body_size < WIRE_INIT_SHORT)
        return -EBADMSG;

    *session = (fusewire_session){.size = sizeof *session, .offered = in.flags, .major = WIRE_MAJOR};
    session->minor = smaller(in.minor, WIRE_MINOR);
    if (has(session->offered, FUSEWIRE_CAP_INIT_EXT))
        session->offered |= (uint64_t)in.flags2 << 32;
    session->capabilities = choose_capabilities(session->offered, wishes);
    choose_sizes(session, wishes);
    session->max_readahead = in.max_readahead;
    if (wishes->max_readahead)
        session->max_readahead = smaller(wishes->max_readahead, in.max_readahead);
    session->time_gran = wishes->time_gran && session->minor >= WIRE_MINOR_LONG_INIT ? wishes->time_gran : 1;
    if (has(session->capabilities, FUSEWIRE_CAP_PASSTHROUGH))
        session->max_stack_depth = wishes->max_stack_depth ? smaller(wishes->max_stack_depth, MAX_STACK_DEPTH) : 1;
    if (has(session->capabilities, FUSEWIRE_CAP_REQUEST_TIMEOUT))
        session->request_timeout = clamp_16(wishes->request_timeout);

    /* Zero leaves the kernel its own numbers, which the session names. */
    uint16_t background = clamp_16(wishes->max_background);
    uint16_t threshold = clamp_16(wishes->congestion_threshold);
    if (background && !threshold)
        threshold = (uint16_t)three_quarters(background);
    session->max_background = background ? background : DEFAULT_MAX_BACKGROUND;
    session->congestion_threshold = threshold ? threshold : DEFAULT_CONGESTION_THRESHOLD;
    *reply_size = encode(reply, header->unique, session, background, threshold);
    return 0;
}

int wire_init_dialect(const void *reply, size_t size, struct wire_dialect *dialect)
{
    struct wire_out_header header;
    struct wire_init_out out = {0}; /* as the kernel takes a short one */
    if (size < sizeof header + WIRE_INIT_OUT_SHORT)
        return -EBADMSG;
    memcpy(&header, reply, sizeof header);
    size_t body_size = size - sizeof header;
    memcpy(&out, (const char *)reply + sizeof header, body_size < sizeof out ? body_size : sizeof out);
    if (header.error != 0 || out.major != WIRE_MAJOR)
        return -EBADMSG;
    dialect->minor = out.minor;
    dialect->capabilities = out.flags;
    if (has(dialect->capabilities, FUSEWIRE_CAP_INIT_EXT))
        dialect->capabilities |= (uint64_t)out.flags2 << 32;
    return 0;
}
