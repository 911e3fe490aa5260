/* Encoding replies: each field at its place, and nothing left over from before. */
#include "reply.h"

#include <sys/stat.h>

static const uint64_t unique = 0x8000000000000010;

static fusewire_attr make_attr(void)
{
    return (fusewire_attr){.ino = 1, .size = 2, .blocks = 3, .atime = -4, .mtime = -5, .ctime = -6, .atimensec = 7,
                           .mtimensec = 8, .ctimensec = 9, .mode = S_IFREG | 0644, .nlink = 10, .uid = 11, .gid = 12,
                           .rdev = 13, .blksize = 14, .flags = FUSEWIRE_ATTR_DAX};
}

static fusewire_entry make_entry(void)
{
    return (fusewire_entry){.nodeid = 20, .generation = 21, .entry_valid = 22, .attr_valid = 23,
                            .entry_valid_nsec = 24, .attr_valid_nsec = 25, .attr = make_attr()};
}

static void check_attr(const void *message, size_t offset)
{
    for (size_t i = 0; i < 3; i++)
        CHECK_EQ(u64_at(message, offset + 8 * i), i + 1);
    for (size_t i = 3; i < 6; i++)
        CHECK_EQ((int64_t)u64_at(message, offset + 8 * i), -(int64_t)(i + 1));
    for (size_t i = 0; i < 3; i++)
        CHECK_EQ(u32_at(message, offset + 48 + 4 * i), i + 7);
    CHECK_EQ(u32_at(message, offset + 60), S_IFREG | 0644);
    for (size_t i = 0; i < 5; i++)
        CHECK_EQ(u32_at(message, offset + 64 + 4 * i), i + 10);
    CHECK_EQ(u32_at(message, offset + 84), FUSEWIRE_ATTR_DAX);
}

static void check_entry(const void *message, size_t offset)
{
    for (size_t i = 0; i < 4; i++)
        CHECK_EQ(u64_at(message, offset + 8 * i), 20 + i);
    CHECK_EQ(u32_at(message, offset + 32), 24);
    CHECK_EQ(u32_at(message, offset + 36), 25);
    check_attr(message, offset + 40);
}

static void test_error_and_data(void)
{
    struct head head;
    CHECK_EQ(wire_reply_error(dirty(&head), unique, -511), 16);
    check_header(&head, 16, -511, unique);
    CHECK_EQ(wire_reply_data(dirty(&head), unique, 0), 16);
    check_header(&head, 16, 0, unique);
    CHECK_EQ(wire_reply_data(dirty(&head), unique, 1 << 20), 16);
    check_header(&head, 16 + (1 << 20), 0, unique);
}

static void test_entry_attr_open(void)
{
    struct head head;
    fusewire_entry entry = make_entry();
    fusewire_attr attr = make_attr();
    CHECK_EQ(wire_reply_entry(dirty(&head), unique, &entry), 144);
    check_header(&head, 144, 0, unique);
    check_entry(&head, 16);

    CHECK_EQ(wire_reply_attr(dirty(&head), unique, 30, 31, &attr), 120);
    check_header(&head, 120, 0, unique);
    CHECK_EQ(u64_at(&head, 16), 30);
    CHECK_EQ(u32_at(&head, 24), 31);
    check_zeros(&head, 28, 32);
    check_attr(&head, 32);

    CHECK_EQ(wire_reply_open(dirty(&head), unique, 40, FUSEWIRE_FOPEN_PASSTHROUGH, 41), 32);
    check_header(&head, 32, 0, unique);
    CHECK_EQ(u64_at(&head, 16), 40);
    CHECK_EQ(u32_at(&head, 24), FUSEWIRE_FOPEN_PASSTHROUGH);
    CHECK_EQ(u32_at(&head, 28), 41);

    CHECK_EQ(wire_reply_create(dirty(&head), unique, &entry, 40, FUSEWIRE_FOPEN_KEEP_CACHE, 0), 160);
    check_header(&head, 160, 0, unique);
    check_entry(&head, 16);
    CHECK_EQ(u64_at(&head, 144), 40);
    CHECK_EQ(u32_at(&head, 152), FUSEWIRE_FOPEN_KEEP_CACHE);
    CHECK_EQ(u32_at(&head, 156), 0);
}

static void test_numbers(void)
{
    struct head head;
    CHECK_EQ(wire_reply_write(dirty(&head), unique, UINT32_MAX), 24);
    check_header(&head, 24, 0, unique);
    CHECK_EQ(u64_at(&head, 16), UINT32_MAX);
    CHECK_EQ(wire_reply_copied(dirty(&head), unique, UINT64_C(1) << 40), 24);
    check_header(&head, 24, 0, unique);
    CHECK_EQ(u64_at(&head, 16), UINT64_C(1) << 40);
    CHECK_EQ(wire_reply_xattr_size(dirty(&head), unique, 50), 24);
    check_header(&head, 24, 0, unique);
    CHECK_EQ(u64_at(&head, 16), 50);
    CHECK_EQ(wire_reply_bmap(dirty(&head), unique, 51), 24);
    check_header(&head, 24, 0, unique);
    CHECK_EQ(u64_at(&head, 16), 51);
    CHECK_EQ(wire_reply_poll(dirty(&head), unique, 52), 24);
    check_header(&head, 24, 0, unique);
    CHECK_EQ(u64_at(&head, 16), 52);
    CHECK_EQ(wire_reply_lseek(dirty(&head), unique, INT64_MAX), 24);
    check_header(&head, 24, 0, unique);
    CHECK_EQ(u64_at(&head, 16), INT64_MAX);
}

static void test_statfs_and_lock(void)
{
    struct head head;
    fusewire_statfs statfs = {.blocks = 1, .bfree = 2, .bavail = 3, .files = 4, .ffree = 5, .bsize = 6, .namelen = 7,
                              .frsize = 8, .padding = 9};
    CHECK_EQ(wire_reply_statfs(dirty(&head), unique, &statfs), 96);
    check_header(&head, 96, 0, unique);
    for (size_t i = 0; i < 5; i++)
        CHECK_EQ(u64_at(&head, 16 + 8 * i), i + 1);
    for (size_t i = 0; i < 3; i++)
        CHECK_EQ(u32_at(&head, 56 + 4 * i), i + 6);
    check_zeros(&head, 68, 96);

    fusewire_lock lock = {.start = 1, .end = INT64_MAX, .type = 2, .pid = 3};
    CHECK_EQ(wire_reply_lock(dirty(&head), unique, &lock), 40);
    check_header(&head, 40, 0, unique);
    CHECK_EQ(u64_at(&head, 16), 1);
    CHECK_EQ(u64_at(&head, 24), INT64_MAX);
    CHECK_EQ(u32_at(&head, 32), 2);
    CHECK_EQ(u32_at(&head, 36), 3);
}

static void test_ioctl(void)
{
    struct head head;
    CHECK_EQ(wire_reply_ioctl(dirty(&head), unique, -25, FUSEWIRE_IOCTL_RETRY, 1, 2, 48), 32);
    check_header(&head, 80, 0, unique);
    CHECK_EQ((int32_t)u32_at(&head, 16), -25);
    CHECK_EQ(u32_at(&head, 20), FUSEWIRE_IOCTL_RETRY);
    CHECK_EQ(u32_at(&head, 24), 1);
    CHECK_EQ(u32_at(&head, 28), 2);

    unsigned char out[33];
    const fusewire_iovec pieces[] = {{(const void *)(uintptr_t)0x1000, 4}, {(const void *)(uintptr_t)0x2000, 8}};
    out[32] = 0xa5;
    CHECK_EQ(wire_ioctl_pieces(out, pieces, 2), 32);
    CHECK_EQ(u64_at(out, 0), 0x1000);
    CHECK_EQ(u64_at(out, 8), 4);
    CHECK_EQ(u64_at(out, 16), 0x2000);
    CHECK_EQ(u64_at(out, 24), 8);
    CHECK_EQ(out[32], 0xa5);
    CHECK_EQ(wire_ioctl_pieces(out, NULL, 0), 0);
}

static void test_statx(void)
{
    struct head head;
    fusewire_statx statx;
    memset(&statx, 0xa5, sizeof statx); /* what is reserved must not leave */
    statx.mask = 0x7ff;
    statx.mode = S_IFDIR | 0755;
    statx.ino = 60;
    statx.size = 61;
    statx.btime = (fusewire_statx_time){.tv_sec = -1, .tv_nsec = 62, .reserved = 63};
    statx.mtime = (fusewire_statx_time){.tv_sec = 64, .tv_nsec = 65, .reserved = 66};
    statx.dev_minor = 67;
    CHECK_EQ(wire_reply_statx(dirty(&head), unique, 30, 31, &statx), 304);
    check_header(&head, 304, 0, unique);
    CHECK_EQ(u64_at(&head, 16), 30);
    CHECK_EQ(u32_at(&head, 24), 31);
    check_zeros(&head, 28, 48);
    CHECK_EQ(u32_at(&head, 48), 0x7ff);
    CHECK_EQ(u16_at(&head, 76), S_IFDIR | 0755);
    check_zeros(&head, 78, 80);
    CHECK_EQ(u64_at(&head, 80), 60);
    CHECK_EQ(u64_at(&head, 88), 61);
    CHECK_EQ((int64_t)u64_at(&head, 128), -1);
    CHECK_EQ(u32_at(&head, 136), 62);
    CHECK_EQ(u64_at(&head, 160), 64);
    CHECK_EQ(u32_at(&head, 168), 65);
    for (size_t i = 0; i < 4; i++)
        check_zeros(&head, 124 + 16 * i, 128 + 16 * i); /* each time's reserved field */
    CHECK_EQ(u32_at(&head, 188), 67);
    check_zeros(&head, 192, 304);
}

int main(void)
{
    test_error_and_data();
    test_entry_attr_open();
    test_numbers();
    test_statfs_and_lock();
    test_ioctl();
    test_statx();
    return 0;
}
