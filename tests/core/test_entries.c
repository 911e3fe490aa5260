/* Ring entries: their memory, requests made whole in them, and replies put into them. No ring and no kernel takes part:
 * the test fills the headers. */
#include "../check.h"
#include "entries.h"
#include "error.h"

#include <errno.h>
#include <stdalign.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CAPACITY = 8192, PER_QUEUE = 3, QUEUES = 2, SMALL = 640 };

/* Of an entry's header. */
enum { OP_IN = 128, COMMIT_ID = 264, PAYLOAD_SIZE = 272 };

static struct ring_entries *create(bool shared)
{
    struct ring_entries *entries;
    uint16_t numbers[QUEUES] = {0, 1};
    CHECK_EQ(entries_create(&entries, &(struct queues){numbers, QUEUES}, PER_QUEUE, CAPACITY, shared), 0);
    return entries;
}

static unsigned char *payload_of(const struct ring_entry *entry)
{
    return entry_payload(entry);
}

static uint32_t u32_at(const unsigned char *memory, size_t offset)
{
    uint32_t value;
    memcpy(&value, memory + offset, sizeof value);
    return value;
}

/* Bytes of which hardly any two are alike nearby. */
static void fill(void *memory, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)memory)[i] = (unsigned char)(seed + i * 7 + i / 256);
}

/* A request as the kernel would put it there. */
static void put_request(struct ring_entry *entry, uint32_t len, uint32_t fixed, uint32_t payload_size,
                        uint64_t commit_id)
{
    static const uint32_t opcode = FUSEWIRE_READLINK;
    static const uint64_t unique = 10;
    const uint32_t filled = payload_size < CAPACITY ? payload_size : CAPACITY;
    memset(entry->memory, 0, WIRE_URING_HEADER);
    memcpy(entry->memory, &len, sizeof len);
    memcpy(entry->memory + 4, &opcode, sizeof opcode);
    memcpy(entry->memory + 8, &unique, sizeof unique);
    fill(entry->memory + OP_IN, fixed, 1);
    memcpy(entry->memory + COMMIT_ID, &commit_id, sizeof commit_id);
    memcpy(entry->memory + PAYLOAD_SIZE, &payload_size, sizeof payload_size);
    fill(entry_payload(entry), filled, 100);
}

/* ---- Memory ---------------------------------------------------------------------------------------------------- */

static void check_memory(bool shared)
{
    struct ring_entries *entries = create(shared);
    CHECK_EQ(entries->count, QUEUES * PER_QUEUE);
    CHECK_EQ(entries->per_queue, PER_QUEUE);
    CHECK((entries->user != NULL) == shared);
    const unsigned char *end = shared ? (unsigned char *)(entries->user + 1) : entries->memory;
    for (uint32_t i = 0; i < entries->count; i++) {
        struct ring_entry *entry = &entries->all[i];
        CHECK(entry->memory >= end);
        end = payload_of(entry) + CAPACITY;
        CHECK_EQ((uintptr_t)entry_payload(entry) % 4096, 0);
        CHECK_EQ((uintptr_t)entry->memory % 8, 0);
        CHECK_EQ(payload_of(entry) - entry->memory, ENTRY_HEADER);
        CHECK_EQ(entry->queue, i / PER_QUEUE);
        CHECK_EQ(entry->payload_capacity, CAPACITY);
        CHECK(entry->parts[0].iov_base == entry->memory && entry->parts[0].iov_len == WIRE_URING_HEADER);
        CHECK(entry->parts[1].iov_base == entry_payload(entry) && entry->parts[1].iov_len == CAPACITY);
        CHECK(!entry_is_open(entry));
        fill(entry->memory, ENTRY_HEADER + CAPACITY, i); /* all of it is there */
    }
    CHECK(end <= entries->memory + entries->size);
    entries_destroy(entries);
}

static void test_memory(void)
{
    check_memory(false);
    check_memory(true);
    entries_destroy(NULL);
}

static void test_no_queues(void)
{
    for (int shared = 0; shared <= 1; shared++) {
        struct ring_entries *entries;
        CHECK_EQ(entries_create(&entries, &(struct queues){NULL, 0}, 64, CAPACITY, shared), 0);
        CHECK_EQ(entries->count, 0);
        CHECK((entries->user != NULL) == shared);
        entries_destroy(entries);
    }
}

static void test_no_address_space(void)
{
    struct ring_entries *entries;
    uint16_t number = 0;
    CHECK_EQ(entries_create(&entries, &(struct queues){&number, 1}, 1, SIZE_MAX / 4, false), -ENOMEM);
    CHECK(strstr(last_error(), "smaller queue_depth or max_write") != NULL);
}

/* ---- Requests -------------------------------------------------------------------------------------------------- */

static void check_message(struct ring_entry *entry, uint32_t fixed, uint32_t payload_size)
{
    alignas(8) unsigned char small[SMALL], expected_fixed[128], expected_payload[CAPACITY];
    const size_t size = WIRE_IN_HEADER + fixed + payload_size;
    const uint64_t commit_id = 1000 + fixed + payload_size;
    void *message = NULL;
    put_request(entry, (uint32_t)size, fixed, payload_size, commit_id);
    fill(expected_fixed, fixed, 1);
    fill(expected_payload, payload_size, 100);
    memset(small, 0xa5, sizeof small);
    CHECK_EQ(entry_message(entry, small, sizeof small, &message), size);
    CHECK_EQ(entry->commit_id, commit_id);
    const unsigned char *bytes = message;
    if (size <= SMALL) {
        CHECK(message == small);
        for (size_t i = size; i < sizeof small; i++)
            CHECK_EQ(small[i], 0xa5);
    } else {
        CHECK(bytes == payload_of(entry) - WIRE_IN_HEADER - fixed); /* the data has not moved */
        CHECK_EQ(small[0], 0xa5);
    }
    CHECK_EQ((uintptr_t)message % 8, 0);
    CHECK(memcmp(bytes, entry->memory, WIRE_IN_HEADER) == 0);
    CHECK(memcmp(bytes + WIRE_IN_HEADER, expected_fixed, fixed) == 0);
    CHECK(memcmp(bytes + WIRE_IN_HEADER + fixed, expected_payload, payload_size) == 0);
    /* The header is still the kernel's, for the reply. */
    CHECK_EQ(u32_at(entry->memory, 0), size);
    CHECK_EQ(u32_at(entry->memory, PAYLOAD_SIZE), payload_size);
}

static void test_messages(void)
{
    struct ring_entries *entries = create(false);
    for (uint32_t fixed = 0; fixed <= 128; fixed += 8) {
        const uint32_t most = SMALL - WIRE_IN_HEADER - fixed; /* that fits in a small one */
        const uint32_t sizes[] = {0, 1, 5, most - 1, most, most + 1, 4096, CAPACITY - 1, CAPACITY};
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            check_message(&entries->all[fixed / 8 % 6], fixed, sizes[i]);
    }
    entries_destroy(entries);
}

/* A message that contradicts itself can be named, so that it is answered, but not decoded. */
static void test_wrong_sizes(void)
{
    static const struct {
        uint32_t len, payload_size;
    } sizes[] = {
        {WIRE_IN_HEADER + 129, 0},
        {WIRE_IN_HEADER - 1, 0},
        {0, 0},
        {UINT32_MAX, CAPACITY},
        {WIRE_IN_HEADER + CAPACITY + 1, CAPACITY + 1},
        {WIRE_IN_HEADER + 4, 5},
        {WIRE_IN_HEADER - 1, UINT32_MAX},
        {WIRE_IN_HEADER, 5},
        {WIRE_IN_HEADER, CAPACITY + 1},
    };
    struct ring_entries *entries = create(false);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        alignas(8) unsigned char small[SMALL];
        void *message;
        fusewire_request request;
        const struct wire_dialect newest = {.minor = 45};
        put_request(&entries->all[0], sizes[i].len, 0, sizes[i].payload_size, 77);
        const size_t size = entry_message(&entries->all[0], small, sizeof small, &message);
        CHECK_EQ(size, WIRE_IN_HEADER);
        CHECK_EQ(entries->all[0].commit_id, 77);
        CHECK_EQ(wire_decode(message, size, &newest, &request), -EBADMSG);
        CHECK_EQ(request.unique, 10);
        CHECK_EQ(request.opcode, FUSEWIRE_READLINK);
    }
    entries_destroy(entries);
}

/* ---- Replies --------------------------------------------------------------------------------------------------- */

/* Gives the entry this reply, and compares with the pieces put together beforehand. */
static void check_reply(struct ring_entry *entry, const struct iovec *pieces, int count)
{
    static unsigned char whole[WIRE_OUT_HEADER + CAPACITY], rest[CAPACITY];
    size_t size = 0;
    for (int i = 0; i < count; i++) {
        CHECK(pieces[i].iov_len <= sizeof whole - size);
        if (pieces[i].iov_len > 0)
            memcpy(whole + size, pieces[i].iov_base, pieces[i].iov_len);
        size += pieces[i].iov_len;
    }
    const size_t body = size - WIRE_OUT_HEADER;
    memcpy(rest, payload_of(entry) + body, CAPACITY - body);
    CHECK_EQ(entry_reply(entry, pieces, count), 0);
    CHECK(memcmp(entry->memory, whole, WIRE_OUT_HEADER) == 0);
    CHECK_EQ(u32_at(entry->memory, PAYLOAD_SIZE), body);
    CHECK(memcmp(payload_of(entry), whole + WIRE_OUT_HEADER, body) == 0);
    CHECK(memcmp(payload_of(entry) + body, rest, CAPACITY - body) == 0);
}

static unsigned char head[WIRE_HEAD_MAX], user[CAPACITY];

static void test_replies_from_elsewhere(struct ring_entry *entry)
{
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}}, 1);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER + 128}}, 1);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}, {user, 1}}, 2);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}, {user, CAPACITY}}, 2);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER + 16}, {user, 100}}, 2);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER + 16}, {user, CAPACITY - 16}}, 2);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}, {NULL, 0}}, 2);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}, {user + 50, 50}, {NULL, 0}, {user, 50}, {user, 1}}, 5);
}

static void test_replies_from_the_payload(struct ring_entry *entry)
{
    unsigned char *payload = entry_payload(entry);
    /* borrowed: it stands where it has to be */
    fill(payload, CAPACITY, 3);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}, {payload, 4096}}, 2);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}, {payload, CAPACITY}}, 2);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER + 16}, {payload, CAPACITY - 16}}, 2);
    /* a part of it, and with what stands before it: the request itself */
    fill(payload, CAPACITY, 5);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}, {payload + 100, 4096}}, 2);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER + 300}, {payload + 100, 4096}}, 2);
    fill(payload - 80, 80, 6);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}, {payload - 80, 4096}}, 2);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER + 16}, {payload - 80, 80}}, 2);
    /* pieces that would overwrite each other */
    fill(payload, CAPACITY, 7);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}, {payload + 100, 100}, {payload, 100}}, 3);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}, {user, 200}, {payload, 100}}, 3);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER + 16}, {payload, 100}, {payload + 50, 100}}, 3);
    check_reply(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}, {payload, 100}, {payload, 100}, {payload, 100}}, 4);
    /* the header too */
    check_reply(entry, (struct iovec[]){{payload, WIRE_OUT_HEADER}}, 1);
    check_reply(entry, (struct iovec[]){{payload, WIRE_OUT_HEADER + 100}}, 1);
    check_reply(entry, (struct iovec[]){{payload + 64, WIRE_OUT_HEADER + 16}, {payload, 100}}, 2);
    check_reply(entry, (struct iovec[]){{payload - 8, WIRE_OUT_HEADER + 16}, {user, 100}}, 2);
}

/* Any pieces at all. */
static void test_any_replies(struct ring_entry *entry)
{
    enum { ROUNDS = 5000, PIECES = 5 };
    uint32_t random = 12345;
    for (int round = 0; round < ROUNDS; round++) {
        struct iovec pieces[PIECES];
        uint32_t numbers[2 * PIECES + 1];
        for (size_t i = 0; i < 2 * PIECES + 1; i++)
            numbers[i] = (random = random * 1664525 + 1013904223) >> 8;
        const int count = 1 + (int)(numbers[2 * PIECES] % PIECES);
        for (int i = 0; i < count; i++) {
            const uint32_t where = numbers[2 * i], size = numbers[2 * i + 1] % 1000;
            unsigned char *from = (where & 1) != 0 ? user : entry->memory + ENTRY_HEADER - 256;
            pieces[i] = (struct iovec){from + where / 2 % 2000, (size & 7) == 0 && i > 0 ? 0 : size};
        }
        pieces[0].iov_len = WIRE_OUT_HEADER + pieces[0].iov_len % 300;
        check_reply(entry, pieces, count);
    }
}

/* Nothing of a reply that is too large gets into the entry. */
static void check_too_large(struct ring_entry *entry, const struct iovec *pieces, int count)
{
    static unsigned char before[ENTRY_HEADER + CAPACITY];
    memcpy(before, entry->memory, sizeof before);
    CHECK_EQ(entry_reply(entry, pieces, count), -EMSGSIZE);
    CHECK(memcmp(before, entry->memory, sizeof before) == 0);
}

static void test_replies_too_large(struct ring_entry *entry)
{
    unsigned char *payload = entry_payload(entry);
    put_request(entry, WIRE_IN_HEADER + 100, 0, 100, 9);
    check_too_large(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}, {user, CAPACITY + 1}}, 2);
    check_too_large(entry, (struct iovec[]){{head, WIRE_OUT_HEADER + 1}, {user, CAPACITY}}, 2);
    check_too_large(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}, {user, CAPACITY}, {user, 1}}, 3);
    check_too_large(entry, (struct iovec[]){{head, WIRE_OUT_HEADER}, {user, 1}, {payload, CAPACITY}}, 3);
    check_too_large(entry, (struct iovec[]){{head, WIRE_OUT_HEADER + 16}, {payload, CAPACITY}}, 2);
    /* and it can still be answered with an error */
    struct iovec error = {head, wire_reply_error(head, 10, -EIO)};
    check_reply(entry, &error, 1);
}

static void test_replies(void)
{
    struct ring_entries *entries = create(false);
    fill(head, sizeof head, 50);
    fill(user, sizeof user, 60);
    test_replies_from_elsewhere(&entries->all[0]);
    test_replies_from_the_payload(&entries->all[1]);
    test_any_replies(&entries->all[2]);
    test_replies_too_large(&entries->all[3]);
    entries_destroy(entries);
}

/* ---- Processes ------------------------------------------------------------------------------------------------- */

static void test_open_and_committed(void)
{
    alignas(8) unsigned char small[SMALL];
    void *message;
    struct ring_entries *entries = create(false);
    struct ring_entry *entry = &entries->all[4];
    for (uint64_t commit_id = 2; commit_id < 10; commit_id += 2) {
        put_request(entry, WIRE_IN_HEADER, 0, 0, commit_id);
        CHECK(entry_is_open(entry)); /* also before anybody has looked at it */
        entry_message(entry, small, sizeof small, &message);
        CHECK(entry_is_open(entry));
        struct iovec reply = {head, wire_reply_error(head, 10, 0)};
        CHECK_EQ(entry_reply(entry, &reply, 1), 0);
        CHECK(entry_is_open(entry)); /* the kernel does not have it yet */
        entry_mark_committed(entry);
        CHECK(!entry_is_open(entry));
        CHECK(!entry_is_open(&entries->all[3]) && !entry_is_open(&entries->all[5]));
    }
    /* nonsense in the header is a request all the same */
    put_request(entry, 0, 0, UINT32_MAX, 10);
    CHECK(entry_is_open(entry));
    entries_destroy(entries);
}

/* What a child does that serves with the entries, and dies with the last request open. */
static void serve(struct ring_entries *entries)
{
    alignas(8) unsigned char small[SMALL];
    void *message;
    atomic_store(&entries->user->pid, getpid());
    for (uint32_t i = 0; i < entries->count; i++) {
        put_request(&entries->all[i], WIRE_IN_HEADER + CAPACITY, 0, CAPACITY, 2 + 2 * i);
        entry_message(&entries->all[i], small, sizeof small, &message);
        if (i + 1 < entries->count)
            entry_mark_committed(&entries->all[i]);
    }
}

static pid_t run(void (*work)(struct ring_entries *), struct ring_entries *entries)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        work(entries);
        _exit(0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    return child;
}

static void test_shared_with_a_child(void)
{
    static unsigned char expected[CAPACITY];
    struct ring_entries *entries = create(true);
    CHECK_EQ(atomic_load(&entries->user->pid), 0);
    const pid_t child = run(serve, entries);
    CHECK_EQ(atomic_load(&entries->user->pid), child);
    fill(expected, CAPACITY, 100);
    for (uint32_t i = 0; i < entries->count; i++) {
        CHECK(memcmp(entry_payload(&entries->all[i]), expected, CAPACITY) == 0);
        CHECK_EQ(wire_uring_unique(entries->all[i].memory), 10);
        CHECK(entry_is_open(&entries->all[i]) == (i + 1 == entries->count));
    }
    entries_destroy(entries);
}

static void dirty(struct ring_entries *entries)
{
    put_request(&entries->all[0], WIRE_IN_HEADER, 0, 0, 2);
}

static void test_a_childs_own(void)
{
    struct ring_entries *entries = create(false);
    run(dirty, entries);
    CHECK(!entry_is_open(&entries->all[0]));
    entries_destroy(entries);
}

int main(void)
{
    test_memory();
    test_no_queues();
    test_no_address_space();
    test_messages();
    test_wrong_sizes();
    test_replies();
    test_open_and_committed();
    test_shared_with_a_child();
    test_a_childs_own();
    return 0;
}
