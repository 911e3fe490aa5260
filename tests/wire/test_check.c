/* What replies to which request the kernel takes. */
#include "reply.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/stat.h>

static const struct wire_dialect newest = {.minor = 45};
static struct head head;

static struct wire_expected expect(uint32_t opcode, uint64_t length)
{
    struct wire_expected expected;
    fusewire_request request = {.opcode = opcode, .unique = 10, .length = length, .data_size = length};
    wire_expect(&request, &expected);
    CHECK_EQ(expected.unique, 10);
    CHECK_EQ(expected.opcode, opcode);
    return expected;
}

static void test_kinds(void)
{
    static const struct {
        enum wire_reply_kind kind;
        uint32_t opcodes[20];
    } table[] = {
        {WIRE_REPLY_NEVER, {FUSEWIRE_FORGET, FUSEWIRE_BATCH_FORGET, FUSEWIRE_INTERRUPT, FUSEWIRE_NOTIFY_REPLY}},
        {WIRE_REPLY_EMPTY,
         {FUSEWIRE_UNLINK, FUSEWIRE_RMDIR, FUSEWIRE_RENAME, FUSEWIRE_RENAME2, FUSEWIRE_RELEASE, FUSEWIRE_RELEASEDIR,
          FUSEWIRE_FSYNC, FUSEWIRE_FSYNCDIR, FUSEWIRE_SETXATTR, FUSEWIRE_REMOVEXATTR, FUSEWIRE_FLUSH, FUSEWIRE_SETLK,
          FUSEWIRE_SETLKW, FUSEWIRE_ACCESS, FUSEWIRE_FALLOCATE, FUSEWIRE_SETUPMAPPING, FUSEWIRE_REMOVEMAPPING,
          FUSEWIRE_SYNCFS, FUSEWIRE_DESTROY}},
        {WIRE_REPLY_ENTRY, {FUSEWIRE_LOOKUP, FUSEWIRE_MKNOD, FUSEWIRE_MKDIR, FUSEWIRE_SYMLINK, FUSEWIRE_LINK}},
        {WIRE_REPLY_ATTR, {FUSEWIRE_GETATTR, FUSEWIRE_SETATTR}},
        {WIRE_REPLY_OPEN, {FUSEWIRE_OPEN, FUSEWIRE_OPENDIR}},
        {WIRE_REPLY_CREATE, {FUSEWIRE_CREATE, FUSEWIRE_TMPFILE}},
        {WIRE_REPLY_DATA,
         {FUSEWIRE_READ, FUSEWIRE_READDIR, FUSEWIRE_READDIRPLUS, FUSEWIRE_READLINK, FUSEWIRE_GETXATTR,
          FUSEWIRE_LISTXATTR}},
        {WIRE_REPLY_WRITE, {FUSEWIRE_WRITE, FUSEWIRE_COPY_FILE_RANGE}},
        {WIRE_REPLY_COPIED, {FUSEWIRE_COPY_FILE_RANGE_64}},
        {WIRE_REPLY_STATFS, {FUSEWIRE_STATFS}},
        {WIRE_REPLY_LOCK, {FUSEWIRE_GETLK}},
        {WIRE_REPLY_BMAP, {FUSEWIRE_BMAP}},
        {WIRE_REPLY_IOCTL, {FUSEWIRE_IOCTL}},
        {WIRE_REPLY_POLL, {FUSEWIRE_POLL}},
        {WIRE_REPLY_LSEEK, {FUSEWIRE_LSEEK}},
        {WIRE_REPLY_STATX, {FUSEWIRE_STATX}},
        {WIRE_REPLY_INIT, {FUSEWIRE_INIT}},
        {WIRE_REPLY_UNKNOWN, {7, 19, 54, 4096}},
    };
    int opcodes = 0;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        for (const uint32_t *opcode = table[i].opcodes; *opcode; opcode++, opcodes++)
            CHECK_EQ(expect(*opcode, 100).kind, table[i].kind);
    CHECK_EQ(opcodes, 51 + 4); /* all of 1 to 53 but 7 and 19; and four unknown ones */
}

static void test_limits(void)
{
    CHECK_EQ(expect(FUSEWIRE_READ, 4096).limit, 4096);
    CHECK_EQ(expect(FUSEWIRE_READDIR, 4096).limit, 4096);
    CHECK_EQ(expect(FUSEWIRE_READLINK, 0).limit, 4095);
    CHECK_EQ(expect(FUSEWIRE_WRITE, 100).limit, 100);
    CHECK_EQ(expect(FUSEWIRE_GETXATTR, 100).limit, 100);
    CHECK_EQ(expect(FUSEWIRE_GETXATTR, 0).kind, WIRE_REPLY_XATTR_SIZE);
    CHECK_EQ(expect(FUSEWIRE_LISTXATTR, 0).kind, WIRE_REPLY_XATTR_SIZE);
    CHECK_EQ(expect(FUSEWIRE_IOCTL, 64).limit, 64);
    CHECK_EQ(expect(FUSEWIRE_COPY_FILE_RANGE, UINT64_C(1) << 40).limit, UINT32_MAX);
    CHECK_EQ(expect(FUSEWIRE_COPY_FILE_RANGE, 100).limit, 100);
    CHECK_EQ(expect(FUSEWIRE_COPY_FILE_RANGE_64, UINT64_C(1) << 40).limit, UINT64_C(1) << 40);

    struct wire_expected expected;
    fusewire_request request = {.opcode = FUSEWIRE_IOCTL, .unique = 10 | WIRE_UNIQUE_RESEND,
                                .marks = FUSEWIRE_REQUEST_RESENT, .op_flags = FUSEWIRE_IOCTL_UNRESTRICTED};
    wire_expect(&request, &expected);
    CHECK_EQ(expected.unique, 10 | WIRE_UNIQUE_RESEND);
    CHECK_EQ(expected.op_flags, FUSEWIRE_IOCTL_UNRESTRICTED);
}

/* What the check says to a message of `total` bytes, all of it or its first WIRE_HEAD_MAX bytes in `head`. */
static int check(const struct wire_expected *expected, size_t total)
{
    const char *why = NULL;
    size_t head_size = total < sizeof head ? total : sizeof head;
    int result = wire_check_reply(expected, &newest, &head, head_size, total, &why);
    CHECK_EQ(why != NULL, result != 0);
    CHECK_EQ(wire_check_reply(expected, &newest, &head, head_size, total, NULL), result);
    return result;
}

static int check_data(const struct wire_expected *expected, size_t body_size)
{
    wire_reply_data(dirty(&head), 10, body_size);
    return check(expected, 16 + body_size);
}

static void test_headers(void)
{
    struct wire_expected expected = expect(FUSEWIRE_UNLINK, 0);
    wire_reply_error(dirty(&head), 10, 0);
    CHECK_EQ(check(&expected, 16), 0);
    CHECK_EQ(wire_check_reply(&expected, &newest, &head, 15, 16, NULL), -EINVAL);
    CHECK_EQ(wire_check_reply(&expected, &newest, &head, 17, 16, NULL), -EINVAL);
    CHECK_EQ(check(&expected, 17), -EINVAL); /* the header says 16 */

    static const struct {
        int error;
        int result;
    } errors[] = {{-1, 0}, {-511, 0}, {-512, -ERANGE}, {-1000, -ERANGE},
                  {INT32_MIN, -ERANGE}, {1, -ERANGE}, {5, -ERANGE}};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        wire_reply_error(dirty(&head), 10, errors[i].error);
        CHECK_EQ(check(&expected, 16), errors[i].result);
    }

    static const uint64_t uniques[] = {0, 8, 11, 12, 10 | WIRE_UNIQUE_RESEND};
    for (size_t i = 0; i < sizeof uniques / sizeof uniques[0]; i++) {
        wire_reply_error(dirty(&head), uniques[i], 0);
        CHECK_EQ(check(&expected, 16), -EINVAL);
    }
    expected.unique = 10 | WIRE_UNIQUE_RESEND;
    wire_reply_error(dirty(&head), expected.unique, -2);
    CHECK_EQ(check(&expected, 16), 0);
    wire_reply_error(dirty(&head), 10, -2);
    CHECK_EQ(check(&expected, 16), -EINVAL);

    /* an error has no body, not even where there is one to success */
    expected = expect(FUSEWIRE_READ, 100);
    wire_reply_data(dirty(&head), 10, 4);
    head.bytes[4] = 0xfe;
    memset(head.bytes + 5, 0xff, 3);
    CHECK_EQ(check(&expected, 20), -EINVAL);

    expected = expect(FUSEWIRE_FORGET, 1);
    wire_reply_error(dirty(&head), 10, 0);
    CHECK_EQ(check(&expected, 16), -EINVAL);
}

static void test_fixed_bodies(void)
{
    static const struct {
        uint32_t opcode;
        size_t body;
    } table[] = {
        {FUSEWIRE_UNLINK, 0},   {FUSEWIRE_LOOKUP, 128}, {FUSEWIRE_GETATTR, 104}, {FUSEWIRE_OPEN, 16},
        {FUSEWIRE_CREATE, 144}, {FUSEWIRE_STATFS, 80},  {FUSEWIRE_GETLK, 24},    {FUSEWIRE_BMAP, 8},
        {FUSEWIRE_POLL, 8},     {FUSEWIRE_LSEEK, 8},    {FUSEWIRE_STATX, 288},   {FUSEWIRE_GETXATTR, 8},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct wire_expected expected = expect(table[i].opcode, 0);
        for (size_t body = 0; body < 300; body++)
            CHECK_EQ(check_data(&expected, body), body == table[i].body ? 0 : -EINVAL);
    }
}

static void test_data(void)
{
    struct wire_expected expected = expect(FUSEWIRE_READ, 100);
    CHECK_EQ(check_data(&expected, 0), 0);
    CHECK_EQ(check_data(&expected, 100), 0);
    CHECK_EQ(check_data(&expected, 101), -EMSGSIZE);
    expected = expect(FUSEWIRE_READ, 1 << 20);
    CHECK_EQ(check_data(&expected, 1 << 20), 0);
    CHECK_EQ(check_data(&expected, (1 << 20) + 1), -EMSGSIZE);
    expected = expect(54, 0);
    CHECK_EQ(check_data(&expected, 12345), 0);
}

static void test_counts(void)
{
    struct wire_expected expected = expect(FUSEWIRE_WRITE, 100);
    wire_reply_write(dirty(&head), 10, 100);
    CHECK_EQ(check(&expected, 24), 0);
    wire_reply_write(dirty(&head), 10, 101);
    CHECK_EQ(check(&expected, 24), -ERANGE);
    /* a count behind the head cannot be judged here */
    CHECK_EQ(wire_check_reply(&expected, &newest, &head, 16, 24, NULL), 0);

    expected = expect(FUSEWIRE_COPY_FILE_RANGE_64, UINT64_C(1) << 40);
    wire_reply_copied(dirty(&head), 10, UINT64_C(1) << 40);
    CHECK_EQ(check(&expected, 24), 0);
    wire_reply_copied(dirty(&head), 10, (UINT64_C(1) << 40) + 1);
    CHECK_EQ(check(&expected, 24), -ERANGE);
}

static void test_ioctl(void)
{
    struct wire_expected expected = expect(FUSEWIRE_IOCTL, 64);
    wire_reply_ioctl(dirty(&head), 10, 0, 0, 0, 0, 64);
    CHECK_EQ(check(&expected, 96), 0);
    wire_reply_ioctl(dirty(&head), 10, 0, 0, 0, 0, 65);
    CHECK_EQ(check(&expected, 97), -EMSGSIZE);
    CHECK_EQ(wire_check_reply(&expected, &newest, &head, 16, 97, NULL), -EMSGSIZE);
    wire_reply_ioctl(dirty(&head), 10, 0, 0, 0, 0, 0);
    CHECK_EQ(check(&expected, 32), 0);
    CHECK_EQ(check_data(&expected, 15), -EINVAL);
    CHECK_EQ(check_data(&expected, 0), -EINVAL);

    wire_reply_ioctl(dirty(&head), 10, 0, FUSEWIRE_IOCTL_RETRY, 1, 1, 32);
    CHECK_EQ(check(&expected, 64), -EINVAL); /* restricted */
    expected.op_flags = FUSEWIRE_IOCTL_UNRESTRICTED;
    expected.limit = 0;
    CHECK_EQ(check(&expected, 64), 0);
    CHECK_EQ(wire_check_reply(&expected, &newest, &head, 16, 64, NULL), 0);
    wire_reply_ioctl(dirty(&head), 10, 0, FUSEWIRE_IOCTL_RETRY, 1, 2, 32);
    CHECK_EQ(check(&expected, 64), -EINVAL);
    CHECK_EQ(wire_check_reply(&expected, &newest, &head, 32, 64, NULL), -EINVAL);
    wire_reply_ioctl(dirty(&head), 10, 0, FUSEWIRE_IOCTL_RETRY, 100, 156, 4096);
    CHECK_EQ(check(&expected, 32 + 4096), 0);
    CHECK_EQ(wire_check_reply(&expected, &newest, &head, 16, 32 + 4096, NULL), 0);
    wire_reply_ioctl(dirty(&head), 10, 0, FUSEWIRE_IOCTL_RETRY, 100, 157, 4112);
    CHECK_EQ(check(&expected, 32 + 4112), -ERANGE);
    wire_reply_ioctl(dirty(&head), 10, 0, FUSEWIRE_IOCTL_RETRY, UINT32_MAX, 2, 16);
    CHECK_EQ(check(&expected, 48), -ERANGE);
}

/* The attribute flags of files and the like: the kernel wants the whole of them. */
static void test_whole_ioctl(void)
{
    static const unsigned long cmds[] = {FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR};
    for (size_t i = 0; i < sizeof cmds / sizeof cmds[0]; i++) {
        struct wire_expected expected;
        fusewire_request request = {.opcode = FUSEWIRE_IOCTL, .unique = 10, .cmd = (uint32_t)cmds[i], .length = 28};
        wire_expect(&request, &expected);
        wire_reply_ioctl(dirty(&head), 10, 0, 0, 0, 0, 28);
        CHECK_EQ(check(&expected, 60), 0);
        wire_reply_ioctl(dirty(&head), 10, -25, 0, 0, 0, 0);
        CHECK_EQ(check(&expected, 32), -EINVAL);
        wire_reply_error(dirty(&head), 10, -25);
        CHECK_EQ(check(&expected, 16), 0);
    }
}

static void test_init(void)
{
    static const struct {
        uint32_t minor;
        size_t body;
        int result;
    } table[] = {{45, 64, 0}, {45, 8, 0}, {45, 24, 0}, {45, 7, -EINVAL}, {45, 65, -EMSGSIZE},
                 {22, 24, 0}, {22, 64, -EMSGSIZE}, {23, 64, 0}, {0, 64, 0}};
    struct wire_expected expected = expect(FUSEWIRE_INIT, 0);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct wire_dialect dialect = {.minor = table[i].minor};
        size_t total = 16 + table[i].body;
        wire_reply_data(dirty(&head), 10, table[i].body);
        CHECK_EQ(wire_check_reply(&expected, &dialect, &head, total, total, NULL), table[i].result);
    }
}

/* Raw messages come from anywhere. */
static void test_unaligned_head(void)
{
    unsigned char bytes[40];
    struct wire_expected expected = expect(FUSEWIRE_WRITE, 100);
    wire_reply_write(dirty(&head), 10, 101);
    memcpy(bytes + 1, &head, 24);
    CHECK_EQ(wire_check_reply(&expected, &newest, bytes + 1, 24, 24, NULL), -ERANGE);
}

static void test_attr(void)
{
    static const uint32_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK};
    for (uint32_t mode = 0; mode <= S_IFMT; mode += 010000) {
        bool valid = false;
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
            valid = valid || mode == types[i];
        fusewire_attr attr = {.mode = mode | 0644};
        CHECK_EQ(wire_check_attr(&attr), valid ? 0 : -ERANGE);
    }
    const fusewire_attr good = {.mode = S_IFREG, .size = INT64_MAX, .atime = INT64_MIN, .atimensec = 999999999,
                                .mtimensec = 999999999, .ctimensec = 999999999};
    CHECK_EQ(wire_check_attr(&good), 0);
    fusewire_attr attr = good;
    attr.size++;
    CHECK_EQ(wire_check_attr(&attr), -ERANGE);
    attr = good;
    attr.atimensec++;
    CHECK_EQ(wire_check_attr(&attr), -ERANGE);
    attr = good;
    attr.mtimensec++;
    CHECK_EQ(wire_check_attr(&attr), -ERANGE);
    attr = good;
    attr.ctimensec++;
    CHECK_EQ(wire_check_attr(&attr), -ERANGE);
}

static void test_entry(void)
{
    fusewire_entry entry = {.nodeid = 0};
    CHECK_EQ(wire_check_entry(&entry, 1), 0); /* no such name: its attributes do not count */
    entry.entry_valid_nsec = 1000000000;
    CHECK_EQ(wire_check_entry(&entry, 1), -ERANGE);
    entry = (fusewire_entry){.nodeid = 2, .attr = {.mode = S_IFDIR}};
    CHECK_EQ(wire_check_entry(&entry, 1), 0);
    entry.attr_valid_nsec = 1000000000;
    CHECK_EQ(wire_check_entry(&entry, 1), -ERANGE);
    entry = (fusewire_entry){.nodeid = 2};
    CHECK_EQ(wire_check_entry(&entry, 1), -ERANGE);
    entry = (fusewire_entry){.nodeid = 1, .attr = {.mode = S_IFDIR}};
    CHECK_EQ(wire_check_entry(&entry, 1), -ERANGE);
    CHECK_EQ(wire_check_entry(&entry, 2), 0); /* ".." */
}

static void test_statx(void)
{
    fusewire_statx statx = {.mask = 0};
    CHECK_EQ(wire_check_statx(&statx), 0);
    statx.mask = 1;
    CHECK_EQ(wire_check_statx(&statx), -ERANGE);
    statx.mode = S_IFREG;
    statx.size = UINT64_MAX;
    CHECK_EQ(wire_check_statx(&statx), 0);
    statx.mask |= 0x200;
    CHECK_EQ(wire_check_statx(&statx), -ERANGE);
    statx.size = INT64_MAX;
    CHECK_EQ(wire_check_statx(&statx), 0);
    statx.btime.tv_nsec = 1000000000;
    CHECK_EQ(wire_check_statx(&statx), -ERANGE);
}

int main(void)
{
    test_kinds();
    test_limits();
    test_headers();
    test_fixed_bodies();
    test_data();
    test_counts();
    test_ioctl();
    test_whole_ioctl();
    test_init();
    test_unaligned_head();
    test_attr();
    test_entry();
    test_statx();
    return 0;
}
