/* Which request is answered how, and what is kept for later. */
#include "fault_server.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RULES_MAX = 64, NAME_MAX_HERE = 256 };

static struct {
    uint32_t opcode; /* 0: any */
    char name[NAME_MAX_HERE];
    struct rule rule;
} rules[RULES_MAX];
static unsigned rule_count;

static const char *const action_names[] = {
    [ACTION_ANSWER] = "answer", [ACTION_ERROR] = "error",     [ACTION_HOLD] = "hold",     [ACTION_DELAY] = "delay",
    [ACTION_BLOCK] = "block",   [ACTION_OUTCOME] = "outcome", [ACTION_BORROW] = "borrow", [ACTION_VECTOR] = "vector",
    [ACTION_SWAP] = "swap",     [ACTION_SHIFT] = "shift",     [ACTION_ECHO] = "echo",
};

static const struct {
    const char *name;
    uint32_t opcode;
} opcodes[] = {
    {"LOOKUP", FUSEWIRE_LOOKUP},   {"GETATTR", FUSEWIRE_GETATTR},
    {"SETATTR", FUSEWIRE_SETATTR}, {"UNLINK", FUSEWIRE_UNLINK},
    {"OPEN", FUSEWIRE_OPEN},       {"READ", FUSEWIRE_READ},
    {"WRITE", FUSEWIRE_WRITE},     {"STATFS", FUSEWIRE_STATFS},
    {"RELEASE", FUSEWIRE_RELEASE}, {"FSYNC", FUSEWIRE_FSYNC},
    {"FLUSH", FUSEWIRE_FLUSH},     {"OPENDIR", FUSEWIRE_OPENDIR},
    {"READDIR", FUSEWIRE_READDIR}, {"RELEASEDIR", FUSEWIRE_RELEASEDIR},
    {"SETLK", FUSEWIRE_SETLK},     {"SETLKW", FUSEWIRE_SETLKW},
    {"CREATE", FUSEWIRE_CREATE},   {"POLL", FUSEWIRE_POLL},
    {"MKDIR", FUSEWIRE_MKDIR},     {"DESTROY", FUSEWIRE_DESTROY},
    {"IOCTL", FUSEWIRE_IOCTL},
};

const char *opcode_name(uint32_t opcode)
{
    for (size_t i = 0; i < sizeof opcodes / sizeof opcodes[0]; i++) {
        if (opcodes[i].opcode == opcode)
            return opcodes[i].name;
    }
    return NULL;
}

uint32_t opcode_number(const char *name)
{
    for (size_t i = 0; i < sizeof opcodes / sizeof opcodes[0]; i++) {
        if (strcmp(opcodes[i].name, name) == 0)
            return opcodes[i].opcode;
    }
    return 0;
}

bool rule_add(char *text)
{
    char opcode[32], name[NAME_MAX_HERE], action[32];
    long argument = 0;
    if (rule_count == RULES_MAX || sscanf(text, "%31s %255s %31s %ld", opcode, name, action, &argument) < 3)
        return false;
    rules[rule_count].opcode = opcode_number(opcode);
    if (rules[rule_count].opcode == 0 && strcmp(opcode, "*") != 0)
        return false;
    memcpy(rules[rule_count].name, name, sizeof name);
    for (size_t i = 0; i < sizeof action_names / sizeof action_names[0]; i++) {
        if (strcmp(action_names[i], action) == 0) {
            rules[rule_count++].rule = (struct rule){(enum action)i, argument};
            return true;
        }
    }
    return false;
}

void rules_clear(void)
{
    rule_count = 0;
}

static const char *name_of(const fusewire_request *request)
{
    return request->name != NULL ? request->name : node_name(request->nodeid);
}

static struct rule rule_for(const fusewire_request *request)
{
    for (unsigned i = rule_count; i > 0; i--) {
        if ((rules[i - 1].opcode == 0 || rules[i - 1].opcode == request->opcode) &&
            fnmatch(rules[i - 1].name, name_of(request), 0) == 0)
            return rules[i - 1].rule;
    }
    return (struct rule){ACTION_ANSWER, 0};
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void check_answer(int result, const fusewire_request *request)
{
    if (result < 0)
        say("! reply %d %u %s", result, request->opcode, fusewire_last_error());
}

static void answer(struct server *server, fusewire_connection *connection, const fusewire_request *request,
                   const struct rule *rule)
{
    check_answer(file_answer(server, connection, request, rule), request);
}

/* ---- Kept requests --------------------------------------------------------------------------------------------- */

static void keep(struct server *server, fusewire_connection *connection, const fusewire_request *request, int64_t due)
{
    struct kept *kept = malloc(sizeof *kept);
    if (kept == NULL)
        abort();
    *kept = (struct kept){.request = *request, .connection = connection, .due = due};
    struct kept **end = &server->kept;
    while (*end != NULL)
        end = &(*end)->next;
    *end = kept;
}

void kept_forget(struct server *server, struct kept *kept)
{
    struct kept **link = &server->kept;
    while (*link != kept)
        link = &(*link)->next;
    *link = kept->next;
    free(kept);
}

void kept_forget_all(struct server *server)
{
    while (server->kept != NULL)
        kept_forget(server, server->kept);
}

struct kept *kept_find(struct server *server, uint64_t id)
{
    struct kept *kept = server->kept;
    while (kept != NULL && kept->request.id != id)
        kept = kept->next;
    return kept;
}

int kept_wait(const struct server *server)
{
    int64_t first = -1;
    for (const struct kept *kept = server->kept; kept != NULL; kept = kept->next) {
        if (kept->due >= 0 && (first < 0 || kept->due < first))
            first = kept->due;
    }
    if (first < 0)
        return -1;
    int64_t left = first - now();
    return left < 0 ? 0 : (int)left;
}

static void kept_answer(struct server *server, struct kept *kept, int error)
{
    static const struct rule plain = {ACTION_ANSWER, 0};
    if (error != 0)
        check_answer(fusewire_reply_error(kept->connection, kept->request.id, error), &kept->request);
    else
        answer(server, kept->connection, &kept->request, &plain);
    kept_forget(server, kept);
}

void kept_answer_due(struct server *server)
{
    const int64_t time = now();
    for (struct kept *kept = server->kept, *next; kept != NULL; kept = next) {
        next = kept->next;
        if (kept->due >= 0 && kept->due <= time)
            kept_answer(server, kept, 0);
    }
}

unsigned kept_release(struct server *server, unsigned count, int error)
{
    unsigned released = 0;
    for (struct kept *kept = server->kept, *next; kept != NULL && released < count; kept = next) {
        next = kept->next;
        if (kept->due < 0) {
            kept_answer(server, kept, error);
            released++;
        }
    }
    return released;
}

/* ---- Requests -------------------------------------------------------------------------------------------------- */

static void take_interrupt(struct server *server, unsigned channel, const fusewire_request *request)
{
    say("! interrupt %llu %u", (unsigned long long)request->id, channel);
    struct kept *kept = kept_find(server, request->id);
    if (kept != NULL && !server->ignore_interrupts)
        kept_answer(server, kept, -EINTR);
}

static void take_retrieved(const fusewire_request *request)
{
    unsigned char *expected = malloc(request->data_size + 1);
    if (expected == NULL)
        abort();
    file_pattern(request->nodeid, request->offset, expected, request->data_size);
    say("! retrieved %llu %llu %llu %d", (unsigned long long)request->unique, (unsigned long long)request->offset,
        (unsigned long long)request->data_size, memcmp(expected, request->data, request->data_size) == 0);
    free(expected);
}

static void take_open_request(struct server *server, unsigned channel, const fusewire_request *request)
{
    fusewire_connection *connection = server->channels[channel];
    const struct rule rule = rule_for(request);
    const char *name = opcode_name(request->opcode);
    switch (rule.action) {
    case ACTION_ERROR:
        check_answer(fusewire_reply_error(connection, request->id, (int)-rule.argument), request);
        return;
    case ACTION_HOLD:
        keep(server, connection, request, -1);
        say("! held %llu %s %s %u", (unsigned long long)request->id, name != NULL ? name : "?", name_of(request),
            channel);
        return;
    case ACTION_DELAY:
        keep(server, connection, request, now() + rule.argument);
        return;
    case ACTION_BLOCK:
        nanosleep(&(struct timespec){rule.argument / 1000, rule.argument % 1000 * 1000000}, NULL);
        break;
    case ACTION_OUTCOME:
        check_answer(fusewire_expect_outcome(connection, request->id), request);
        break;
    default:
        break;
    }
    answer(server, connection, request, &rule);
}

void request_take(struct server *server, unsigned channel, const fusewire_request *request)
{
    switch (request->opcode) {
    case FUSEWIRE_INTERRUPT:
        take_interrupt(server, channel, request);
        return;
    case FUSEWIRE_OUTCOME:
        say("! outcome %llu %d %llu", (unsigned long long)request->id, request->error,
            (unsigned long long)request->nodeid);
        return;
    case FUSEWIRE_NOTIFY_REPLY:
        take_retrieved(request);
        return;
    case FUSEWIRE_FORGET:
    case FUSEWIRE_BATCH_FORGET:
        if (request->id != 0) {
            fprintf(stderr, "a forget has the id %llu\n", (unsigned long long)request->id);
            abort();
        }
        return;
    case FUSEWIRE_INIT:
        check_answer(raw_answer_init(server->channels[channel], request), request);
        return;
    default:
        break;
    }
    if (request->marks & FUSEWIRE_REQUEST_RESENT)
        say("! resent %llu", (unsigned long long)request->id);
    take_open_request(server, channel, request);
}
