"""Requests to handlers and results to replies, whatever the event loop."""

from __future__ import annotations

import errno
import logging
from collections.abc import Coroutine
from itertools import count
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Callable

from ._core import lib
from .batch import BATCH, RECORD_SIZE, new_batch
from .constants import Capability, Opcode
from .directory import Listing
from .errors import ReplyRefused, Stopped, read_failure
from .filesystem import handler_of
from .paths import PathFilesystem, PathHandlers
from .replies import ENCODERS, Encoder, reply_open, reply_readdirplus_bare
from .request import NAMED, OPERATIONS, Request
from .types import Statfs

if TYPE_CHECKING:
    from .connection import Connection

Handler = Callable[[Request], Any]

logger = logging.getLogger("fusewire")

#: Batches handed out before the event loop gets its turn.
_BATCHES = 16

# What an OSError without an errno of its own stands for.
_ERRNO_OF_CLASS = {
    BlockingIOError: errno.EAGAIN,
    BrokenPipeError: errno.EPIPE,
    ChildProcessError: errno.ECHILD,
    ConnectionError: errno.ECONNABORTED,
    FileExistsError: errno.EEXIST,
    FileNotFoundError: errno.ENOENT,
    InterruptedError: errno.EINTR,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    PermissionError: errno.EACCES,
    ProcessLookupError: errno.ESRCH,
    TimeoutError: errno.ETIMEDOUT,
}


def _errno_of(error: OSError) -> int | None:
    if error.errno is None:
        return next((code for kind, code in _ERRNO_OF_CLASS.items() if isinstance(error, kind)), None)
    # The kernel takes no others, and would let the client hang.
    return error.errno if isinstance(error.errno, int) and 1 <= error.errno <= 511 else None


def _fail_with(code: int) -> Handler:
    def handler(request: Request) -> None:
        raise OSError(code, f"there is no handler for {request.operation}")

    return handler


def _nothing(request: Request) -> None:
    return None


# In place of handlers that a filesystem lacks. For all others ENOSYS, which the kernel remembers where that is useful:
# it does without OPEN, FLUSH, FSYNC, ACCESS, extended attributes, LSEEK ... from then on.
_DEFAULTS: dict[str, Handler] = {
    "destroy": _nothing,
    "forget": _nothing,
    "interrupt": _nothing,
    "ioctl": _fail_with(errno.ENOTTY),
    "notify_reply": _nothing,
    "opendir": _nothing,
    "outcome": _nothing,
    "release": _nothing,
    "releasedir": _nothing,
    "statfs": lambda request: Statfs(),
}


def _truncates_on_open(connection: Connection) -> bool:
    try:
        return connection.negotiated().has(Capability.ATOMIC_O_TRUNC)
    except OSError:
        return True  # INIT is still to come


class _Directories:
    """Serves offsets in open folders from a snapshot, made when a folder is read from its beginning."""

    def __init__(self) -> None:
        self._listings: dict[tuple[int, int], Listing] = {}
        self._handles = count(1)

    def opened(self, connection: Connection, request: Request, result: Any) -> None:
        # A handle of its own for each open folder, where the filesystem has no opinion.
        reply_open(connection, request, next(self._handles) if result is None else result)

    def reading(self, handler: Handler) -> Handler:
        def read(request: Request) -> Any:
            if request.offset:
                listing = self._listings.get((request.node, request.fh))
                if listing is not None:
                    return listing
            return handler(request)

        return read

    def listed(self, encode: Encoder) -> Encoder:
        def reply(connection: Connection, request: Request, result: Any) -> None:
            if not isinstance(result, (Listing, bytes, bytearray, memoryview)):
                result = self._listings[request.node, request.fh] = Listing(result, request.node)
            encode(connection, request, result)

        return reply

    def closing(self, handler: Handler) -> Handler:
        def close(request: Request) -> Any:
            self._listings.pop((request.node, request.fh), None)
            return handler(request)

        return close


async def _await(awaitable: Any) -> Any:
    return await awaitable


async def _collect(iterable: Any) -> list[Any]:
    return [item async for item in iterable]


class Dispatcher:
    """Hands requests to a filesystem's handlers. A subclass, one for each kind of event loop, calls turn when the
    connection is readable and says how a coroutine is run."""

    #: What the loop's tasks raise when they are cancelled; nothing where there are no tasks.
    cancelled: type[BaseException] | tuple[()] = ()

    #: Milliseconds that a read waits for requests; -1: without end.
    timeout = 0

    def __init__(self, connection: Connection, filesystem: object) -> None:
        self.connection = connection
        self._table: dict[int, tuple[Handler, Encoder, bool]] = {}
        # What was read and not handled yet: a batch, the index of its next record, and their number.
        self._rest: tuple[Any, int, int] | None = None
        if isinstance(filesystem, PathFilesystem):
            filesystem = PathHandlers(filesystem)
        directories = _Directories()
        for opcode, encode in ENCODERS.items():
            name = OPERATIONS[opcode]
            found = handler_of(filesystem, name)
            if opcode == Opcode.READDIRPLUS and found is None:
                found, encode = handler_of(filesystem, "readdir"), reply_readdirplus_bare
            handler = found or _DEFAULTS.get(name) or _fail_with(errno.ENOSYS)
            if opcode == Opcode.OPEN and found is None:
                # With ENOSYS the kernel opens files by itself from then on, without a message. Then it neither tells of
                # their release nor truncates on O_TRUNC where it was to leave that to OPEN.
                if handler_of(filesystem, "release") or _truncates_on_open(connection):
                    handler = _nothing
            elif opcode == Opcode.OPENDIR:
                encode = directories.opened
            elif opcode in (Opcode.READDIR, Opcode.READDIRPLUS):
                handler, encode = directories.reading(handler), directories.listed(encode)
            elif opcode == Opcode.RELEASEDIR:
                handler = directories.closing(handler)
            elif opcode == Opcode.INTERRUPT:
                handler = self._interrupting(handler)
            if logger.isEnabledFor(logging.DEBUG):
                handler, encode = _logged(handler, encode)
            self._table[opcode] = handler, encode, opcode in NAMED

    # ---- to be supplied for each kind of event loop ----

    def start(self, request: Request, encode: Encoder, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Runs a handler's coroutine, and encodes its result as the reply. May raise what the coroutine raises. True:
        the turn has to end here, and the next one goes on with the rest of the batch."""
        raise NotImplementedError

    def interrupt(self, id: int) -> None:
        """Cancels the handler of a request, if it is still running."""
        raise NotImplementedError

    # ---- for them to use ----

    def turn(self) -> None:
        """Reads and handles what there is. Raises Unmounted, Aborted or Stopped at the end."""
        if self._rest is not None and self._handle_batch(*self._rest):
            return
        for _ in range(_BATCHES):
            batch = new_batch()
            number = self._read(batch)
            if number == 0 or self._handle_batch(batch, 0, number):
                return

    def _read(self, batch: Any) -> int:
        connection, timeout = self.connection, self.timeout
        connection._waiting = timeout != 0
        try:
            number: int = lib.fusewire_read(connection._handle, batch, BATCH, RECORD_SIZE, timeout)
            # A signal's Python handler runs here, and may raise: the requests then stay open, and closing answers them.
        finally:
            connection._waiting = False
        if number >= 0:
            return number
        if number == -errno.EINTR:
            return 0
        if connection.closed:
            raise Stopped(errno.ESHUTDOWN, "the connection was closed")
        raise read_failure(number)

    def _handle_batch(self, batch: Any, first: int, number: int) -> bool:
        """Handles the records of a batch from `first` on. True: not all of them, the turn has to end."""
        connection, table = self.connection, self._table
        self._rest = None
        for i in range(first, number):
            record = batch[i]
            request = Request(connection, batch, record)
            result = None
            leave = False
            try:
                handler, encode, named = table[record.opcode]
                if named and connection._handle:
                    request._decode_names()
                result = handler(request)
                if result.__class__ is CoroutineType:
                    leave = self.start(request, encode, result)
                else:
                    encode(connection, request, result)
            except Exception as error:
                leave = self._settle(request, result, error)
            except self.cancelled:
                self.answer_error(request, errno.EINTR)
            except BaseException:
                # The program is about to end: its clients get their answers first.
                for j in range(i, number):
                    self.answer_error(Request(connection, batch, batch[j]), errno.EIO)
                raise
            if leave:
                self._rest = batch, i + 1, number
                return True
        return False

    def answer_rest(self) -> None:
        """Answers what was read and will not be handled any more."""
        if self._rest is not None:
            (batch, first, number), self._rest = self._rest, None
            for i in range(first, number):
                self.answer_error(Request(self.connection, batch, batch[i]), errno.EIO)

    def _settle(self, request: Request, result: Any, error: Exception) -> bool:
        """A plain handler failed, or returned what its encoder does not take; that may still be an awaitable. Returns
        what start does."""
        opcode = request.opcode
        if opcode not in self._table:
            self.answer_error(request, errno.ENOSYS)
            return False
        if isinstance(error, TypeError):
            wrap = _await if hasattr(result, "__await__") else _collect if hasattr(result, "__aiter__") else None
            if wrap is not None and result.__class__ is not CoroutineType:
                try:
                    return self.start(request, self._table[opcode][1], wrap(result))
                except Exception as another:
                    error = another
        self.fail(request, error)
        return False

    def fail(self, request: Request, error: Exception) -> None:
        """Answers a request whose handler raised `error`."""
        code: int | None = None
        if isinstance(error, ReplyRefused):
            if error.errno == errno.ENOTCONN:
                return  # the connection has ended, and nobody waits any more
        elif isinstance(error, OSError):
            code = _errno_of(error)
        if code is None:
            logger.error("%r failed", request, exc_info=error)
            code = errno.EIO
        self.answer_error(request, code)

    def answer_error(self, request: Request, code: int) -> None:
        if request.answered:
            return
        logger.debug("%r: %s", request, errno.errorcode.get(code, code))
        try:
            self.connection.reply_error(request, code)
        except ReplyRefused as error:
            logger.debug("%r: %s", request, error)

    def _interrupting(self, handler: Handler) -> Handler:
        def interrupted(request: Request) -> Any:
            self.interrupt(request.id)
            return handler(request)

        return interrupted


def _logged(handler: Handler, encode: Encoder) -> tuple[Handler, Encoder]:
    def handle(request: Request) -> Any:
        logger.debug("%r", request)
        return handler(request)

    def reply(connection: Connection, request: Request, result: Any) -> None:
        encode(connection, request, result)
        logger.debug("%r: %.200r", request, result)

    return handle, reply
