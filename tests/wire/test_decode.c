/* Decoding requests: each opcode's fields, and what is malformed. */
#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static struct message message;

/* The request decodes to `expected` and nothing else; its header, message, names and data are filled in here. */
static void check_record(fusewire_request expected, const char *name, const char *newname, const char *data)
{
    fusewire_request request;
    CHECK_EQ(message_decode(&message, &newest, &request), 0);
    CHECK_EQ(request.id, 0xa5a5a5a5a5a5a5a5); /* not the decoder's to touch */
    uint32_t opcode;
    memcpy(&opcode, message.bytes + 4, sizeof opcode);
    expected.id = request.id;
    expected.opcode = opcode;
    if (!expected.unique)
        expected.unique = 10;
    expected.nodeid = 11;
    expected.uid = 12;
    expected.gid = 13;
    expected.pid = 14;
    expected.message = message.exact;
    expected.message_size = message.size;
    if (name) {
        CHECK_STRING(request.name, name);
        expected.name = request.name;
        expected.name_size = (uint32_t)strlen(name);
    }
    if (newname) {
        CHECK_STRING(request.newname, newname);
        expected.newname = request.newname;
        expected.newname_size = (uint32_t)strlen(newname);
    }
    if (data) {
        CHECK_EQ(request.data_size, strlen(data));
        CHECK(memcmp(request.data, data, request.data_size) == 0);
        expected.data = request.data;
        expected.data_size = request.data_size;
    }
    CHECK(memcmp(&request, &expected, sizeof request) == 0);

    /* One byte more or less is another message, and a malformed one. */
    for (size_t size = 0; size < message.size; size++)
        CHECK_EQ(message_decode_part(&message, size, &newest, &request), -EBADMSG);
    message_add(&message, "x", 1);
    CHECK_EQ(message_decode(&message, &newest, &request), -EBADMSG);
}

static void start(uint32_t opcode)
{
    message_start(&message, opcode);
}

static void u32(uint32_t value)
{
    message_add_u32(&message, value);
}

static void u64(uint64_t value)
{
    message_add_u64(&message, value);
}

static void name(const char *text)
{
    message_add_name(&message, text);
}

static void test_names(void)
{
    static const uint32_t opcodes[] = {FUSEWIRE_LOOKUP, FUSEWIRE_UNLINK, FUSEWIRE_RMDIR, FUSEWIRE_REMOVEXATTR};
    for (size_t i = 0; i < sizeof opcodes / sizeof opcodes[0]; i++) {
        start(opcodes[i]);
        name("entry");
        check_record((fusewire_request){0}, "entry", NULL, NULL);
    }

    start(FUSEWIRE_SYMLINK);
    name("link");
    name("to/here");
    check_record((fusewire_request){0}, "link", "to/here", NULL);

    start(FUSEWIRE_RENAME);
    u64(20);
    name("old");
    name("new");
    check_record((fusewire_request){.newnodeid = 20}, "old", "new", NULL);

    start(FUSEWIRE_RENAME2);
    u64(20);
    u32(2);
    u32(0);
    name("old");
    name("new");
    check_record((fusewire_request){.newnodeid = 20, .flags = 2}, "old", "new", NULL);

    start(FUSEWIRE_LINK);
    u64(20);
    name("second");
    check_record((fusewire_request){.newnodeid = 20}, "second", NULL, NULL);
}

static void test_bare(void)
{
    static const uint32_t opcodes[] = {FUSEWIRE_READLINK, FUSEWIRE_STATFS, FUSEWIRE_DESTROY};
    for (size_t i = 0; i < sizeof opcodes / sizeof opcodes[0]; i++) {
        start(opcodes[i]);
        check_record((fusewire_request){0}, NULL, NULL, NULL);
    }
    start(FUSEWIRE_SYNCFS);
    u64(0);
    check_record((fusewire_request){0}, NULL, NULL, NULL);
}

static void test_attributes(void)
{
    start(FUSEWIRE_GETATTR);
    u32(FUSEWIRE_GETATTR_FH);
    u32(0);
    u64(20);
    check_record((fusewire_request){.op_flags = FUSEWIRE_GETATTR_FH, .fh = 20}, NULL, NULL, NULL);

    start(FUSEWIRE_SETATTR);
    u32(FUSEWIRE_SET_MODE | FUSEWIRE_SET_SIZE);
    u32(0);
    for (uint64_t value = 20; value < 23; value++)
        u64(value);
    for (int64_t time = -3; time < 0; time++)
        u64((uint64_t)time);
    for (uint32_t value = 30; value < 33; value++)
        u32(value);
    u32(S_IFREG | 0640);
    u32(0);
    u32(40);
    u32(41);
    u32(0);
    check_record((fusewire_request){.valid = FUSEWIRE_SET_MODE | FUSEWIRE_SET_SIZE, .fh = 20, .length = 21,
                                    .lock_owner = 22, .atime = -3, .mtime = -2, .ctime = -1, .atimensec = 30,
                                    .mtimensec = 31, .ctimensec = 32, .mode = S_IFREG | 0640, .set_uid = 40,
                                    .set_gid = 41},
                 NULL, NULL, NULL);

    start(FUSEWIRE_STATX);
    u32(FUSEWIRE_GETATTR_FH);
    u32(0);
    u64(20);
    u32(0x2000);
    u32(0x7ff);
    check_record((fusewire_request){.op_flags = FUSEWIRE_GETATTR_FH, .fh = 20, .flags = 0x2000, .valid = 0x7ff}, NULL,
                 NULL, NULL);

    start(FUSEWIRE_ACCESS);
    u32(5);
    u32(0);
    check_record((fusewire_request){.mode = 5}, NULL, NULL, NULL);
}

static void test_creations(void)
{
    start(FUSEWIRE_MKNOD);
    u32(S_IFCHR | 0600);
    u32(0x103);
    u32(022);
    u32(0);
    name("null");
    check_record((fusewire_request){.mode = S_IFCHR | 0600, .rdev = 0x103, .umask = 022}, "null", NULL, NULL);

    start(FUSEWIRE_MKDIR);
    u32(0755);
    u32(022);
    name("folder");
    check_record((fusewire_request){.mode = 0755, .umask = 022}, "folder", NULL, NULL);

    static const uint32_t opcodes[] = {FUSEWIRE_CREATE, FUSEWIRE_TMPFILE};
    for (size_t i = 0; i < 2; i++) {
        start(opcodes[i]);
        u32(O_RDWR | O_CREAT);
        u32(S_IFREG | 0644);
        u32(027);
        u32(FUSEWIRE_OPEN_KILL_SUIDGID);
        name("/"); /* what O_TMPFILE has for a name */
        check_record((fusewire_request){.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0644, .umask = 027,
                                        .op_flags = FUSEWIRE_OPEN_KILL_SUIDGID},
                     "/", NULL, NULL);
    }
}

static void test_files(void)
{
    static const uint32_t opens[] = {FUSEWIRE_OPEN, FUSEWIRE_OPENDIR};
    for (size_t i = 0; i < 2; i++) {
        start(opens[i]);
        u32(O_RDWR | O_APPEND);
        u32(FUSEWIRE_OPEN_KILL_SUIDGID);
        check_record((fusewire_request){.flags = O_RDWR | O_APPEND, .op_flags = FUSEWIRE_OPEN_KILL_SUIDGID}, NULL,
                     NULL, NULL);
    }

    static const uint32_t reads[] = {FUSEWIRE_READ, FUSEWIRE_READDIR, FUSEWIRE_READDIRPLUS};
    for (size_t i = 0; i < 3; i++) {
        start(reads[i]);
        u64(20);
        u64(21);
        u32(4096);
        u32(FUSEWIRE_READ_LOCKOWNER);
        u64(22);
        u32(O_DIRECT);
        u32(0);
        check_record((fusewire_request){.fh = 20, .offset = 21, .length = 4096, .op_flags = FUSEWIRE_READ_LOCKOWNER,
                                        .lock_owner = 22, .flags = O_DIRECT},
                     NULL, NULL, NULL);
    }

    start(FUSEWIRE_WRITE);
    u64(20);
    u64(21);
    u32(5);
    u32(FUSEWIRE_WRITE_LOCKOWNER);
    u64(22);
    u32(O_DIRECT);
    u32(0);
    CHECK_EQ(message.size, WIRE_WRITE_PREFIX);
    message_add(&message, "bytes", 5);
    check_record((fusewire_request){.fh = 20, .offset = 21, .length = 5, .op_flags = FUSEWIRE_WRITE_LOCKOWNER,
                                    .lock_owner = 22, .flags = O_DIRECT},
                 NULL, NULL, "bytes");

    static const uint32_t releases[] = {FUSEWIRE_RELEASE, FUSEWIRE_RELEASEDIR};
    for (size_t i = 0; i < 2; i++) {
        start(releases[i]);
        u64(20);
        u32(O_WRONLY);
        u32(FUSEWIRE_RELEASE_FLOCK_UNLOCK);
        u64(21);
        check_record((fusewire_request){.fh = 20, .flags = O_WRONLY, .op_flags = FUSEWIRE_RELEASE_FLOCK_UNLOCK,
                                        .lock_owner = 21},
                     NULL, NULL, NULL);
    }

    start(FUSEWIRE_FLUSH);
    u64(20);
    u32(0);
    u32(0);
    u64(21);
    check_record((fusewire_request){.fh = 20, .lock_owner = 21}, NULL, NULL, NULL);

    static const uint32_t syncs[] = {FUSEWIRE_FSYNC, FUSEWIRE_FSYNCDIR};
    for (size_t i = 0; i < 2; i++) {
        start(syncs[i]);
        u64(20);
        u32(FUSEWIRE_FSYNC_FDATASYNC);
        u32(0);
        check_record((fusewire_request){.fh = 20, .op_flags = FUSEWIRE_FSYNC_FDATASYNC}, NULL, NULL, NULL);
    }
}

static void test_ranges(void)
{
    start(FUSEWIRE_FALLOCATE);
    u64(20);
    u64(21);
    u64(22);
    u32(3);
    u32(0);
    check_record((fusewire_request){.fh = 20, .offset = 21, .length = 22, .mode = 3}, NULL, NULL, NULL);

    start(FUSEWIRE_LSEEK);
    u64(20);
    u64(21);
    u32(4);
    u32(0);
    check_record((fusewire_request){.fh = 20, .offset = 21, .whence = 4}, NULL, NULL, NULL);

    static const uint32_t copies[] = {FUSEWIRE_COPY_FILE_RANGE, FUSEWIRE_COPY_FILE_RANGE_64};
    for (size_t i = 0; i < 2; i++) {
        start(copies[i]);
        for (uint64_t value = 20; value < 25; value++)
            u64(value);
        u64(UINT64_C(1) << 40);
        u64(1);
        check_record((fusewire_request){.fh = 20, .offset = 21, .newnodeid = 22, .newfh = 23, .newoffset = 24,
                                        .length = UINT64_C(1) << 40, .flags = 1},
                     NULL, NULL, NULL);
    }

    start(FUSEWIRE_BMAP);
    u64(20);
    u32(512);
    u32(0);
    check_record((fusewire_request){.offset = 20, .length = 512}, NULL, NULL, NULL);

    start(FUSEWIRE_SETUPMAPPING);
    u64(20);
    u64(21);
    u64(22);
    u64(3);
    u64(23);
    check_record((fusewire_request){.fh = 20, .offset = 21, .length = 22, .flags = 3, .newoffset = 23}, NULL, NULL,
                 NULL);

    start(FUSEWIRE_REMOVEMAPPING);
    u32(2);
    message_add(&message, "0123456789abcdefghijklmnopqrstuv", 32);
    check_record((fusewire_request){.count = 2}, NULL, NULL, "0123456789abcdefghijklmnopqrstuv");
}

static void test_xattrs(void)
{
    start(FUSEWIRE_SETXATTR);
    u32(5);
    u32(1);
    u32(FUSEWIRE_SETXATTR_ACL_KILL_SGID);
    u32(0);
    name("user.name");
    message_add(&message, "value", 5);
    check_record((fusewire_request){.flags = 1, .op_flags = FUSEWIRE_SETXATTR_ACL_KILL_SGID}, "user.name", NULL,
                 "value");

    start(FUSEWIRE_GETXATTR);
    u32(100);
    u32(0);
    name("user.name");
    check_record((fusewire_request){.length = 100}, "user.name", NULL, NULL);

    start(FUSEWIRE_LISTXATTR);
    u32(100);
    u32(0);
    check_record((fusewire_request){.length = 100}, NULL, NULL, NULL);
}

static void test_short_setxattr(void)
{
    static const struct wire_dialect old = {.minor = 31};
    fusewire_request request;
    start(FUSEWIRE_SETXATTR);
    u32(5);
    u32(2);
    name("user.name");
    message_add(&message, "value", 5);
    CHECK_EQ(message_decode(&message, &old, &request), 0);
    CHECK_STRING(request.name, "user.name");
    CHECK_EQ(request.flags, 2);
    CHECK_EQ(request.op_flags, 0);
    CHECK_EQ(request.data_size, 5);
    CHECK(memcmp(request.data, "value", 5) == 0);
}

static void test_locks(void)
{
    static const uint32_t opcodes[] = {FUSEWIRE_GETLK, FUSEWIRE_SETLK, FUSEWIRE_SETLKW};
    for (size_t i = 0; i < 3; i++) {
        start(opcodes[i]);
        u64(20);
        u64(21);
        u64(22);
        u64(INT64_MAX);
        u32(F_WRLCK);
        u32(23);
        u32(FUSEWIRE_LK_FLOCK);
        u32(0);
        check_record((fusewire_request){.fh = 20, .lock_owner = 21, .lock_start = 22, .lock_end = INT64_MAX,
                                        .lock_type = F_WRLCK, .lock_pid = 23, .op_flags = FUSEWIRE_LK_FLOCK},
                     NULL, NULL, NULL);
    }
}

static void test_ioctl_and_poll(void)
{
    start(FUSEWIRE_IOCTL);
    u64(20);
    u32(FUSEWIRE_IOCTL_DIR);
    u32(0xc0de);
    u64(21);
    u32(4);
    u32(64);
    message_add(&message, "data", 4);
    check_record((fusewire_request){.fh = 20, .op_flags = FUSEWIRE_IOCTL_DIR, .cmd = 0xc0de, .arg = 21, .length = 64},
                 NULL, NULL, "data");

    start(FUSEWIRE_POLL);
    u64(20);
    u64(21);
    u32(FUSEWIRE_POLL_SCHEDULE_NOTIFY);
    u32(5);
    check_record((fusewire_request){.fh = 20, .kh = 21, .op_flags = FUSEWIRE_POLL_SCHEDULE_NOTIFY, .events = 5}, NULL,
                 NULL, NULL);
}

static void test_without_reply(void)
{
    start(FUSEWIRE_FORGET);
    u64(20);
    check_record((fusewire_request){.length = 20}, NULL, NULL, NULL);

    start(FUSEWIRE_BATCH_FORGET);
    u32(2);
    u32(0);
    message_add(&message, "0123456789abcdefghijklmnopqrstuv", 32);
    check_record((fusewire_request){.count = 2}, NULL, NULL, "0123456789abcdefghijklmnopqrstuv");

    start(FUSEWIRE_INTERRUPT);
    u64(20);
    check_record((fusewire_request){.unique = 20}, NULL, NULL, NULL);

    start(FUSEWIRE_NOTIFY_REPLY);
    u64(0);
    u64(20);
    u32(6);
    u32(0);
    u64(0);
    u64(0);
    message_add(&message, "cached", 6);
    check_record((fusewire_request){.offset = 20}, NULL, NULL, "cached");
}

static void test_forget_records(void)
{
    fusewire_request request;
    start(FUSEWIRE_BATCH_FORGET);
    u32(2);
    u32(0);
    for (uint64_t value = 100; value < 104; value++)
        u64(value);
    CHECK_EQ(message_decode(&message, &newest, &request), 0);
    const fusewire_forget *forgets = request.data;
    CHECK_EQ(forgets[1].nodeid, 102);
    CHECK_EQ(forgets[1].nlookup, 103);
}

static void test_init(void)
{
    fusewire_request request;
    start(FUSEWIRE_INIT);
    u32(7);
    CHECK_EQ(message_decode(&message, &newest, &request), -EBADMSG);
    for (uint32_t value = 45; value < 60; value++) {
        u32(value);
        CHECK_EQ(message_decode(&message, &newest, &request), 0);
    }
}

static void test_unknown_opcodes(void)
{
    static const uint32_t opcodes[] = {0, 7, 19, 54, 4096, FUSEWIRE_OUTCOME, UINT32_MAX};
    for (size_t i = 0; i < sizeof opcodes / sizeof opcodes[0]; i++) {
        fusewire_request request;
        start(opcodes[i]);
        message_add(&message, "anything", 8);
        CHECK_EQ(message_decode(&message, &newest, &request), 0);
        CHECK_EQ(request.opcode, opcodes[i]);
        CHECK_EQ(request.nodeid, 11);
        CHECK_EQ(request.message_size, 48);
        CHECK(!request.name && !request.data);
    }
}

static void test_headers(void)
{
    fusewire_request request;
    start(FUSEWIRE_STATFS);
    message.bytes[15] = 0x80; /* unique's top bit: sent again */
    CHECK_EQ(message_decode(&message, &newest, &request), 0);
    CHECK_EQ(request.marks, FUSEWIRE_REQUEST_RESENT);
    CHECK_EQ(request.unique, 10 | WIRE_UNIQUE_RESEND);

    /* An INTERRUPT of such a request names it by its marked number, and is none itself. */
    start(FUSEWIRE_INTERRUPT);
    message.bytes[8] = 11;
    message.bytes[15] = 0x80;
    u64(10 | WIRE_UNIQUE_RESEND);
    CHECK_EQ(message_decode(&message, &newest, &request), 0);
    CHECK_EQ(request.marks, 0);
    CHECK_EQ(request.unique, 10 | WIRE_UNIQUE_RESEND);

    /* A wrong length: the header can still be answered. */
    start(FUSEWIRE_STATFS);
    CHECK_EQ(message_decode(&message, &newest, &request), 0);
    message_set_u32(&message, 0, 41);
    CHECK_EQ(wire_decode(memcpy(message.exact, message.bytes, 40), 40, &newest, &request), -EBADMSG);
    CHECK_EQ(request.unique, 10);
    CHECK_EQ(request.opcode, FUSEWIRE_STATFS);
}

static void test_malformed_names(void)
{
    fusewire_request request;
    start(FUSEWIRE_LOOKUP);
    name("");
    CHECK_EQ(message_decode(&message, &newest, &request), -EBADMSG);

    start(FUSEWIRE_LOOKUP);
    message_add(&message, "open end", 8);
    CHECK_EQ(message_decode(&message, &newest, &request), -EBADMSG);

    start(FUSEWIRE_SYMLINK);
    name("link");
    name("");
    CHECK_EQ(message_decode(&message, &newest, &request), -EBADMSG);
}

/* A count or size in the message that is one off, or so large that it overflows. */
static void check_bad_size(size_t offset, uint32_t good)
{
    fusewire_request request;
    message_set_u32(&message, offset, good);
    CHECK_EQ(message_decode(&message, &newest, &request), 0);
    const uint32_t bad[] = {good - 1, good + 1, 0x10000000 + good, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        message_set_u32(&message, offset, bad[i]);
        CHECK_EQ(message_decode(&message, &newest, &request), -EBADMSG);
    }
}

static void test_malformed_sizes(void)
{
    start(FUSEWIRE_BATCH_FORGET);
    u64(0);
    message_add(&message, "0123456789abcdefghijklmnopqrstuv", 32);
    check_bad_size(40, 2);

    start(FUSEWIRE_REMOVEMAPPING);
    u32(0);
    message_add(&message, "0123456789abcdefghijklmnopqrstuv", 32);
    check_bad_size(40, 2);

    start(FUSEWIRE_WRITE);
    for (int i = 0; i < 5; i++)
        u64(0);
    message_add(&message, "0123", 4);
    check_bad_size(56, 4);

    start(FUSEWIRE_SETXATTR);
    u64(0);
    u64(0);
    name("user.name");
    message_add(&message, "0123", 4);
    check_bad_size(40, 4);

    start(FUSEWIRE_IOCTL);
    for (int i = 0; i < 4; i++)
        u64(0);
    message_add(&message, "0123", 4);
    check_bad_size(64, 4);

    start(FUSEWIRE_NOTIFY_REPLY);
    for (int i = 0; i < 5; i++)
        u64(0);
    message_add(&message, "0123", 4);
    check_bad_size(56, 4);
}

int main(void)
{
    test_names();
    test_bare();
    test_attributes();
    test_creations();
    test_files();
    test_ranges();
    test_xattrs();
    test_short_setxattr();
    test_locks();
    test_ioctl_and_poll();
    test_without_reply();
    test_forget_records();
    test_init();
    test_unknown_opcodes();
    test_headers();
    test_malformed_names();
    test_malformed_sizes();
    free(message.exact);
    return 0;
}
