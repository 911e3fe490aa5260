/* Extensions of requests that create something: security contexts and supplementary groups. */
#include "message.h"

#include <errno.h>

static struct message message;
static fusewire_request request;

/* A MKDIR whose extensions begin, as in life, at no particular address. */
static void start(void)
{
    message_start(&message, FUSEWIRE_MKDIR);
    message_add_u32(&message, 0755);
    message_add_u32(&message, 022);
    message_add_name(&message, "odd");
}

static void add_padding(size_t from)
{
    while ((message.size - from) % 8 != 0)
        message_add(&message, "", 1);
}

static void finish(size_t from)
{
    message_set_u16(&message, 36, (uint16_t)((message.size - from) / 8));
}

static void add_context(const char *name, const char *value)
{
    size_t from = message.size;
    message_add_u32(&message, (uint32_t)strlen(value));
    message_add_u32(&message, 0);
    message_add_name(&message, name);
    message_add(&message, value, strlen(value));
    add_padding(from);
}

static size_t add_contexts(void)
{
    size_t from = message.size;
    message_add_u32(&message, 0);
    message_add_u32(&message, 2);
    add_context("security.selinux", "user_u:object_r");
    add_context("security.smack", "_");
    message_set_u32(&message, from, (uint32_t)(message.size - from));
    return from;
}

static size_t add_groups(uint32_t count)
{
    size_t from = message.size;
    message_add_u32(&message, 0);
    message_add_u32(&message, WIRE_SUPPLEMENTARY_GROUPS);
    message_add_u32(&message, count);
    for (uint32_t i = 0; i < count; i++)
        message_add_u32(&message, 1000 + i);
    add_padding(from);
    message_set_u32(&message, from, (uint32_t)(message.size - from));
    return from;
}

static void check_contexts(void)
{
    const char *name;
    const void *value;
    size_t value_size;
    CHECK_EQ(request.security_context_count, 2);
    CHECK_EQ(wire_security_context(&request, 0, &name, &value, &value_size), 0);
    CHECK_STRING(name, "security.selinux");
    CHECK_EQ(value_size, strlen("user_u:object_r"));
    CHECK(memcmp(value, "user_u:object_r", value_size) == 0);
    CHECK_EQ(wire_security_context(&request, 1, &name, &value, &value_size), 0);
    CHECK_STRING(name, "security.smack");
    CHECK_EQ(value_size, 1);
    CHECK_EQ(wire_security_context(&request, 2, &name, &value, &value_size), -ERANGE);
}

static void check_group(uint32_t index, uint32_t expected)
{
    uint32_t group;
    memcpy(&group, (const char *)request.supp_groups + index * sizeof group, sizeof group);
    CHECK_EQ(group, expected);
}

static void test_both(void)
{
    start();
    size_t from = add_contexts();
    add_groups(3);
    finish(from);
    CHECK_EQ(message_decode(&message, &newest, &request), 0);
    CHECK_STRING(request.name, "odd");
    CHECK_EQ(request.name_size, 3);
    check_contexts();
    CHECK_EQ(request.supp_group_count, 3);
    check_group(0, 1000);
    check_group(2, 1002);
}

/* The kernel sends an empty list of contexts where no security module has one. */
static void test_empty(void)
{
    start();
    size_t from = message.size;
    message_add_u32(&message, 8);
    message_add_u32(&message, 0);
    add_groups(0);
    finish(from);
    CHECK_EQ(message_decode(&message, &newest, &request), 0);
    CHECK_EQ(request.security_context_count, 0);
    CHECK_EQ(request.supp_group_count, 0);
    CHECK(!request.supp_groups && !request.security_context);
}

static void test_unknown_type(void)
{
    start();
    size_t from = message.size;
    message_add_u32(&message, 16);
    message_add_u32(&message, 33);
    message_add_u64(&message, 0);
    add_groups(1);
    finish(from);
    CHECK_EQ(message_decode(&message, &newest, &request), 0);
    CHECK_EQ(request.supp_group_count, 1);
    check_group(0, 1000);
}

/* 7.36 and 7.37 sent contexts, uncounted. */
static void test_uncounted(void)
{
    struct wire_dialect dialect = {.minor = 37, .capabilities = FUSEWIRE_CAP(SECURITY_CTX)};
    start();
    add_contexts();
    CHECK_EQ(message_decode(&message, &dialect, &request), 0);
    check_contexts();
    dialect.minor = 38;
    CHECK_EQ(message_decode(&message, &dialect, &request), -EBADMSG);
    dialect = (struct wire_dialect){.minor = 37};
    CHECK_EQ(message_decode(&message, &dialect, &request), -EBADMSG);

    dialect.capabilities = FUSEWIRE_CAP(SECURITY_CTX);
    static const uint32_t fixed[] = {[FUSEWIRE_MKNOD] = 16, [FUSEWIRE_CREATE] = 16, [FUSEWIRE_TMPFILE] = 16,
                                     [FUSEWIRE_SYMLINK] = 0, [FUSEWIRE_LINK] = 8, [FUSEWIRE_LOOKUP] = 0};
    static const uint32_t opcodes[] = {FUSEWIRE_MKNOD, FUSEWIRE_CREATE, FUSEWIRE_TMPFILE, FUSEWIRE_SYMLINK,
                                       FUSEWIRE_LINK, FUSEWIRE_LOOKUP};
    for (size_t i = 0; i < sizeof opcodes / sizeof opcodes[0]; i++) {
        bool creates = opcodes[i] != FUSEWIRE_LINK && opcodes[i] != FUSEWIRE_LOOKUP;
        message_start(&message, opcodes[i]);
        for (uint32_t size = 0; size < fixed[opcodes[i]]; size += 8)
            message_add_u64(&message, 0);
        message_add_name(&message, "name");
        if (opcodes[i] == FUSEWIRE_SYMLINK)
            message_add_name(&message, "target");
        add_contexts();
        CHECK_EQ(message_decode(&message, &dialect, &request), creates ? 0 : -EBADMSG);
    }
}

/* As many contexts as there can be; then contexts that fill their words to the last byte, and one byte too many. */
static void test_limits(void)
{
    start();
    size_t from = message.size;
    message_add_u32(&message, 0);
    message_add_u32(&message, WIRE_SECURITY_CONTEXTS);
    for (int i = 0; i < WIRE_SECURITY_CONTEXTS; i++)
        add_context("security.x", "");
    message_set_u32(&message, from, (uint32_t)(message.size - from));
    finish(from);
    CHECK_EQ(message_decode(&message, &newest, &request), 0);
    CHECK_EQ(request.security_context_count, WIRE_SECURITY_CONTEXTS);

    start();
    from = message.size;
    message_add_u32(&message, 0);
    message_add_u32(&message, 2);
    add_context("name", "abc");
    size_t second = message.size;
    add_context("last", "xyz");
    message_set_u32(&message, from, (uint32_t)(message.size - from));
    finish(from);
    CHECK_EQ(message_decode(&message, &newest, &request), 0);
    const char *name;
    const void *value;
    size_t value_size;
    CHECK_EQ(wire_security_context(&request, 1, &name, &value, &value_size), 0);
    CHECK_STRING(name, "last");
    CHECK(value_size == 3 && memcmp(value, "xyz", 3) == 0);
    message_set_u32(&message, second, 4);
    CHECK_EQ(message_decode(&message, &newest, &request), -EBADMSG);
}

static void check_malformed(void)
{
    CHECK_EQ(message_decode(&message, &newest, &request), -EBADMSG);
}

static void test_malformed(void)
{
    /* more extensions than message, and extensions that swallow the name */
    start();
    size_t from = add_groups(1);
    for (uint16_t words = 3; words < 12; words++) {
        message_set_u16(&message, 36, words);
        check_malformed();
    }
    message_set_u16(&message, 36, UINT16_MAX);
    check_malformed();

    /* an extension of no, of odd, and of too large a size */
    finish(from);
    static const uint32_t sizes[] = {0, 7, 8, 15, 17, 24, UINT32_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        message_set_u32(&message, from, sizes[i]);
        check_malformed();
    }

    /* more groups than fit, also when their size overflows */
    message_set_u32(&message, from, (uint32_t)(message.size - from));
    static const uint32_t counts[] = {2, 4, 0x40000000, UINT32_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        message_set_u32(&message, from + 8, counts[i]);
        check_malformed();
    }

    /* a value that is longer than its context, a name without end, more contexts than there are */
    start();
    from = add_contexts();
    finish(from);
    CHECK_EQ(message_decode(&message, &newest, &request), 0);
    message_set_u32(&message, from + 4, 3);
    check_malformed();
    message_set_u32(&message, from + 4, 2);
    message_set_u32(&message, from + 8, 1000);
    check_malformed();
    message_set_u32(&message, from + 8, UINT32_MAX);
    check_malformed();
    start();
    from = message.size;
    message_add_u32(&message, 24);
    message_add_u32(&message, 1);
    message_add_u64(&message, 0);
    message_add(&message, "nameless", 8);
    finish(from);
    check_malformed();
}

int main(void)
{
    test_both();
    test_empty();
    test_unknown_type();
    test_uncounted();
    test_limits();
    test_malformed();
    free(message.exact);
    return 0;
}
