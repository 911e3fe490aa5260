/* The filesystem of the fault server: one folder with a file of every name, but those that begin with "absent". */
#include "fault_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { NODES_MAX = 20000, FIRST_NODE = FUSEWIRE_ROOT_ID + 1, PATTERN = 251, PIECES = 64, DATA_MAX = 17 << 20 };

static char *names[NODES_MAX];
static uint64_t name_count;

const char *node_name(uint64_t nodeid)
{
    if (nodeid == FUSEWIRE_ROOT_ID)
        return "/";
    return nodeid >= FIRST_NODE && nodeid - FIRST_NODE < name_count ? names[nodeid - FIRST_NODE] : "?";
}

uint64_t node_of(const char *name)
{
    for (uint64_t i = 0; i < name_count; i++) {
        if (strcmp(names[i], name) == 0)
            return i + FIRST_NODE;
    }
    if (name_count == NODES_MAX || (names[name_count] = strdup(name)) == NULL)
        return 0;
    return name_count++ + FIRST_NODE;
}

void nodes_free(void)
{
    while (name_count > 0)
        free(names[--name_count]);
}

void file_pattern(uint64_t nodeid, uint64_t offset, unsigned char *data, size_t size)
{
    uint64_t sum = 0;
    for (const char *name = node_name(nodeid); *name != '\0'; name++)
        sum += (unsigned char)*name;
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)((offset + i + sum) % PATTERN);
}

static fusewire_attr attr_of(const struct server *server, uint64_t nodeid)
{
    if (nodeid == FUSEWIRE_ROOT_ID)
        return (fusewire_attr){.ino = nodeid, .mode = S_IFDIR | 0777, .nlink = 2};
    return (fusewire_attr){.ino = nodeid, .mode = S_IFREG | 0666, .nlink = 1, .size = server->file_size};
}

static fusewire_entry entry_of(const struct server *server, const char *name)
{
    fusewire_entry entry = {.nodeid = node_of(name), .entry_valid = server->valid, .attr_valid = server->valid};
    entry.attr = attr_of(server, entry.nodeid);
    return entry;
}

static int answer_entry(const struct server *server, fusewire_connection *connection, const fusewire_request *request)
{
    if (request->opcode == FUSEWIRE_LOOKUP && strncmp(request->name, "absent", strlen("absent")) == 0)
        return fusewire_reply_error(connection, request->id, -ENOENT);
    fusewire_entry entry = entry_of(server, request->name);
    if (entry.nodeid == 0)
        return fusewire_reply_error(connection, request->id, -ENOSPC);
    return fusewire_reply_entry(connection, request->id, &entry);
}

/* From memory that is lent for the reply, in the manner of `rule`. */
static int answer_borrowed(fusewire_connection *connection, const fusewire_request *request, size_t size,
                           const struct rule *rule)
{
    void *memory;
    size_t capacity;
    int result = fusewire_borrow(connection, request->id, &memory, &capacity);
    if (result != 0)
        return result;
    unsigned char *data = memory;
    const size_t shift = (size_t)rule->argument, half = size / 2;
    switch (rule->action) {
    case ACTION_SWAP:
        file_pattern(request->nodeid, request->offset, data + size - half, half);
        file_pattern(request->nodeid, request->offset + half, data, size - half);
        const fusewire_iovec halves[] = {{data + size - half, half}, {data, size - half}};
        return fusewire_reply_data_vector(connection, request->id, halves, 2);
    case ACTION_SHIFT:
        if (size + shift > capacity)
            size = capacity - shift;
        file_pattern(request->nodeid, request->offset, data + shift, size);
        return fusewire_reply_data(connection, request->id, data + shift, size);
    default:
        file_pattern(request->nodeid, request->offset, data, size);
        return fusewire_reply_borrowed(connection, request->id, size);
    }
}

static int answer_read(const struct server *server, fusewire_connection *connection, const fusewire_request *request,
                       const struct rule *rule)
{
    static unsigned char data[DATA_MAX];
    uint64_t left = request->offset < server->file_size ? server->file_size - request->offset : 0;
    size_t size = left < request->length ? left : request->length;
    if (rule->action == ACTION_BORROW || rule->action == ACTION_SWAP || rule->action == ACTION_SHIFT) {
        int result = answer_borrowed(connection, request, size, rule);
        if (result != -ENOBUFS)
            return result;
    }
    file_pattern(request->nodeid, request->offset, data, size);
    if (rule->action == ACTION_VECTOR) {
        fusewire_iovec pieces[PIECES];
        size_t piece = (size_t)rule->argument, used = 0, count = 0;
        while (used < size && count < PIECES) {
            size_t next = count == PIECES - 1 || size - used < piece ? size - used : piece;
            pieces[count++] = (fusewire_iovec){data + used, next};
            used += next;
        }
        return fusewire_reply_data_vector(connection, request->id, pieces, count);
    }
    return fusewire_reply_data(connection, request->id, data, size);
}

static int answer_write(fusewire_connection *connection, const fusewire_request *request)
{
    static unsigned char expected[DATA_MAX];
    file_pattern(request->nodeid, request->offset, expected, request->data_size);
    if (memcmp(expected, request->data, request->data_size) != 0)
        return fusewire_reply_error(connection, request->id, -EILSEQ);
    return fusewire_reply_write(connection, request->id, request->data_size);
}

static int answer_readdir(fusewire_connection *connection, const fusewire_request *request)
{
    char buffer[4096];
    int64_t used = 0;
    size_t capacity = request->length < sizeof buffer ? request->length : sizeof buffer;
    for (uint64_t i = request->offset; i < name_count; i++) {
        int64_t more =
            fusewire_dirent(buffer, capacity, (size_t)used, i + FIRST_NODE, i + 1, S_IFREG, names[i], strlen(names[i]));
        if (more < 0)
            break;
        used = more;
    }
    return fusewire_reply_data(connection, request->id, buffer, (size_t)used);
}

int file_answer(const struct server *server, fusewire_connection *connection, const fusewire_request *request,
                const struct rule *rule)
{
    fusewire_attr attr = attr_of(server, request->nodeid);
    fusewire_entry entry;
    switch (request->opcode) {
    case FUSEWIRE_LOOKUP:
    case FUSEWIRE_MKNOD:
    case FUSEWIRE_MKDIR:
    case FUSEWIRE_LINK:
    case FUSEWIRE_SYMLINK:
        return answer_entry(server, connection, request);
    case FUSEWIRE_GETATTR:
    case FUSEWIRE_SETATTR:
        return fusewire_reply_attr(connection, request->id, server->valid, 0, &attr);
    case FUSEWIRE_OPEN:
    case FUSEWIRE_OPENDIR:
        return fusewire_reply_open(connection, request->id, request->nodeid,
                                   request->opcode == FUSEWIRE_OPEN ? server->open_flags : 0, 0);
    case FUSEWIRE_CREATE:
        entry = entry_of(server, request->name);
        return fusewire_reply_create(connection, request->id, &entry, entry.nodeid, server->open_flags, 0);
    case FUSEWIRE_READ:
        return answer_read(server, connection, request, rule);
    case FUSEWIRE_WRITE:
        return answer_write(connection, request);
    case FUSEWIRE_READDIR:
        return answer_readdir(connection, request);
    case FUSEWIRE_STATFS:
        return fusewire_reply_statfs(connection, request->id, &(fusewire_statfs){.bsize = 4096, .namelen = 255});
    case FUSEWIRE_POLL:
        if (request->op_flags & FUSEWIRE_POLL_SCHEDULE_NOTIFY)
            say("! poll %llu", (unsigned long long)request->kh);
        return fusewire_reply_poll(connection, request->id, server->revents);
    case FUSEWIRE_IOCTL:
        return rule->action == ACTION_ECHO
                   ? fusewire_reply_ioctl(connection, request->id, 0, request->data, request->data_size)
                   : fusewire_reply_ioctl(connection, request->id, 0, NULL, 0);
    case FUSEWIRE_UNLINK:
    case FUSEWIRE_RENAME:
    case FUSEWIRE_RENAME2:
    case FUSEWIRE_FLUSH:
    case FUSEWIRE_RELEASE:
    case FUSEWIRE_RELEASEDIR:
    case FUSEWIRE_FSYNC:
    case FUSEWIRE_FSYNCDIR:
    case FUSEWIRE_SETLK:
    case FUSEWIRE_SETLKW:
    case FUSEWIRE_DESTROY:
        return fusewire_reply_ok(connection, request->id);
    default:
        return fusewire_reply_error(connection, request->id, -ENOSYS);
    }
}

/* The bodies of INIT, as protocol 7.36 and later have them. */
struct init_in {
    uint32_t major, minor, max_readahead, flags, flags2, unused[11];
};

struct init_reply {
    uint32_t size;
    int32_t error;
    uint64_t unique;
    uint32_t major, minor, max_readahead, flags;
    uint16_t max_background, congestion_threshold;
    uint32_t max_write, time_gran;
    uint16_t max_pages, map_alignment;
    uint32_t flags2, unused[7];
};

int raw_answer_init(fusewire_connection *connection, const fusewire_request *request)
{
    enum { IN_HEADER = 40 };
    struct init_in in = {0};
    size_t given = request->message_size - IN_HEADER;
    memcpy(&in, (const char *)request->message + IN_HEADER, given < sizeof in ? given : sizeof in);
    struct init_reply reply = {
        .size = sizeof reply,
        .unique = request->unique,
        .major = in.major,
        .minor = in.minor < 45 ? in.minor : 45,
        .max_readahead = in.max_readahead,
        .flags = in.flags & (uint32_t)(FUSEWIRE_CAP(BIG_WRITES) | FUSEWIRE_CAP(MAX_PAGES)),
        .max_write = 65536,
        .time_gran = 1,
        .max_pages = 16,
    };
    return fusewire_write(connection, request->id, &reply, sizeof reply, NULL, 0, 0);
}
