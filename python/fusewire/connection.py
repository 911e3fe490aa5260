"""The connection to the kernel."""

from __future__ import annotations

import atexit
import contextlib
import errno
import math
import os
import threading
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._core import ffi, lib
from .batch import BATCH, RECORD_SIZE, new_batch
from .constants import Transport
from .errors import ReplyRefused, Stopped, Unmounted, check, failure, read_failure, refused, string
from .options import mount_options, open_options
from .replies import ENCODERS
from .request import NAMED, UNANSWERED, OwnedRequest, Request
from .types import Session, Statistics, timeout_parts

if TYPE_CHECKING:
    from ._serving import Serving

__all__ = ["Connection", "adopt", "mount", "open_device", "worker_count", "worker_cpus"]


# What is still open when the program ends is closed then, so that no dead mount stays behind.
_OPEN: weakref.WeakSet[Connection] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for connection in list(_OPEN):
        with contextlib.suppress(OSError, RuntimeError):
            connection.close()


class Connection:
    """A connection to the kernel, or a clone of one: what mount returns. It is used at three heights.

    Raw, from any event loop: poll fileno() for reading; when it is readable call read(0) until it returns no request;
    answer each request with reply or reply_error, at once or later.

    As an iterable of requests: `for request in connection` blocks, `async for request in connection` runs in an asyncio
    or trio loop. Both end when the filesystem is unmounted or the connection stopped.

    With handlers: `await connection.serve(filesystem)`, or `connection.run(filesystem)` without an event loop.

    A connection belongs to one thread; stop and wake alone may be called from any thread and from signal handlers.
    Leaving a `with` block (or `async with`) closes it, which unmounts what it mounted; so does the end of the
    program."""

    def __init__(self, handle: Any, attr_timeout: float = 1.0, entry_timeout: float = 1.0, workers: int = 0) -> None:
        self._handle = handle
        #: How many worker processes run starts; 0: it serves in this one.
        self.workers = workers
        # Entries are encoded here when a handler returns a bare Attr; the timeouts are preset.
        self._entry = ffi.new("fusewire_entry *")
        self._entry.attr_valid, self._entry.attr_valid_nsec = timeout_parts(attr_timeout)
        self._entry.entry_valid, self._entry.entry_valid_nsec = timeout_parts(entry_timeout)
        self._listing: Any = None
        self._thread = 0
        self._waiting = False
        self._serving = False
        self._lost: list[int] = []
        # Requests whose memory somebody looks at, by the identity of their object.
        self._lent: dict[int, weakref.ref[Request]] = {}
        _OPEN.add(self)

    # ---- Life ----

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        return f"<fusewire.Connection {f'fd={self.fileno()}' if self._handle else 'closed'}>"

    @property
    def closed(self) -> bool:
        return not self._handle

    def close(self) -> None:
        """Ends the connection: answers what is still open with EIO, unmounts what this connection mounted, and frees
        everything. Closing twice does nothing."""
        if self._waiting:
            raise RuntimeError("another thread is reading from the connection: stop it and wait for that thread first")
        for reference in list(self._lent.values()):
            request = reference()
            if request is not None:
                request._release_failed()
        handle, self._handle = self._handle, ffi.NULL
        if handle:
            check(lib.fusewire_close(handle))

    def unmount(self) -> None:
        """Asks for the mount to be detached, without waiting: go on serving what that causes (cached writes), until
        reading says that it is over."""
        check(lib.fusewire_unmount(self._open_handle()))

    def stop(self) -> None:
        """Stops the connection and all its clones, also those in other processes: reading from them ends. Works from
        any thread and from signal handlers, whether or not the mount is still there or busy."""
        check(lib.fusewire_notify_unmount(self._open_handle()))

    def wake(self) -> None:
        """Makes the read that waits, or else the next one that would, return nothing. From any thread."""
        if self._handle:
            lib.fusewire_wake(self._handle)

    def clone(
        self,
        *,
        transport: str | int | None = None,
        cpus: str | Iterable[int] | None = None,
        depth: int = 0,
        buffers: int = 0,
        queue_depth: int = 0,
    ) -> Connection:
        """A second channel to the same mount: what is read from it has to be answered on it. It belongs to the thread
        and process that first read from it: clone in the parent, fork, use it in the child, and close it in the parent
        when the child has ended. A child that has died is replaced so: make another clone for the same CPUs, close the
        old one, then fork. What the dead one had read and not answered ends with EIO (or ECONNABORTED).

        What is not given is as in the original; worker_cpus gives `cpus` for one of several workers."""
        options, _keep = open_options(
            transport=transport or "auto", cpus=cpus, depth=depth, buffers=buffers, queue_depth=queue_depth
        )
        out = ffi.new("fusewire_connection **")
        check(lib.fusewire_clone(out, self._open_handle(), options))
        clone = Connection(out[0])
        clone._entry[0] = self._entry[0]
        return clone

    def pin(self) -> None:
        """Binds the calling thread to the CPUs that the connection serves; where they have no queues of their own (the
        mount does not use FUSE-over-io_uring) it does nothing. OSError where none of them can be used."""
        check(lib.fusewire_pin(self._open_handle()))

    # ---- What it is ----

    def fileno(self) -> int:
        """The descriptor to poll for reading; the library's own, never to be read or closed."""
        return check(lib.fusewire_fd(self._open_handle()))

    def device_fd(self) -> int:
        """The /dev/fuse descriptor; the library's own. To mount it, or to hand it to another process."""
        return check(lib.fusewire_device_fd(self._open_handle()))

    def negotiated(self) -> Session:
        """What INIT agreed upon; OSError with EAGAIN before it."""
        c = ffi.new("fusewire_session *")
        c.size = ffi.sizeof("fusewire_session")
        check(lib.fusewire_negotiated(self._open_handle(), c))
        return Session(*(getattr(c, field) for field in Session._fields))

    def describe_transport(self) -> str:
        """A line for a log: how requests travel, and why not by a better transport."""
        return string(lib.fusewire_describe_transport(self._open_handle()))

    def stats(self) -> Statistics:
        c = ffi.new("fusewire_statistics *")
        c.size = ffi.sizeof("fusewire_statistics")
        check(lib.fusewire_stats(self._open_handle(), c))
        values = {field: getattr(c, field) for field in Statistics._fields}
        values["transport"] = Transport(c.transport).name.lower()
        values["transport_reason"] = string(c.transport_reason)
        return Statistics(**values)

    # ---- Reading ----

    def read(self, timeout: float | None = None) -> list[Request]:
        """Sends the replies that wait, then returns a batch of requests. Waits up to `timeout` seconds for the first
        one (None: without end; 0: not at all); returns an empty list after that, or after wake.

        Each request has to be answered, those with id 0 excepted; one that is lost unanswered is answered with EIO.
        Raises Unmounted, Aborted or Stopped once nothing is left to hand out."""
        if self._lost:
            self._reply_all_lost()
        self._thread = threading.get_ident()
        batch = new_batch()
        count = self._fill(batch, timeout)
        requests: list[Request] = []
        for i in range(count):
            request = OwnedRequest(self, batch, batch[i])
            if request.opcode in NAMED:
                request._decode_names()
            requests.append(request)
        return requests

    def _fill(self, batch: Any, timeout: float | None) -> int:
        handle = self._open_handle()
        if timeout == 0:
            count: int = lib.fusewire_read(handle, batch, BATCH, RECORD_SIZE, 0)
        else:
            end = None if timeout is None else time.monotonic() + timeout
            self._waiting = True
            try:
                while True:
                    left = -1 if end is None else max(0, math.ceil((end - time.monotonic()) * 1000))
                    count = lib.fusewire_read(handle, batch, BATCH, RECORD_SIZE, left)
                    # A signal's Python handler runs here, between two calls, and may raise.
                    if count != -errno.EINTR:
                        break
            finally:
                self._waiting = False
        if count < 0:
            raise read_failure(count)
        return count

    def requests(self) -> Iterator[Request]:
        """The requests one by one, waiting for them; ends when the filesystem is unmounted or the connection
        stopped."""
        while True:
            try:
                batch = self.read()
            except (Unmounted, Stopped):
                return
            yield from batch

    __iter__ = requests

    def __aiter__(self) -> AsyncIterator[Request]:
        from ._loops import running

        requests: AsyncIterator[Request] = running().requests(self)
        return requests

    # ---- Serving ----

    async def serve(self, filesystem: object) -> None:
        """Serves until the filesystem is unmounted or the connection stopped; raises Aborted where it was aborted. It
        is awaited in an asyncio loop (uvloop's too) or in a trio one.

        Handlers are methods of `filesystem` named after the operations (lookup, getattr, read ...), plain or async.
        Each gets the Request; what it returns is the reply, what it raises the error: an OSError its errno, anything
        else EIO, with the traceback logged to "fusewire". A missing handler is answered as suits the operation, for
        most with ENOSYS.

        A plain handler, and an async one that does not suspend, costs no task. One that suspends goes on in a task of
        its own, which an interrupted client cancels. Cancelling serve cancels what is still running; in every case
        serve returns only when its handlers have."""
        from ._loops import running

        if self.workers:
            raise RuntimeError("the mount has workers, which are processes: serve it with Connection.run")
        await running().serve(self, filesystem)

    def serving(self, filesystem: object) -> Serving:
        """Serves in the background of a running program:

            async with fusewire.mount(path) as connection, connection.serving(filesystem):
                ...

        At the end of the block the filesystem is unmounted. What that causes is still served, such as cached data being
        written; if somebody keeps the mount busy for more than two seconds, the connection is stopped. Raises then what
        serve would."""
        from ._serving import Serving

        return Serving(self, filesystem)

    def run(self, filesystem: object, *, loop: str | None = None) -> None:
        """Serves until the filesystem is unmounted or the connection stopped, as serve does, but blocks: for programs
        without an event loop of their own. Where no handler is async it needs none; else it runs an asyncio loop.
        `loop` chooses: "blocking", "asyncio" or "trio".

        In the main thread SIGINT, SIGTERM and SIGHUP unmount, unless the program handles them itself; a second one
        stops at once.

        Where the connection was mounted with `workers`, as many processes are forked and serve, each its own copy of
        `filesystem` as it is now. A worker that dies is logged and replaced; what it had read ends with an error."""
        from ._ending import ended_by_signals
        from ._loops import run

        with ended_by_signals(self) as wakeup:
            if self.workers:
                from ._workers import supervise

                with self._serving_once():
                    supervise(self, self.workers, lambda clone: run(clone, filesystem, loop), wakeup)
            else:
                run(self, filesystem, loop, wakeup)

    # ---- Replies ----

    def reply(self, request: Request, result: object = None) -> None:
        """Answers a request with what a handler of its operation would return. Raises TypeError, ValueError or
        ReplyRefused where that cannot be its answer; the request then stays open, unless it was answered before. An
        answer that comes when the connection has ended is dropped: nobody waits for it, and the next read says so."""
        encode = ENCODERS.get(request.opcode)
        if encode is None:
            raise ValueError(f"how to answer {request.operation} is not known: use write or reply_error")
        try:
            encode(self, request, result)
        except ReplyRefused as error:
            if error.errno != errno.ENOTCONN:
                raise
            request._open = False

    def reply_error(self, request: Request, error: int) -> None:
        """Answers a request with an errno, which is positive and at most 511; otherwise as reply."""
        if request.opcode in UNANSWERED:
            raise ValueError(f"{request.operation} takes no answer")
        if request._views is not None:
            request._release_failed()
        code = lib.fusewire_reply_error(self._handle, request._record.id, -error)
        if code and code != -errno.ENOTCONN:
            raise refused(code)
        request._open = False

    def write(self, request: Request | None, head: Any, body: Any = b"", *, outcome: bool = False) -> None:
        """Sends a ready message, as the kernel takes it: the answer to `request`, or a notification (None). The 16-byte
        header and as much of the body as is convenient in `head`, the rest in `body`."""
        if request is not None and request._views is not None:
            request._release()
        code = lib.fusewire_write(
            self._handle,
            0 if request is None else request._record.id,
            ffi.from_buffer(head),
            len(head),
            ffi.from_buffer(body),
            len(body),
            lib.FUSEWIRE_WRITE_OUTCOME if outcome else 0,
        )
        if code:
            raise refused(code)
        if request is not None:
            request._open = False

    def expect_outcome(self, request: Request) -> None:
        """Asks that the outcome of this request's reply come back as a request with Opcode.OUTCOME, whose id and unique
        are this one's and whose error is 0, or -ENOENT where the client had vanished."""
        check(lib.fusewire_expect_outcome(self._open_handle(), request.id))

    # ---- Notifications ----

    def notify_inval_inode(self, node: int, offset: int = 0, size: int = 0) -> None:
        """Drops cached attributes, and the data of a range: size 0 to the end, offset < 0 attributes only."""
        check(lib.fusewire_notify_inval_inode(self._open_handle(), node, offset, size))

    def notify_inval_entry(self, parent: int, name: str, *, expire_only: bool = False) -> None:
        """Drops a cached name; with expire_only it is looked up again, while what is mounted there stays."""
        text = os.fsencode(name)
        flags = lib.FUSEWIRE_EXPIRE_ONLY if expire_only else 0
        check(lib.fusewire_notify_inval_entry(self._open_handle(), parent, text, len(text), flags))

    def notify_delete(self, parent: int, child: int, name: str) -> None:
        """Drops a cached name, and tells who watches it that the file was deleted."""
        text = os.fsencode(name)
        check(lib.fusewire_notify_delete(self._open_handle(), parent, child, text, len(text)))

    def notify_store(self, node: int, offset: int, data: Any) -> None:
        """Puts data into the page cache."""
        buffer = ffi.from_buffer(data)
        check(lib.fusewire_notify_store(self._open_handle(), node, offset, buffer, len(buffer)))

    def notify_retrieve(self, node: int, offset: int, size: int, unique: int) -> None:
        """Asks for cached data, which comes as a notify_reply request with this `unique`."""
        check(lib.fusewire_notify_retrieve(self._open_handle(), node, offset, size, unique))

    def notify_poll(self, kh: int) -> None:
        """Wakes who polls the file: kh from the poll request."""
        check(lib.fusewire_notify_poll(self._open_handle(), kh))

    def notify_resend(self) -> None:
        """Asks the kernel to send again what was read and not answered: for a successor."""
        check(lib.fusewire_notify_resend(self._open_handle()))

    def notify_inc_epoch(self) -> None:
        """Drops all cached names."""
        check(lib.fusewire_notify_inc_epoch(self._open_handle()))

    def notify_prune(self, nodes: Iterable[int]) -> None:
        """Asks the kernel to forget these inodes where it does not use them."""
        array = ffi.new("uint64_t[]", list(nodes))
        check(lib.fusewire_notify_prune(self._open_handle(), array, len(array)))

    # ---- Passthrough ----

    def backing_open(self, fd: int) -> int:
        """Registers an open file that the kernel may read and write by itself; its id goes into Opened."""
        return check(lib.fusewire_backing_open(self._open_handle(), fd))

    def backing_close(self, backing_id: int) -> None:
        check(lib.fusewire_backing_close(self._open_handle(), backing_id))

    # ---- for the package's own use ----

    @contextlib.contextmanager
    def _serving_once(self) -> Iterator[None]:
        if self._serving:
            raise RuntimeError("the connection is being served already")
        self._serving = True
        try:
            yield
        finally:
            self._serving = False

    def _open_handle(self) -> Any:
        handle = self._handle
        if not handle:
            raise ValueError("the connection is closed")
        return handle

    def _directory_buffer(self, size: int) -> Any:
        if self._listing is None or len(self._listing) < size:
            self._listing = ffi.new("char[]", max(size, 65536))
        return self._listing

    def _reply_lost(self, id: int) -> None:
        lib.fusewire_reply_error(self._handle, id, -errno.EIO)

    def _reply_all_lost(self) -> None:
        while self._lost:
            self._reply_lost(self._lost.pop())


def _open(
    path: Any, options: tuple[Any, list[Any]], attr_timeout: float, entry_timeout: float, workers: int = 0
) -> Connection:
    out = ffi.new("fusewire_connection **")
    c, _keep = options
    code = lib.fusewire_open(out, ffi.NULL if path is None else os.fsencode(path), c)
    if code < 0:
        raise failure(code, None if path is None else os.fsdecode(path))
    return Connection(out[0], attr_timeout, entry_timeout, workers)


def _number_of(workers: int | str | None) -> int:
    if workers is None:
        return 0
    if workers == "cpus":
        return worker_count()
    if not isinstance(workers, int) or workers < 1:
        raise ValueError(f"workers={workers!r}: it takes a number from 1 on, or 'cpus'")
    return workers


def worker_count() -> int:
    """How many workers are of use: the number of CPUs that this thread may run on."""
    return int(lib.fusewire_worker_count())


def worker_cpus(index: int, count: int) -> str:
    """The CPUs of worker `index` (from 0) of `count`, for the `cpus` of mount and clone. Every CPU of the machine,
    online or not, is in one share.

        with fusewire.mount(path, cpus="") as connection:
            count = fusewire.worker_count()
            clones = [connection.clone(cpus=fusewire.worker_cpus(i, count)) for i in range(count)]

    Each clone is then served by a thread or a forked process of its own, which calls its pin() first. A CPU's clients
    wait until somebody serves it."""
    text = ffi.new("char[]", 1 << 16)
    check(lib.fusewire_worker_cpus(index, count, text, len(text)))
    return string(text)


def mount(
    path: str | bytes | os.PathLike[Any],
    *,
    fsname: str | None = None,
    subtype: str | None = None,
    allow_other: bool = False,
    default_permissions: bool = False,
    read_only: bool = False,
    options: str = "",
    transport: str | int = "auto",
    capabilities: Iterable[int] = (),
    without_capabilities: Iterable[int] = (),
    attr_timeout: float = 1.0,
    entry_timeout: float = 1.0,
    depth: int = 0,
    buffers: int = 0,
    max_write: int = 0,
    max_readahead: int = 0,
    max_background: int = 0,
    congestion_threshold: int = 0,
    time_gran: int = 0,
    max_stack_depth: int = 0,
    request_timeout: int = 0,
    queue_depth: int = 0,
    cpus: str | Iterable[int] | None = None,
    workers: int | str | None = None,
    report_failures: bool = False,
) -> Connection:
    """Mounts a filesystem on `path` and returns its connection, which is to be served; closing it unmounts. A path of
    the form /dev/fd/N adopts a descriptor that the caller's parent mounted.

    `options` are further mount options, as after mount's -o. `transport` is "auto", "uring" (FUSE-over-io_uring),
    "ring" (io_uring on /dev/fuse) or "poll"; `capabilities` are to be asked for beyond the default ones. attr_timeout
    and entry_timeout say for how many seconds the kernel may rely on attributes and names, where a reply does not say
    so itself.

    `workers` is how many processes Connection.run starts, each with a share of the CPUs: a number, or "cpus" for one
    for each CPU that may be used. It is for filesystems whose processes need not share what they know.

    `cpus` is for workers of one's own making, which over "uring" each serve the clients of their share of the CPUs:
    those of this connection, as "0,2-5" or as numbers; "" for none, where clones serve them all. `queue_depth` is how
    many requests of one CPU can be open. The rest is as in fusewire_options; 0 is always the library's default.
    Raises OSError with words that say what to do."""
    count = _number_of(workers)
    if count and cpus is None:
        cpus = ""  # the parent serves none
    flags = {"allow_other": allow_other, "default_permissions": default_permissions, "ro": read_only}
    return _open(
        path,
        open_options(
            mount_options=mount_options(options, fsname, subtype, **flags),
            transport=transport,
            capabilities=capabilities,
            without_capabilities=without_capabilities,
            report_failures=report_failures,
            cpus=cpus,
            depth=depth,
            buffers=buffers,
            max_write=max_write,
            max_readahead=max_readahead,
            max_background=max_background,
            congestion_threshold=congestion_threshold,
            time_gran=time_gran,
            max_stack_depth=max_stack_depth,
            request_timeout=request_timeout,
            queue_depth=queue_depth,
        ),
        attr_timeout,
        entry_timeout,
        count,
    )


def adopt(
    fd: int,
    *,
    session: Session | None = None,
    raw: bool = False,
    transport: str | int = "auto",
    attr_timeout: float = 1.0,
    entry_timeout: float = 1.0,
    depth: int = 0,
    buffers: int = 0,
    queue_depth: int = 0,
    cpus: str | Iterable[int] | None = None,
) -> Connection:
    """A connection over a /dev/fuse descriptor that somebody else mounts; the caller keeps and closes its own.
    `session` is what a predecessor's INIT agreed upon; with `raw` INIT and all that follows is the caller's."""
    options = open_options(
        session=session,
        fd=fd,
        raw=raw,
        transport=transport,
        cpus=cpus,
        depth=depth,
        buffers=buffers,
        queue_depth=queue_depth,
    )
    return _open(None, options, attr_timeout, entry_timeout)


def open_device(
    *,
    raw: bool = False,
    transport: str | int = "auto",
    attr_timeout: float = 1.0,
    entry_timeout: float = 1.0,
    depth: int = 0,
    buffers: int = 0,
    queue_depth: int = 0,
    cpus: str | Iterable[int] | None = None,
) -> Connection:
    """Opens /dev/fuse only: mount device_fd(), then read."""
    options = open_options(
        raw=raw, transport=transport, cpus=cpus, depth=depth, buffers=buffers, queue_depth=queue_depth
    )
    return _open(None, options, attr_timeout, entry_timeout)
