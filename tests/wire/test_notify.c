/* Notifications: their layout, and the check of raw ones. */
#include "reply.h"

#include <errno.h>

static struct head head;

static void test_layouts(void)
{
    CHECK_EQ(wire_notify_poll(dirty(&head), 20), 24);
    check_header(&head, 24, 1, 0);
    CHECK_EQ(u64_at(&head, 16), 20);

    CHECK_EQ(wire_notify_inval_inode(dirty(&head), 20, -1, 21), 40);
    check_header(&head, 40, 2, 0);
    CHECK_EQ(u64_at(&head, 16), 20);
    CHECK_EQ((int64_t)u64_at(&head, 24), -1);
    CHECK_EQ(u64_at(&head, 32), 21);

    CHECK_EQ(wire_notify_inval_entry(dirty(&head), 20, 4, FUSEWIRE_EXPIRE_ONLY), 32);
    check_header(&head, 37, 3, 0);
    CHECK_EQ(u64_at(&head, 16), 20);
    CHECK_EQ(u32_at(&head, 24), 4);
    CHECK_EQ(u32_at(&head, 28), FUSEWIRE_EXPIRE_ONLY);

    CHECK_EQ(wire_notify_store(dirty(&head), 20, 21, 100), 40);
    check_header(&head, 140, 4, 0);
    CHECK_EQ(u64_at(&head, 16), 20);
    CHECK_EQ(u64_at(&head, 24), 21);
    CHECK_EQ(u64_at(&head, 32), 100); /* and the padding */

    CHECK_EQ(wire_notify_retrieve(dirty(&head), 20, 21, 100, 22), 48);
    check_header(&head, 48, 5, 0);
    CHECK_EQ(u64_at(&head, 16), 22);
    CHECK_EQ(u64_at(&head, 24), 20);
    CHECK_EQ(u64_at(&head, 32), 21);
    CHECK_EQ(u64_at(&head, 40), 100);

    CHECK_EQ(wire_notify_delete(dirty(&head), 20, 21, 4), 40);
    check_header(&head, 45, 6, 0);
    CHECK_EQ(u64_at(&head, 16), 20);
    CHECK_EQ(u64_at(&head, 24), 21);
    CHECK_EQ(u64_at(&head, 32), 4);

    CHECK_EQ(wire_notify_resend(dirty(&head)), 16);
    check_header(&head, 16, 7, 0);
    CHECK_EQ(wire_notify_inc_epoch(dirty(&head)), 16);
    check_header(&head, 16, 8, 0);

    CHECK_EQ(wire_notify_prune(dirty(&head), 3), 32);
    check_header(&head, 56, 9, 0);
    CHECK_EQ(u32_at(&head, 16), 3);
    check_zeros(&head, 20, 32);
}

/* The notification in `head`, of `total` bytes, passes; with a byte more or less, or another unique, it does not. */
static void check_accepted(size_t head_size, size_t total, bool expected_may_block)
{
    bool may_block = !expected_may_block;
    const char *why = NULL;
    CHECK_EQ(wire_check_notification(&head, head_size, total, &may_block, &why), 0);
    CHECK_EQ(may_block, expected_may_block);
    CHECK(!why);
    for (uint32_t size = 16; size < total + 8; size++) {
        uint32_t len = (uint32_t)total;
        memcpy(&head, &size, sizeof size);
        size_t part = head_size < size ? head_size : size;
        CHECK_EQ(wire_check_notification(&head, part, size, &may_block, &why), size == total ? 0 : -EINVAL);
        memcpy(&head, &len, sizeof len);
        if (size != total)
            CHECK_EQ(wire_check_notification(&head, part, size, &may_block, NULL), -EINVAL);
    }
    CHECK(why);
    head.bytes[8] = 1;
    CHECK_EQ(wire_check_notification(&head, head_size, total, &may_block, &why), -EINVAL);
    head.bytes[8] = 0;
}

static void test_check(void)
{
    check_accepted(wire_notify_poll(dirty(&head), 20), 24, false);
    check_accepted(wire_notify_inval_inode(dirty(&head), 20, 0, 0), 40, true);
    check_accepted(wire_notify_inval_entry(dirty(&head), 20, 4, 0), 37, true);
    check_accepted(wire_notify_store(dirty(&head), 20, 0, 100), 140, true);
    check_accepted(wire_notify_retrieve(dirty(&head), 20, 0, 100, 2), 48, true);
    check_accepted(wire_notify_delete(dirty(&head), 20, 21, 4), 45, true);
    check_accepted(wire_notify_resend(dirty(&head)), 16, false);
    check_accepted(wire_notify_inc_epoch(dirty(&head)), 16, false);
    check_accepted(wire_notify_prune(dirty(&head), 3), 56, true);
}

static void test_check_refuses(void)
{
    bool may_block;
    wire_notify_inval_entry(dirty(&head), 1, WIRE_NAME_MAX, 0);
    CHECK_EQ(wire_check_notification(&head, 32, 32 + WIRE_NAME_MAX + 1, &may_block, NULL), 0);
    static const int32_t codes[] = {0, -1, 10, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        wire_notify_resend(dirty(&head));
        memcpy(head.bytes + 4, &codes[i], sizeof codes[i]);
        CHECK_EQ(wire_check_notification(&head, 16, 16, &may_block, NULL), -EINVAL);
    }
    CHECK_EQ(wire_check_notification(&head, 15, 16, &may_block, NULL), -EINVAL);
    wire_notify_resend(dirty(&head));
    CHECK_EQ(wire_check_notification(&head, 17, 16, &may_block, NULL), -EINVAL);

    static const size_t name_sizes[] = {0, WIRE_NAME_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < sizeof name_sizes / sizeof name_sizes[0]; i++) {
        wire_notify_inval_entry(dirty(&head), 1, name_sizes[i], 0);
        CHECK_EQ(wire_check_notification(&head, 32, u32_at(&head, 0), &may_block, NULL), -EINVAL);
        wire_notify_delete(dirty(&head), 1, 2, name_sizes[i]);
        CHECK_EQ(wire_check_notification(&head, 40, u32_at(&head, 0), &may_block, NULL), -EINVAL);
    }
    /* a count whose size overflows 32 bits is no count of none */
    wire_notify_prune(dirty(&head), 0);
    head.bytes[19] = 0x20;
    CHECK_EQ(wire_check_notification(&head, 32, 32, &may_block, NULL), -EINVAL);
}

/* The structure may lie behind the head; then only the least size can be judged. */
static void test_check_of_a_bare_head(void)
{
    bool may_block;
    wire_notify_store(dirty(&head), 20, 0, 100);
    CHECK_EQ(wire_check_notification(&head, 16, 140, &may_block, NULL), 0);
    uint32_t len = 39;
    memcpy(&head, &len, sizeof len);
    CHECK_EQ(wire_check_notification(&head, 16, 39, &may_block, NULL), -EINVAL);
}

int main(void)
{
    test_layouts();
    test_check();
    test_check_refuses();
    test_check_of_a_bare_head();
    return 0;
}
