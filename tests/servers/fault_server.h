/* A filesystem that misbehaves on command. Tests start it, tell it over its standard input what to do with which
 * requests, and read on its standard output what happened.
 *
 * Each command (fault_commands.c) is a line and gets one line, "= ...", in answer. Lines that begin with "!" tell of
 * what happens meanwhile:
 *
 *     ! ready [TRANSPORT]                    the connection is open and served
 *     ! failed ERRNO WORDS                   it could not be opened; the server exits
 *     ! held ID OPCODE NAME CHANNEL          a rule keeps this request unanswered
 *     ! interrupt ID CHANNEL                 its client no longer wants to wait; ID 0: no request open here
 *     ! outcome ID ERROR NODEID              what became of a reply
 *     ! poll KH                              a POLL that wants to be told
 *     ! retrieved UNIQUE OFFSET SIZE GOOD    a NOTIFY_REPLY; GOOD is 1 when its data is what the file holds
 *     ! resent ID                            a request came again
 *     ! reply ERROR OPCODE WORDS             a reply that the library did not take
 *     ! end ERROR ERROR WORDS                fusewire_read's end, asked twice; the first may be fusewire_fd's failure
 */
#ifndef FAULT_SERVER_H
#define FAULT_SERVER_H

#include <fusewire.h>

#include <stdbool.h>
#include <stdint.h>

enum { CHANNELS_MAX = 8 };

enum action {
    ACTION_ANSWER,
    ACTION_ERROR,   /* the argument: an errno */
    ACTION_HOLD,    /* until a command answers it, or an interrupt */
    ACTION_DELAY,   /* answered from the loop, so many milliseconds later */
    ACTION_BLOCK,   /* the handler sleeps so many milliseconds, then answers */
    ACTION_OUTCOME, /* answered, with the outcome asked for */
    ACTION_BORROW,  /* a READ is answered through fusewire_borrow */
    ACTION_VECTOR,  /* a READ is answered in pieces of that many bytes */
    ACTION_SWAP,    /* a READ is answered from borrowed memory that holds the data's halves in the other order */
    ACTION_SHIFT,   /* and from borrowed memory that holds the data so many bytes behind its begin */
    ACTION_ECHO     /* an IOCTL is answered with its own data, where that lies */
};

struct rule {
    enum action action;
    long argument;
};

/* A request that is answered later. */
struct kept {
    struct kept *next;
    fusewire_request request;
    fusewire_connection *connection;
    int64_t due; /* in milliseconds of the monotonic clock; -1: on command */
};

struct server {
    fusewire_connection *channels[CHANNELS_MAX]; /* the first one was opened, the others are its clones */
    unsigned channel_count;
    int only; /* the one channel that is read, or -1 for all */
    bool raw;
    bool ended;
    bool quit;
    bool ignore_interrupts;
    uint64_t file_size;  /* of every file */
    uint64_t valid;      /* seconds that attributes and names may be cached */
    uint32_t open_flags; /* of OPEN's replies; at first DIRECT_IO, so that each call is a request */
    uint32_t revents;    /* of POLL's */
    struct kept *kept;   /* oldest first */
};

/* ---- What happens to requests (fault_rules.c) ------------------------------------------------------------------ */

/* NULL for an unknown number, 0 for an unknown name. */
const char *opcode_name(uint32_t opcode);
uint32_t opcode_number(const char *name);

/* "OPCODE NAME ACTION [ARGUMENT]"; OPCODE and NAME may be "*". The latest that fits counts. */
bool rule_add(char *text);
void rules_clear(void);

/* Takes a request from the channel with that index. */
void request_take(struct server *server, unsigned channel, const fusewire_request *request);

/* Milliseconds until something kept is due; -1 for never. */
int kept_wait(const struct server *server);
void kept_answer_due(struct server *server);
struct kept *kept_find(struct server *server, uint64_t id);
/* Answers the oldest `count` of those on hold: with `error`, or as they want if that is 0. Returns how many. */
unsigned kept_release(struct server *server, unsigned count, int error);
void kept_forget(struct server *server, struct kept *kept);
void kept_forget_all(struct server *server);

/* ---- The filesystem (fault_files.c) ---------------------------------------------------------------------------- */

/* The name of a node; "/" for the root, "?" for an unknown one. */
const char *node_name(uint64_t nodeid);
/* Its number, which it gets here if it is new; 0 when there are too many. */
uint64_t node_of(const char *name);
void nodes_free(void);

/* Writes what a file holds from an offset on: byte number i is (i + the sum of the name's bytes) modulo 251. */
void file_pattern(uint64_t nodeid, uint64_t offset, unsigned char *data, size_t size);

/* Answers as a well-behaved filesystem; of READ in the manner of `rule`. Returns what the library said. */
int file_answer(const struct server *server, fusewire_connection *connection, const fusewire_request *request,
                const struct rule *rule);

/* INIT of a raw connection. */
int raw_answer_init(fusewire_connection *connection, const fusewire_request *request);

/* Makes a clone, which is read from then on. */
int channel_add(struct server *server, const char *cpus);

/* ---- The conversation (fault_commands.c) ----------------------------------------------------------------------- */

void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void command_run(struct server *server, char *line);

bool session_parse(const char *text, fusewire_session *session);

#endif
