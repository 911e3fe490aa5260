/* The C ABI of fusewire, in plain declarations: no preprocessor, no bit-fields, no structures by value, no variadic
 * or inline functions, no callbacks. A foreign function interface reads this file as it is; C and C++ programs
 * include <fusewire.h>, which adds the guard, the integer types and the macros.
 *
 * Conventions that hold for every function, unless its own comment says otherwise:
 *
 *   Results    0 or a count on success, a negative errno on failure; words for the failure are then in
 *              fusewire_last_error(). A NULL connection gives -EINVAL, a connection that belongs to the parent
 *              process (it was used there before the fork) gives -ECHILD.
 *   Threads    A connection is used by one thread at a time; nothing in it is locked. fusewire_notify_unmount and
 *              fusewire_wake alone may be called from any thread and from a signal handler. With the transport uring
 *              the thread that reads first is the only one that can read (-EXDEV). The library starts no thread and
 *              calls nothing back.
 *   Ownership  What a function is given it copies or has used up when it returns. What it hands out belongs to the
 *              library; the comment says for how long it stays valid.
 *   Units      Sizes and offsets are in bytes, timeouts in milliseconds, times as seconds since the epoch plus
 *              nanoseconds (0..999999999), cache validities as seconds plus nanoseconds.
 *   Growth     Structures that begin with `size` carry their own size: set it to sizeof the structure. A larger
 *              structure than the library knows is accepted while its unknown tail is zero, else refused with -E2BIG;
 *              a smaller one stands for zeros in what it lacks. Zero is always the default. Reply structures (those
 *              without `size`) are frozen: their layout is the kernel's and never changes.
 *
 * The loop that honours these contracts, in whole:
 *
 *     fusewire_request requests[64];
 *     for (;;) {
 *         int count = fusewire_read(connection, requests, 64, sizeof requests[0], -1);
 *         if (count == -EINTR)
 *             continue;
 *         if (count < 0)
 *             break;                              // unmounted, aborted or stopped: each has its errno
 *         for (int i = 0; i < count; i++)
 *             handle(connection, &requests[i]);   // answers at once with fusewire_reply_*, or later by its id
 *     }
 *     fusewire_close(connection);
 *
 * In an event loop of one's own: poll fusewire_fd(connection) for reading; when it is readable, call fusewire_read
 * with timeout 0 until it returns 0.
 */

/* ---- Names of the protocol ------------------------------------------------------------------------------------- */

/* The node id of the mount's root. */
enum { FUSEWIRE_ROOT_ID = 1 };

/* What a request asks for: the kernel's opcodes up to protocol 7.45. FUSEWIRE_OUTCOME is the library's own: the record
 * reports what became of a reply or message whose outcome was asked for. */
enum fusewire_opcode {
    FUSEWIRE_LOOKUP = 1,
    FUSEWIRE_FORGET = 2,
    FUSEWIRE_GETATTR = 3,
    FUSEWIRE_SETATTR = 4,
    FUSEWIRE_READLINK = 5,
    FUSEWIRE_SYMLINK = 6,
    FUSEWIRE_MKNOD = 8,
    FUSEWIRE_MKDIR = 9,
    FUSEWIRE_UNLINK = 10,
    FUSEWIRE_RMDIR = 11,
    FUSEWIRE_RENAME = 12,
    FUSEWIRE_LINK = 13,
    FUSEWIRE_OPEN = 14,
    FUSEWIRE_READ = 15,
    FUSEWIRE_WRITE = 16,
    FUSEWIRE_STATFS = 17,
    FUSEWIRE_RELEASE = 18,
    FUSEWIRE_FSYNC = 20,
    FUSEWIRE_SETXATTR = 21,
    FUSEWIRE_GETXATTR = 22,
    FUSEWIRE_LISTXATTR = 23,
    FUSEWIRE_REMOVEXATTR = 24,
    FUSEWIRE_FLUSH = 25,
    FUSEWIRE_INIT = 26,
    FUSEWIRE_OPENDIR = 27,
    FUSEWIRE_READDIR = 28,
    FUSEWIRE_RELEASEDIR = 29,
    FUSEWIRE_FSYNCDIR = 30,
    FUSEWIRE_GETLK = 31,
    FUSEWIRE_SETLK = 32,
    FUSEWIRE_SETLKW = 33,
    FUSEWIRE_ACCESS = 34,
    FUSEWIRE_CREATE = 35,
    FUSEWIRE_INTERRUPT = 36,
    FUSEWIRE_BMAP = 37,
    FUSEWIRE_DESTROY = 38,
    FUSEWIRE_IOCTL = 39,
    FUSEWIRE_POLL = 40,
    FUSEWIRE_NOTIFY_REPLY = 41,
    FUSEWIRE_BATCH_FORGET = 42,
    FUSEWIRE_FALLOCATE = 43,
    FUSEWIRE_READDIRPLUS = 44,
    FUSEWIRE_RENAME2 = 45,
    FUSEWIRE_LSEEK = 46,
    FUSEWIRE_COPY_FILE_RANGE = 47,
    FUSEWIRE_SETUPMAPPING = 48,
    FUSEWIRE_REMOVEMAPPING = 49,
    FUSEWIRE_SYNCFS = 50,
    FUSEWIRE_TMPFILE = 51,
    FUSEWIRE_STATX = 52,
    FUSEWIRE_COPY_FILE_RANGE_64 = 53,
    FUSEWIRE_OUTCOME = 65536
};

/* What the kernel can do and a filesystem can ask for at INIT: bit positions, so that capability C is present in a
 * 64-bit set S when (S >> C) & 1. The numbers are those of the protocol's INIT flags. */
enum fusewire_capability {
    FUSEWIRE_CAP_ASYNC_READ = 0,
    FUSEWIRE_CAP_POSIX_LOCKS = 1,
    FUSEWIRE_CAP_FILE_OPS = 2,
    FUSEWIRE_CAP_ATOMIC_O_TRUNC = 3,
    FUSEWIRE_CAP_EXPORT_SUPPORT = 4,
    FUSEWIRE_CAP_BIG_WRITES = 5,
    FUSEWIRE_CAP_DONT_MASK = 6,
    FUSEWIRE_CAP_SPLICE_WRITE = 7,
    FUSEWIRE_CAP_SPLICE_MOVE = 8,
    FUSEWIRE_CAP_SPLICE_READ = 9,
    FUSEWIRE_CAP_FLOCK_LOCKS = 10,
    FUSEWIRE_CAP_HAS_IOCTL_DIR = 11,
    FUSEWIRE_CAP_AUTO_INVAL_DATA = 12,
    FUSEWIRE_CAP_DO_READDIRPLUS = 13,
    FUSEWIRE_CAP_READDIRPLUS_AUTO = 14,
    FUSEWIRE_CAP_ASYNC_DIO = 15,
    FUSEWIRE_CAP_WRITEBACK_CACHE = 16,
    FUSEWIRE_CAP_NO_OPEN_SUPPORT = 17,
    FUSEWIRE_CAP_PARALLEL_DIROPS = 18,
    FUSEWIRE_CAP_HANDLE_KILLPRIV = 19,
    FUSEWIRE_CAP_POSIX_ACL = 20,
    FUSEWIRE_CAP_ABORT_ERROR = 21,
    FUSEWIRE_CAP_MAX_PAGES = 22,
    FUSEWIRE_CAP_CACHE_SYMLINKS = 23,
    FUSEWIRE_CAP_NO_OPENDIR_SUPPORT = 24,
    FUSEWIRE_CAP_EXPLICIT_INVAL_DATA = 25,
    FUSEWIRE_CAP_MAP_ALIGNMENT = 26,
    FUSEWIRE_CAP_SUBMOUNTS = 27,
    FUSEWIRE_CAP_HANDLE_KILLPRIV_V2 = 28,
    FUSEWIRE_CAP_SETXATTR_EXT = 29,
    FUSEWIRE_CAP_INIT_EXT = 30,
    FUSEWIRE_CAP_SECURITY_CTX = 32,
    FUSEWIRE_CAP_HAS_INODE_DAX = 33,
    FUSEWIRE_CAP_CREATE_SUPP_GROUP = 34,
    FUSEWIRE_CAP_HAS_EXPIRE_ONLY = 35,
    FUSEWIRE_CAP_DIRECT_IO_ALLOW_MMAP = 36,
    FUSEWIRE_CAP_PASSTHROUGH = 37,
    FUSEWIRE_CAP_NO_EXPORT_SUPPORT = 38,
    FUSEWIRE_CAP_HAS_RESEND = 39,
    FUSEWIRE_CAP_ALLOW_IDMAP = 40,
    FUSEWIRE_CAP_OVER_IO_URING = 41,
    FUSEWIRE_CAP_REQUEST_TIMEOUT = 42
};

/* fusewire_request.valid of SETATTR: which of the attributes are to be set. */
enum fusewire_setattr_valid {
    FUSEWIRE_SET_MODE = 1,
    FUSEWIRE_SET_UID = 2,
    FUSEWIRE_SET_GID = 4,
    FUSEWIRE_SET_SIZE = 8,
    FUSEWIRE_SET_ATIME = 16,
    FUSEWIRE_SET_MTIME = 32,
    FUSEWIRE_SET_FH = 64,         /* not an attribute: `fh` names the open file that asks */
    FUSEWIRE_SET_ATIME_NOW = 128, /* with SET_ATIME: to the server's present time */
    FUSEWIRE_SET_MTIME_NOW = 256,
    FUSEWIRE_SET_LOCKOWNER = 512, /* not an attribute: `lock_owner` is given */
    FUSEWIRE_SET_CTIME = 1024,
    FUSEWIRE_SET_KILL_SUIDGID = 2048 /* with HANDLE_KILLPRIV_V2: clear set-user-ID and set-group-ID */
};

/* open_flags of the replies to OPEN, OPENDIR, CREATE and TMPFILE. */
enum fusewire_fopen {
    FUSEWIRE_FOPEN_DIRECT_IO = 1,
    FUSEWIRE_FOPEN_KEEP_CACHE = 2,
    FUSEWIRE_FOPEN_NONSEEKABLE = 4,
    FUSEWIRE_FOPEN_CACHE_DIR = 8,
    FUSEWIRE_FOPEN_STREAM = 16,
    FUSEWIRE_FOPEN_NOFLUSH = 32,
    FUSEWIRE_FOPEN_PARALLEL_DIRECT_WRITES = 64,
    FUSEWIRE_FOPEN_PASSTHROUGH = 128
};

/* fusewire_request.op_flags, by opcode. */
enum fusewire_op_flags {
    FUSEWIRE_GETATTR_FH = 1,             /* GETATTR: `fh` is given */
    FUSEWIRE_OPEN_KILL_SUIDGID = 1,      /* OPEN, CREATE: clear set-user-ID and set-group-ID */
    FUSEWIRE_READ_LOCKOWNER = 2,         /* READ: `lock_owner` is given */
    FUSEWIRE_WRITE_CACHE = 1,            /* WRITE: from the page cache, the writer is not known */
    FUSEWIRE_WRITE_LOCKOWNER = 2,        /* WRITE: `lock_owner` is given */
    FUSEWIRE_WRITE_KILL_SUIDGID = 4,     /* WRITE: clear set-user-ID and set-group-ID */
    FUSEWIRE_RELEASE_FLUSH = 1,          /* RELEASE */
    FUSEWIRE_RELEASE_FLOCK_UNLOCK = 2,   /* RELEASE: drop the flock of `lock_owner` */
    FUSEWIRE_FSYNC_FDATASYNC = 1,        /* FSYNC, FSYNCDIR: the data only */
    FUSEWIRE_LK_FLOCK = 1,               /* GETLK, SETLK, SETLKW: a flock(2) lock */
    FUSEWIRE_SETXATTR_ACL_KILL_SGID = 1, /* SETXATTR: clear set-group-ID */
    FUSEWIRE_IOCTL_COMPAT = 1,           /* IOCTL: 32-bit caller on a 64-bit machine */
    FUSEWIRE_IOCTL_UNRESTRICTED = 2,
    FUSEWIRE_IOCTL_RETRY = 4, /* in a reply's flags: ask again with these buffers */
    FUSEWIRE_IOCTL_32BIT = 8,
    FUSEWIRE_IOCTL_DIR = 16,
    FUSEWIRE_IOCTL_COMPAT_X32 = 32,
    FUSEWIRE_POLL_SCHEDULE_NOTIFY = 1 /* POLL: tell with fusewire_notify_poll when it becomes ready */
};

/* fusewire_attr.flags. */
enum fusewire_attr_flags { FUSEWIRE_ATTR_SUBMOUNT = 1, FUSEWIRE_ATTR_DAX = 2 };

/* flags of fusewire_notify_inval_entry. */
enum fusewire_entry_flags { FUSEWIRE_EXPIRE_ONLY = 1 };

/* ---- Opening --------------------------------------------------------------------------------------------------- */

/* A connection to the kernel, or a clone of one. */
typedef struct fusewire_connection fusewire_connection;

/* How requests travel. AUTO takes the best that works here and now; fusewire_stats says which, and why not another. Of
 * uring, ring, poll it takes the first that works, but uring only where options.cpus says that CPUs are served one by
 * one: a connection that serves them all alone is better off over /dev/fuse (measured). */
enum fusewire_transport {
    FUSEWIRE_TRANSPORT_AUTO = 0,
    FUSEWIRE_TRANSPORT_POLL = 1, /* epoll, read and writev on /dev/fuse */
    FUSEWIRE_TRANSPORT_RING = 2, /* io_uring on /dev/fuse */
    FUSEWIRE_TRANSPORT_URING = 3 /* FUSE-over-io_uring (Linux 6.14; fuse's module parameter enable_uring) */
};

/* fusewire_options.flags. */
enum fusewire_open_flags {
    FUSEWIRE_OPEN_ADOPT = 1, /* `fd` is a /dev/fuse descriptor that is, or will be, mounted by somebody else */
    FUSEWIRE_OPEN_RAW = 2,   /* INIT and all that follows it is the caller's: nothing is negotiated, answered or
                                checked beyond what keeps the kernel from refusing a reply */
    FUSEWIRE_OPEN_REPORT_FAILURES = 4 /* each reply that the kernel refuses comes back as a FUSEWIRE_OUTCOME record */
};

/* What INIT agreed upon. fusewire_negotiated fills it; given back in fusewire_options.session it lets a successor adopt
 * a mount whose INIT another process has answered. */
typedef struct fusewire_session {
    uint64_t size;
    uint64_t offered;      /* the kernel's capabilities, bits by fusewire_capability */
    uint64_t capabilities; /* those in force */
    uint32_t major;
    uint32_t minor; /* the smaller of the kernel's and 45 */
    uint32_t max_readahead;
    uint32_t max_write;
    uint32_t max_background;
    uint32_t congestion_threshold;
    uint32_t time_gran;
    uint32_t max_pages;
    uint32_t max_stack_depth;
    uint32_t request_timeout;
} fusewire_session;

typedef struct fusewire_options {
    uint64_t size;
    const char *mount_options;       /* as after mount's -o: "allow_other,fsname=example"; NULL for none */
    uint64_t capabilities;           /* to ask for beyond the default ones, bits by fusewire_capability */
    uint64_t without_capabilities;   /* default ones to do without */
    const fusewire_session *session; /* with ADOPT: INIT is over and agreed on this; NULL where it is still to come */
    int32_t fd;                      /* with ADOPT: duplicated, so the caller keeps and closes its own */
    uint32_t flags;                  /* fusewire_open_flags */
    uint32_t transport;              /* fusewire_transport */
    uint32_t depth;                  /* requests open at once, at most 65536; 0: 4096. When they are used up the kernel
                                        keeps the others waiting */
    uint32_t buffers;                /* messages of full size held at once (writes, borrowed replies); 0: 32 */
    uint32_t max_write;              /* of one WRITE, 4096 to 16 MiB less a page; 0: 1 MiB. The kernel may lower it */
    uint32_t max_readahead;          /* 0: the kernel's */
    uint32_t max_background;         /* 0: the kernel's (12) */
    uint32_t congestion_threshold;   /* 0: three quarters of max_background */
    uint32_t time_gran;              /* granularity of timestamps in nanoseconds; 0: 1 */
    uint32_t max_stack_depth;        /* with PASSTHROUGH; 0: 1 */
    uint32_t request_timeout;        /* seconds after which the kernel aborts the connection; 0: never */
    uint32_t queue_depth; /* uring: requests of one CPU open at once; 0: 64, fewer with more than 16 CPUs, but
                             at least 8. Each may need max_write bytes of memory; untouched it needs none */
    uint32_t padding;     /* zero */
    const char *cpus;     /* uring: the CPUs whose clients this connection serves, as "0,2-5"; "": none; NULL:
                             all, of a clone: as the original. Only when each CPU of the machine, online or
                             not, has a connection that serves it (and reads) does the kernel let clients
                             through */
} fusewire_options;

/* 0x00MMmmpp: major, minor, patch. */
uint32_t fusewire_version(void);

/* What went wrong last in this thread, in words; never NULL. Valid until this thread's next fusewire call. */
const char *fusewire_last_error(void);

/* Opens a connection and stores it in *out; the caller closes it with fusewire_close.
 *
 *   mountpoint "/a/folder"             mounts there (as root with the mount system calls, else through fusermount3) and
 *                                      answers INIT before it returns. Closing the connection unmounts.
 *   mountpoint "/dev/fd/N"             adopts descriptor N, which the caller's parent opened and mounts
 *   mountpoint NULL, ADOPT in flags    adopts options->fd
 *   mountpoint NULL                    opens /dev/fuse only: mount fusewire_device_fd(*out) and read
 *
 * `options` may be NULL. Errors: -EINVAL (an unknown or contradictory option, named in the words), -ENOENT, -ENOTDIR,
 * -ENOTEMPTY (without the mount option nonempty), -ENOTCONN (a dead mount is in the way), -EBUSY (mounted already),
 * -EPERM or -EACCES (with what to do about it), -ENODEV (no fuse in this kernel), -ENOPKG (fusermount3 is not
 * installed), -ETIMEDOUT (fusermount3 did not answer), -EBADF (no such descriptor), -EPROTO (INIT failed), -ENOMEM,
 * -EMFILE, -E2BIG. */
int fusewire_open(fusewire_connection **out, const char *mountpoint, const fusewire_options *options);

/* A second channel to the same mount, with its own queue of requests in progress: what is read from it must be answered
 * on it. It is bound to the process and thread that first reads from it: clone in the parent, fork, use it in the child
 * and close it in the parent. Of `options` (NULL: as the original) transport, depth, buffers, queue_depth and cpus
 * count, the rest must be zero. Errors: -EINVAL, -ENOTCONN (not mounted yet), -EMFILE, -ENOMEM. */
int fusewire_clone(fusewire_connection **out, fusewire_connection *connection, const fusewire_options *options);

/* ---- Workers: threads or processes that each serve a share of the CPUs ----------------------------------------- */

/* FUSE-over-io_uring has a queue for each CPU of the machine, and whoever serves a queue on its own CPU answers without
 * another CPU having to be woken. So N workers serve best like this, each with its share of the CPUs:
 *
 *     char cpus[4096];
 *     fusewire_options options = {.size = sizeof options, .cpus = ""};      // the parent serves none itself
 *     fusewire_open(&connection, mountpoint, &options);
 *     for (i = 0; i < count; i++) {
 *         fusewire_worker_cpus(i, count, cpus, sizeof cpus);
 *         options.cpus = cpus;
 *         fusewire_clone(&worker[i], connection, &options);
 *         start a thread, or fork:  fusewire_pin(worker[i]);  the loop with worker[i];  fusewire_close(worker[i]);
 *     }                                                                     // a child first closes the others' clones
 *
 * Over /dev/fuse the same code gives workers that take whatever request comes next, on whatever CPU they run.
 *
 * With processes the parent keeps its worker[i]. When that child has died it makes another clone for the same share,
 * closes worker[i], and starts another child, which serves on, also what has come meanwhile; what the dead child had
 * read and not answered ends with EIO (over /dev/fuse with ECONNABORTED). Closed before there is another clone, what
 * waits for that worker ends as well. As long as a CPU has no worker its clients wait. */

/* How many workers are of use: the number of CPUs that this thread may run on. */
uint32_t fusewire_worker_count(void);

/* The share of worker `index` (from 0) of `count`, as a list for options.cpus in list[size]; every CPU of the machine,
 * online or not, is in one share. Those that this thread may run on are dealt out evenly, as runs of neighbours.
 * Returns 0, -EINVAL, or -ENOBUFS. */
int fusewire_worker_cpus(uint32_t index, uint32_t count, char *list, size_t size);

/* Binds the calling thread to the CPUs that the connection serves. Where they have no queues of their own (the mount
 * does not use FUSE-over-io_uring) it does nothing. Returns 0, or -EINVAL when none of them is online and allowed. */
int fusewire_pin(fusewire_connection *connection);

/* ---- Closing, descriptors -------------------------------------------------------------------------------------- */

/* Ends the connection: takes back the reads that are under way, answers what was read and is still open with EIO,
 * unmounts what this connection mounted (not so a clone), and frees everything. Ids and pointers it handed out are
 * invalid after. With the transport uring a request that the kernel is just giving to a connection that closes ends
 * with ECANCELED (seen on Linux 6.18), also where a clone could have served it. Closing NULL does nothing. In a forked
 * child it frees the child's copy and touches neither mount nor requests. */
int fusewire_close(fusewire_connection *connection);

/* The descriptor to poll for reading; the library's own, never to be read or closed. It is readable whenever
 * fusewire_read has something to do: requests, an end, a wake, or replies of this turn that wait to leave. */
int fusewire_fd(fusewire_connection *connection);

/* The /dev/fuse descriptor; the library's own. To mount it, or to hand it to another process. */
int fusewire_device_fd(fusewire_connection *connection);

/* What INIT agreed upon; -EAGAIN before it. session->size must be set. */
int fusewire_negotiated(fusewire_connection *connection, fusewire_session *session);

/* ---- Reading --------------------------------------------------------------------------------------------------- */

/* fusewire_request.marks. */
enum fusewire_request_marks {
    FUSEWIRE_REQUEST_RESENT = 1 /* sent again after fusewire_notify_resend: it may have been carried out before */
};

/* One request, decoded. A field that the opcode does not use is zero. Pointers are valid until the request is answered;
 * for what takes no answer (FORGET, BATCH_FORGET, INTERRUPT, NOTIFY_REPLY, OUTCOME) until the next fusewire_read. Names
 * end with a NUL that the size does not count. */
typedef struct fusewire_request {
    uint64_t id;     /* names the request in replies; 0 where none is taken. INTERRUPT, OUTCOME: of the request meant */
    uint32_t opcode; /* fusewire_opcode, or a newer one: then only the first block and the message are filled */
    uint32_t marks;  /* fusewire_request_marks */
    uint64_t unique; /* the kernel's own number of it. INTERRUPT: of the request meant */
    uint64_t nodeid; /* what it is about; of names: the directory */
    uint32_t uid;    /* of the caller; (uint32_t)-1 where an id-mapped mount has none */
    uint32_t gid;
    uint32_t pid;        /* of the caller's thread in the server's pid namespace; 0 where it has none there */
    int32_t error;       /* OUTCOME: 0, or what the kernel said, as a negative errno */
    const void *message; /* the message as the kernel sent it, its header included */
    uint64_t message_size;

    uint64_t fh;         /* of the open file */
    uint64_t offset;     /* READ WRITE READDIR READDIRPLUS LSEEK FALLOCATE COPY_FILE_RANGE (of the source) BMAP (block)
                            SETUPMAPPING (in the file) NOTIFY_REPLY */
    uint64_t length;     /* READ WRITE READDIR READDIRPLUS GETXATTR LISTXATTR: the most the reply's data (or, of WRITE,
                            the data here) may have; FALLOCATE COPY_FILE_RANGE SETUPMAPPING: of the range;
                            SETATTR: the new size; BMAP: the block size; IOCTL: the most the reply's data may have;
                            FORGET: nlookup */
    const char *name;    /* of the entry, or of the extended attribute; RENAME: the old one */
    const char *newname; /* RENAME RENAME2: the new name; SYMLINK: what the link points to */
    const void *data;    /* WRITE SETXATTR IOCTL NOTIFY_REPLY: the bytes; BATCH_FORGET: fusewire_forget[count];
                            REMOVEMAPPING: fusewire_mapping[count], aligned to 4 bytes only */
    uint64_t data_size;
    uint32_t name_size;
    uint32_t newname_size;
    uint32_t count;      /* BATCH_FORGET, REMOVEMAPPING */
    uint32_t flags;      /* OPEN OPENDIR CREATE READ WRITE RELEASE TMPFILE: open(2)'s; RENAME2 SETXATTR COPY_FILE_RANGE:
                            those of the call; SETUPMAPPING: 1 write, 2 read; STATX: AT_STATX_* */
    uint32_t op_flags;   /* fusewire_op_flags; of IOCTL too */
    uint32_t mode;       /* CREATE MKNOD TMPFILE: with the type; MKDIR SETATTR: the permissions; ACCESS: the mask;
                            FALLOCATE: its mode */
    uint32_t umask;      /* CREATE MKNOD MKDIR TMPFILE */
    uint32_t rdev;       /* MKNOD, as the kernel's 32-bit encoding: major in bits 8-19, minor in 0-7 and 20-31 */
    uint64_t newnodeid;  /* RENAME RENAME2: the new directory; LINK: the file to link; COPY_FILE_RANGE: the target */
    uint64_t newfh;      /* COPY_FILE_RANGE: the target's */
    uint64_t newoffset;  /* COPY_FILE_RANGE: in the target; SETUPMAPPING: in the memory window */
    uint64_t lock_owner; /* GETLK SETLK SETLKW FLUSH RELEASE READ WRITE SETATTR */
    uint64_t lock_start; /* GETLK SETLK SETLKW */
    uint64_t lock_end;   /* the last byte; INT64_MAX: to the end */
    uint32_t lock_type;  /* F_RDLCK, F_WRLCK, F_UNLCK */
    uint32_t lock_pid;
    uint32_t valid;   /* SETATTR: fusewire_setattr_valid; STATX: the mask of STATX_* asked for */
    uint32_t set_uid; /* SETATTR */
    uint32_t set_gid;
    uint32_t atimensec; /* SETATTR */
    uint32_t mtimensec;
    uint32_t ctimensec;
    int64_t atime;
    int64_t mtime;
    int64_t ctime;
    uint32_t whence;           /* LSEEK: SEEK_DATA or SEEK_HOLE */
    uint32_t cmd;              /* IOCTL */
    uint64_t arg;              /* IOCTL: the argument as a number or address */
    uint64_t kh;               /* POLL: for fusewire_notify_poll */
    uint32_t events;           /* POLL */
    uint32_t supp_group_count; /* CREATE MKNOD MKDIR SYMLINK TMPFILE with CREATE_SUPP_GROUP: groups of the caller that
                                  matter here (the directory's, where the caller is in it) */
    const void *supp_groups;   /* 32-bit numbers, not aligned */
    const void *security_context; /* with SECURITY_CTX: security_context_count of them, see fusewire_security_context */
    uint32_t security_context_size;
    uint32_t security_context_count;
} fusewire_request;

/* One of BATCH_FORGET's. */
typedef struct fusewire_forget {
    uint64_t nodeid;
    uint64_t nlookup;
} fusewire_forget;

/* One of REMOVEMAPPING's. */
typedef struct fusewire_mapping {
    uint64_t offset;
    uint64_t length;
} fusewire_mapping;

/* Sends the replies that wait, then hands out up to `capacity` requests in requests[], each record `request_size` bytes
 * (sizeof(fusewire_request): a library with larger records fills the part that is there). Waits up to `timeout`
 * milliseconds for the first one: 0 returns at once, -1 waits without end.
 *
 * Returns their number; 0 after the timeout or a fusewire_wake; or, once nothing is left to hand out, how it ended:
 *   -ENODEV        unmounted, also by force
 *   -ECONNABORTED  aborted through fusectl, or by the kernel
 *   -ESHUTDOWN     stopped by fusewire_notify_unmount
 * An end is final: it is returned again by every later call. Other errors pass: -EINTR (a signal handler ran while
 * waiting), -EINVAL, -ECHILD, -EXDEV (uring: another thread has read before). Replies are still accepted after a stop,
 * as long as the connection is open.
 *
 * INTERRUPT says that the client of an open request no longer wants to wait: answer that request soon, with -EINTR or
 * its result; not at all is wrong. A client that has vanished altogether shows in the outcome of the reply: -ENOENT. */
int fusewire_read(fusewire_connection *connection, fusewire_request *requests, size_t capacity, size_t request_size,
                  int timeout);

/* Makes the fusewire_read that waits, or else the next one that would, return 0. From any thread or signal handler. */
int fusewire_wake(fusewire_connection *connection);

/* Stops the connection and all its clones, also those in other processes: what waits in fusewire_read returns
 * -ESHUTDOWN. From any thread or signal handler. Works whether or not the mount is still there or busy. */
int fusewire_notify_unmount(fusewire_connection *connection);

/* Asks for the mount to be detached, without waiting for it: a helper process unmounts while this one serves on what
 * that causes (cached writes). Fusewire_read says -ENODEV when the last user is gone. -EINVAL where this connection
 * did not mount. */
int fusewire_unmount(fusewire_connection *connection);

/* The security context at `index` (below request->security_context_count): its name and value, valid as long as the
 * request. -ERANGE beyond the last. */
int fusewire_security_context(const fusewire_request *request, uint32_t index, const char **name, const void **value,
                              size_t *value_size);

/* ---- Replies --------------------------------------------------------------------------------------------------- */

/* All of them take the request's id. Common errors, none of which does any harm:
 *   -EINVAL    the id is none that this library gives out, or the reply does not fit the request's opcode
 *   -EXDEV     the id belongs to another connection
 *   -EALREADY  the request was answered before
 *   -ENOTCONN  too late: the connection has ended
 *   -EMSGSIZE  more data than was asked for
 *   -ERANGE    a value out of its range
 * After an error the request, if there still is one, is untouched: answer it properly.
 *
 * 0 means that the reply was accepted and is on its way: at once, or together with the others of this turn when
 * fusewire_read is called next (fusewire_fd is readable until then). The client may have gone meanwhile; see
 * fusewire_expect_outcome, and fusewire_statistics.replies_gone. */

/* The layout of the kernel's struct fuse_attr, times signed. */
typedef struct fusewire_attr {
    uint64_t ino;
    uint64_t size;
    uint64_t blocks; /* of 512 bytes */
    int64_t atime;
    int64_t mtime;
    int64_t ctime;
    uint32_t atimensec;
    uint32_t mtimensec;
    uint32_t ctimensec;
    uint32_t mode;
    uint32_t nlink;
    uint32_t uid;
    uint32_t gid;
    uint32_t rdev;
    uint32_t blksize;
    uint32_t flags; /* fusewire_attr_flags */
} fusewire_attr;

/* A name's target. nodeid 0 says that there is no such name and that this may be cached for entry_valid. */
typedef struct fusewire_entry {
    uint64_t nodeid;
    uint64_t generation;
    uint64_t entry_valid;
    uint64_t attr_valid;
    uint32_t entry_valid_nsec;
    uint32_t attr_valid_nsec;
    fusewire_attr attr;
} fusewire_entry;

typedef struct fusewire_statfs {
    uint64_t blocks;
    uint64_t bfree;
    uint64_t bavail;
    uint64_t files;
    uint64_t ffree;
    uint32_t bsize;
    uint32_t namelen;
    uint32_t frsize;
    uint32_t padding; /* zero */
} fusewire_statfs;

typedef struct fusewire_lock {
    uint64_t start;
    uint64_t end;
    uint32_t type;
    uint32_t pid;
} fusewire_lock;

/* A time of fusewire_statx. */
typedef struct fusewire_statx_time {
    int64_t tv_sec;
    uint32_t tv_nsec;
    int32_t reserved; /* zero */
} fusewire_statx_time;

/* The layout of the kernel's struct fuse_statx. */
typedef struct fusewire_statx {
    uint32_t mask;
    uint32_t blksize;
    uint64_t attributes;
    uint32_t nlink;
    uint32_t uid;
    uint32_t gid;
    uint16_t mode;
    uint16_t spare0[1];
    uint64_t ino;
    uint64_t size;
    uint64_t blocks;
    uint64_t attributes_mask;
    fusewire_statx_time atime;
    fusewire_statx_time btime;
    fusewire_statx_time ctime;
    fusewire_statx_time mtime;
    uint32_t rdev_major;
    uint32_t rdev_minor;
    uint32_t dev_major;
    uint32_t dev_minor;
    uint64_t spare2[14];
} fusewire_statx;

/* A piece of memory. */
typedef struct fusewire_iovec {
    const void *base;
    size_t size;
} fusewire_iovec;

/* To any request: it failed with `error`, a negative errno from -511 to -1. -ENOSYS has lasting meaning to the kernel
 * for many opcodes: it does not ask again. */
int fusewire_reply_error(fusewire_connection *connection, uint64_t id, int error);

/* To requests that succeed without data: UNLINK RMDIR RENAME RENAME2 RELEASE RELEASEDIR FSYNC FSYNCDIR SETXATTR
 * REMOVEXATTR FLUSH SETLK SETLKW ACCESS FALLOCATE SETUPMAPPING REMOVEMAPPING SYNCFS DESTROY; and, as an empty result,
 * to READ READDIR READDIRPLUS READLINK GETXATTR LISTXATTR. */
int fusewire_reply_ok(fusewire_connection *connection, uint64_t id);

/* LOOKUP MKNOD MKDIR SYMLINK LINK. Each such reply with a nodeid counts as one lookup of it, to be forgotten later. */
int fusewire_reply_entry(fusewire_connection *connection, uint64_t id, const fusewire_entry *entry);

/* GETATTR SETATTR. */
int fusewire_reply_attr(fusewire_connection *connection, uint64_t id, uint64_t attr_valid, uint32_t attr_valid_nsec,
                        const fusewire_attr *attr);

/* OPEN OPENDIR. open_flags: fusewire_fopen; backing_id: with FOPEN_PASSTHROUGH, from fusewire_backing_open, else 0. */
int fusewire_reply_open(fusewire_connection *connection, uint64_t id, uint64_t fh, uint32_t open_flags,
                        int32_t backing_id);

/* CREATE TMPFILE. */
int fusewire_reply_create(fusewire_connection *connection, uint64_t id, const fusewire_entry *entry, uint64_t fh,
                          uint32_t open_flags, int32_t backing_id);

/* READ READDIR READDIRPLUS (up to `length` bytes; fewer end the file or the listing) READLINK (up to 4095, without a
 * NUL) GETXATTR LISTXATTR (where `length` is not 0). */
int fusewire_reply_data(fusewire_connection *connection, uint64_t id, const void *data, size_t size);

/* The same, from `count` pieces, up to 64. */
int fusewire_reply_data_vector(fusewire_connection *connection, uint64_t id, const fusewire_iovec *pieces,
                               size_t count);

/* WRITE: the bytes written, up to `data_size`. COPY_FILE_RANGE and its 64-bit form: the bytes copied. */
int fusewire_reply_write(fusewire_connection *connection, uint64_t id, uint64_t size);

/* GETXATTR LISTXATTR where `length` is 0: how large the value is. */
int fusewire_reply_xattr_size(fusewire_connection *connection, uint64_t id, uint32_t size);

/* STATFS. */
int fusewire_reply_statfs(fusewire_connection *connection, uint64_t id, const fusewire_statfs *statfs);

/* GETLK: the lock in the way, or type F_UNLCK. */
int fusewire_reply_lock(fusewire_connection *connection, uint64_t id, const fusewire_lock *lock);

/* BMAP. */
int fusewire_reply_bmap(fusewire_connection *connection, uint64_t id, uint64_t block);

/* IOCTL: what the call returns, and data of up to `length` bytes. FS_IOC_GETFLAGS and FS_IOC_FSGETXATTR must have
 * exactly `length` (-EINVAL otherwise; seen on Linux 6.18). */
int fusewire_reply_ioctl(fusewire_connection *connection, uint64_t id, int32_t result, const void *data, size_t size);

/* IOCTL with IOCTL_UNRESTRICTED: asks for the call to be made again with these pieces of the caller's memory, at most
 * 256 in all, read (in) and writable (out); `base` is the caller's address. */
int fusewire_reply_ioctl_retry(fusewire_connection *connection, uint64_t id, const fusewire_iovec *in, size_t in_count,
                               const fusewire_iovec *out, size_t out_count);

/* POLL: the events that are ready. */
int fusewire_reply_poll(fusewire_connection *connection, uint64_t id, uint32_t revents);

/* LSEEK: the offset found. */
int fusewire_reply_lseek(fusewire_connection *connection, uint64_t id, uint64_t offset);

/* STATX. */
int fusewire_reply_statx(fusewire_connection *connection, uint64_t id, uint64_t attr_valid, uint32_t attr_valid_nsec,
                         const fusewire_statx *statx);

/* The zero-copy path: lends memory of at least `length` bytes for the data of a READ, READDIR, READDIRPLUS, READLINK,
 * GETXATTR or LISTXATTR reply, valid until the request is answered, in whatever way. Fill it, then send its first
 * `size` bytes. Borrowing again gives the same memory. -ENOBUFS when all of options.buffers are in use: reply with data
 * of your own. */
int fusewire_borrow(fusewire_connection *connection, uint64_t id, void **data, size_t *capacity);
int fusewire_reply_borrowed(fusewire_connection *connection, uint64_t id, size_t size);

/* Asks that the outcome of this request's reply come back in a batch as a FUSEWIRE_OUTCOME record, with the request's
 * id, nodeid and unique: error 0, or -ENOENT when the client had vanished (an fh or lookup it carried never
 * reached the kernel). */
int fusewire_expect_outcome(fusewire_connection *connection, uint64_t id);

/* fusewire_write's flags. */
enum fusewire_write_flags {
    FUSEWIRE_WRITE_OUTCOME = 1 /* report as fusewire_expect_outcome does; id 0 for a notification */
};

/* Sends a ready message: a reply's or notification's 16-byte header with as much of its body as the caller likes
 * in `head`, the rest in `body` (NULL for none). `id` names the request that it answers, 0 for a notification. Length,
 * unique, error and the body's size are checked. Returns 0, or the errors of the replies. */
int fusewire_write(fusewire_connection *connection, uint64_t id, const void *head, size_t head_size, const void *body,
                   size_t body_size, uint32_t flags);

/* Appends a directory entry at buffer + used and returns the new number of bytes used; -ENOBUFS when it no longer fits
 * (send what is there), -EINVAL for an empty or oversized name (1 to 1024 bytes, without '/' or NUL). `offset` is what
 * READDIR will give to go on *after* this entry; `type` the type bits of the mode (S_IFDIR ...), 0 for unknown. */
int64_t fusewire_dirent(void *buffer, size_t capacity, size_t used, uint64_t ino, uint64_t offset, uint32_t type,
                        const char *name, size_t name_size);

/* The same for READDIRPLUS; an entry with nodeid 0 gives the name alone and counts no lookup ("." and ".." must). */
int64_t fusewire_direntplus(void *buffer, size_t capacity, size_t used, const fusewire_entry *entry, uint64_t offset,
                            const char *name, size_t name_size);

/* ---- Notifications --------------------------------------------------------------------------------------------- */

/* Messages to the kernel that nobody asked for. Allowed once INIT is over (-EAGAIN before). Where io_uring is to be had
 * they are carried out off this thread, since the kernel may make them wait for a lock that a client of this very
 * server holds; on a machine without it, send those that drop entries or data only while no request is open. A server
 * that is killed while a notification waits so stays in the kernel until its connection is aborted (fusectl's abort
 * file, umount -f), since the waiting worker holds /dev/fuse (seen on Linux 6.18); closing the connection has no such
 * trouble. 0 means that the message was accepted; the kernel's -ENOENT (nothing cached) is no failure. */

/* Drops cached attributes and data of [offset, offset + length); length 0 to the end, offset < 0 attributes only. */
int fusewire_notify_inval_inode(fusewire_connection *connection, uint64_t nodeid, int64_t offset, int64_t length);

/* Drops a cached name. flags: fusewire_entry_flags. */
int fusewire_notify_inval_entry(fusewire_connection *connection, uint64_t parent, const char *name, size_t name_size,
                                uint32_t flags);

/* The same, and tells watchers that `child` was deleted. */
int fusewire_notify_delete(fusewire_connection *connection, uint64_t parent, uint64_t child, const char *name,
                           size_t name_size);

/* Puts data into the page cache. */
int fusewire_notify_store(fusewire_connection *connection, uint64_t nodeid, uint64_t offset, const void *data,
                          uint32_t size);

/* Asks for cached data: it comes as a NOTIFY_REPLY record whose `unique` is notify_unique, below 2^60 where the mount
 * uses FUSE-over-io_uring (-ERANGE; the kernel takes it for a request's). */
int fusewire_notify_retrieve(fusewire_connection *connection, uint64_t nodeid, uint64_t offset, uint32_t size,
                             uint64_t notify_unique);

/* Wakes who polls the file: kh from POLL. */
int fusewire_notify_poll(fusewire_connection *connection, uint64_t kh);

/* Asks the kernel to send again what was read and not answered: for a successor (with HAS_RESEND). */
int fusewire_notify_resend(fusewire_connection *connection);

/* Drops all cached names at once (protocol 7.44). */
int fusewire_notify_inc_epoch(fusewire_connection *connection);

/* Asks to forget unused inodes (protocol 7.45). */
int fusewire_notify_prune(fusewire_connection *connection, const uint64_t *nodeids, size_t count);

/* ---- Passthrough ----------------------------------------------------------------------------------------------- */

/* Registers an open file that the kernel may read and write by itself (with PASSTHROUGH; needs CAP_SYS_ADMIN). Returns
 * its backing id, to be given to fusewire_reply_open. */
int fusewire_backing_open(fusewire_connection *connection, int fd);
int fusewire_backing_close(fusewire_connection *connection, int32_t backing_id);

/* ---- Statistics ------------------------------------------------------------------------------------------------ */

/* Counts since the connection was opened; a clone has its own. read == answered + forgets + open. */
typedef struct fusewire_statistics {
    uint64_t size;
    uint64_t read;                 /* requests and forgets read from the kernel; a BATCH_FORGET is one. INIT counts */
    uint64_t answered;             /* requests for which a reply was given to the kernel, also those it found gone */
    uint64_t forgets;              /* FORGET and BATCH_FORGET messages */
    uint64_t interrupts;           /* INTERRUPTs read */
    uint64_t retrieved;            /* NOTIFY_REPLYs read */
    uint64_t notifications;        /* sent */
    uint64_t replies_gone;         /* of the answered: the client had vanished (ENOENT) or the connection had ended */
    uint64_t replies_failed;       /* replies that the kernel refused for another reason; the client got an error */
    uint64_t notifications_failed; /* for another reason than ENOENT */
    uint64_t malformed;            /* messages that could not be decoded; answered with EIO */
    uint64_t batches;              /* calls of fusewire_read that handed something out */
    uint64_t system_calls;         /* made by this connection to read, wait and write */
    uint32_t open;                 /* requests handed out and not answered yet */
    uint32_t open_peak;
    uint32_t transport;         /* fusewire_transport in use */
    uint32_t buffers_used;      /* of options.buffers */
    uint64_t memory;            /* bytes of address space held for requests and buffers */
    char transport_reason[160]; /* why the transports above the one in use were not taken; empty where none stands above
                                 */
    uint32_t queues;            /* uring: CPUs that this connection serves */
    uint32_t queue_depth;       /* uring: requests of one CPU that can be open */
    uint64_t payload_size;      /* uring: bytes of the largest request or reply */
} fusewire_statistics;

/* A line for a log: which transport is in use, and why not those above it. Never NULL; valid until the next call with
 * this connection. */
const char *fusewire_describe_transport(fusewire_connection *connection);

/* statistics->size must be set. */
int fusewire_stats(fusewire_connection *connection, fusewire_statistics *statistics);
