/* Directory entries: layout, padding, and when the buffer is full. */
#include "reply.h"

#include <errno.h>
#include <sys/stat.h>

static unsigned char buffer[4096];

static void test_layout(void)
{
    memset(buffer, 0xa5, sizeof buffer);
    int64_t used = wire_dirent(buffer, sizeof buffer, 0, NULL, 20, 1, S_IFDIR, ".", 1);
    CHECK_EQ(used, 32);
    CHECK_EQ(u64_at(buffer, 0), 20);
    CHECK_EQ(u64_at(buffer, 8), 1);
    CHECK_EQ(u32_at(buffer, 16), 1);
    CHECK_EQ(u32_at(buffer, 20), 4); /* DT_DIR */
    CHECK_EQ(buffer[24], '.');
    check_zeros(buffer, 25, 32);

    /* a name that fills its words has no padding */
    CHECK_EQ(wire_dirent(buffer, sizeof buffer, 32, NULL, 21, 2, S_IFREG | 0644, "exactly8", 8), 64);
    CHECK_EQ(u32_at(buffer, 52), 8); /* DT_REG */
    CHECK(memcmp(buffer + 56, "exactly8", 8) == 0);
    CHECK_EQ(buffer[64], 0xa5);
    CHECK_EQ(wire_dirent(buffer, sizeof buffer, 64, NULL, 22, 3, 0, "nine-byte", 9), 104);
    CHECK_EQ(u32_at(buffer, 84), 0);
}

static void test_plus(void)
{
    memset(buffer, 0xa5, sizeof buffer);
    fusewire_entry entry = {.nodeid = 30, .generation = 31, .attr_valid = 32,
                            .attr = {.ino = 33, .mode = S_IFLNK | 0777}};
    CHECK_EQ(wire_dirent(buffer, sizeof buffer, 0, &entry, 0, 5, 0, "link", 4), 160);
    CHECK_EQ(u64_at(buffer, 0), 30);
    CHECK_EQ(u64_at(buffer, 8), 31);
    CHECK_EQ(u64_at(buffer, 24), 32);
    CHECK_EQ(u64_at(buffer, 40), 33);
    CHECK_EQ(u64_at(buffer, 128), 33);
    CHECK_EQ(u64_at(buffer, 136), 5);
    CHECK_EQ(u32_at(buffer, 144), 4);
    CHECK_EQ(u32_at(buffer, 148), 10); /* DT_LNK */
    CHECK(memcmp(buffer + 152, "link\0\0\0\0", 8) == 0);
}

static void test_full(void)
{
    memset(buffer, 0xa5, sizeof buffer);
    CHECK_EQ(wire_dirent(buffer, 31, 0, NULL, 1, 1, 0, "a", 1), -ENOBUFS);
    CHECK_EQ(wire_dirent(buffer, 32, 0, NULL, 1, 1, 0, "a", 1), 32);
    CHECK_EQ(wire_dirent(buffer, 32, 32, NULL, 1, 1, 0, "a", 1), -ENOBUFS);
    CHECK_EQ(wire_dirent(buffer, 63, 32, NULL, 1, 1, 0, "a", 1), -ENOBUFS);
    CHECK_EQ(buffer[32], 0xa5);
    CHECK_EQ(wire_dirent(buffer, 0, 0, NULL, 1, 1, 0, "a", 1), -ENOBUFS);
    fusewire_entry entry = {0};
    CHECK_EQ(wire_dirent(buffer, 159, 0, &entry, 0, 1, 0, "a", 1), -ENOBUFS);
    CHECK_EQ(wire_dirent(buffer, 160, 0, &entry, 0, 1, 0, "a", 1), 160);
}

static void test_refused(void)
{
    static char longest[WIRE_NAME_MAX + 1];
    memset(longest, 'n', sizeof longest);
    CHECK_EQ(wire_dirent(buffer, sizeof buffer, 0, NULL, 1, 1, 0, longest, WIRE_NAME_MAX), 24 + WIRE_NAME_MAX);
    CHECK_EQ(wire_dirent(buffer, sizeof buffer, 0, NULL, 1, 1, 0, longest, WIRE_NAME_MAX + 1), -EINVAL);
    CHECK_EQ(wire_dirent(buffer, sizeof buffer, 0, NULL, 1, 1, 0, longest, SIZE_MAX), -EINVAL);
    CHECK_EQ(wire_dirent(buffer, sizeof buffer, 0, NULL, 1, 1, 0, "", 0), -EINVAL);
    CHECK_EQ(wire_dirent(buffer, sizeof buffer, 0, NULL, 1, 1, 0, "a/b", 3), -EINVAL);
    CHECK_EQ(wire_dirent(buffer, sizeof buffer, 0, NULL, 1, 1, 0, "a\0b", 3), -EINVAL);
    CHECK_EQ(wire_dirent(buffer, sizeof buffer, 4, NULL, 1, 1, 0, "a", 1), -EINVAL);
    CHECK_EQ(wire_dirent(buffer, 32, 40, NULL, 1, 1, 0, "a", 1), -EINVAL);
    CHECK_EQ(wire_dirent(NULL, 32, 0, NULL, 1, 1, 0, "a", 1), -EINVAL);
    CHECK_EQ(wire_dirent(buffer, 32, 0, NULL, 1, 1, 0, NULL, 1), -EINVAL);
}

int main(void)
{
    test_layout();
    test_plus();
    test_full();
    test_refused();
    return 0;
}
