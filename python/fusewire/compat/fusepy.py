"""The interface of the package fusepy, for its programs: `import fusewire.compat.fusepy as fuse`, or unchanged

    python3 -m fusewire.compat.fusepy PROGRAM ARGUMENTS...

which also stands in for mfusepy. docs/python/porting-fusepy.md says what is different, and how to go on from here."""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Callable

from ..connection import Connection, mount
from ..errors import Aborted
from ..paths import current_request
from ..types import timeout_parts
from ._operations import ASSUMED, Adapter, Handlers, Settings, fuse_file_info, log

__all__ = [
    "FUSE",
    "ENOTSUP",
    "FuseOSError",
    "LoggingMixIn",
    "Operations",
    "fuse_exit",
    "fuse_file_info",
    "fuse_get_context",
]

ENOTSUP = errno.ENOTSUP

#: Numbers that mount takes.
_NUMBERS = frozenset(("max_write", "max_readahead", "max_background", "congestion_threshold"))

#: Options of libfuse, or of other systems, that mean nothing here: what they ask for is so anyway, or does not exist.
_WITHOUT_MEANING = frozenset(
    """ac_attr_timeout async_read atomic_o_trunc auto_cache big_writes clone_fd daemon_timeout defer_permissions intr
    intr_signal iosize large_read local max_idle_threads max_threads modules no_remote_flock no_remote_lock
    no_remote_posix_lock no_splice_move no_splice_read no_splice_write noappledouble noapplexattr nobrowse noforget
    nolocalcaches nopath nullpath_ok parallel_direct_write readdir_ino remember splice_move splice_read splice_write
    sync_read volname""".split()
)


class FuseOSError(OSError):
    """An error for the client, by its errno."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno, os.strerror(errno))


def fuse_get_context() -> tuple[int, int, int]:
    """Who asks: uid, gid and pid. Zeros where no operation is being handled."""
    try:
        request = current_request()
    except LookupError:
        return 0, 0, 0
    return request.uid, request.gid, request.pid


#: The connections that FUSE serves, by when they were made.
_serving: list[Connection] = []


def fuse_exit() -> None:
    """Ends the mount: FUSE(...) returns. Within an operation its own mount, elsewhere the one that began last."""
    try:
        connection = current_request().connection
    except LookupError:
        if not _serving:
            return
        connection = _serving[-1]
    connection.stop()


def _answering(result: Any) -> Callable[..., Any]:
    return lambda self, *arguments: result


def _refusing(code: int) -> Callable[..., Any]:
    def refuse(self: Any, *arguments: Any) -> Any:
        raise FuseOSError(code)

    return refuse


class Operations:
    """The base class of a filesystem. Methods that return nothing else return None or 0; an error is raised as a
    FuseOSError. An operation that is set to None is not there.

    getattr(path, fh=None) returns a dict of st_*, with times in seconds, or in nanoseconds where the object has
    use_ns = True; readdir(path, fh) names, or tuples of a name, such a dict and an offset; open(path, flags) and
    create(path, mode) a number, which later comes back as fh; statfs(path) a dict of f_*. The others are
    access(path, amode), chmod(path, mode), chown(path, uid, gid), flush(path, fh), fsync(path, datasync, fh),
    fsyncdir(path, datasync, fh), getxattr(path, name), ioctl(path, cmd, arg, fh, flags, data), link(target, source),
    listxattr(path), mkdir(path, mode), mknod(path, mode, dev), opendir(path), read(path, size, offset, fh),
    readlink(path), release(path, fh), releasedir(path, fh), removexattr(path, name), rename(old, new), rmdir(path),
    setxattr(path, name, value, options), symlink(target, source), truncate(path, length, fh=None), unlink(path),
    utimens(path, times), write(path, data, offset, fh), init(path) and destroy(path)."""

    bmap = None
    lock = None

    destroy = init = _answering(None)
    access = flush = fsync = fsyncdir = open = opendir = release = releasedir = utimens = _answering(0)
    listxattr = _answering(())
    statfs = _answering({})
    readdir = _answering((".", ".."))
    chmod = chown = create = link = mkdir = mknod = rename = rmdir = symlink = _refusing(errno.EROFS)
    truncate = unlink = write = _refusing(errno.EROFS)
    getxattr = removexattr = setxattr = _refusing(errno.ENOTSUP)
    read = _refusing(errno.EIO)
    readlink = _refusing(errno.ENOENT)
    ioctl = _refusing(errno.ENOTTY)

    def getattr(self, path: str, fh: Any = None) -> dict[str, Any]:
        if path != "/":
            raise FuseOSError(errno.ENOENT)
        return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}

    def __call__(self, op: str, *args: Any) -> Any:
        """Every operation is called through here, so that a subclass can do something about all of them."""
        method = getattr(self, op, None)
        if method is None:
            raise FuseOSError(errno.EFAULT)
        return method(*args)


class LoggingMixIn:
    """Logs each operation and its result to "fuse.log-mixin": class Example(LoggingMixIn, Operations)."""

    log = logging.getLogger("fuse.log-mixin")

    def __call__(self, op: str, path: str, *args: Any) -> Any:
        self.log.debug("-> %s %s %r", op, path, args)
        result: Any = "[Unhandled Exception]"
        try:
            result = getattr(self, op)(path, *args)
            return result
        except OSError as error:
            result = str(error)
            raise
        finally:
            self.log.debug("<- %s %r", op, result)


class FUSE:
    """Mounts `operations` on `mountpoint` and serves it until it is unmounted; then returns, or raises what ended it.

    With raw_fi the operations get a fuse_file_info in place of flags and fh. `encoding` and `errors` are the paths'.
    Further arguments are options: foreground (else the rest of the program runs in the background), debug; those of
    mount, such as allow_other=True or fsname="name"; those of libfuse. transport=NAME is fusewire's own.

    The operations run one after the other."""

    CALLS_OPERATIONS = True
    CREATE_TAKES_FLAGS = False

    def __init__(
        self,
        operations: Any,
        mountpoint: Any,
        raw_fi: bool = False,
        encoding: str = "utf-8",
        errors: str = "surrogateescape",
        **kwargs: Any,
    ) -> None:
        self.operations = operations
        self.raw_fi = raw_fi
        self.encoding = encoding
        self.errors = errors
        self.use_ns = getattr(operations, "use_ns", False)
        debug = kwargs.pop("debug", False)
        foreground = kwargs.pop("foreground", False) or debug
        kwargs.pop("nothreads", None)
        kwargs.setdefault("fsname", type(operations).__name__)
        settings, arguments = _settings(kwargs)
        if debug:
            logging.basicConfig()
            logging.getLogger("fusewire").setLevel(logging.DEBUG)
        with (_in_foreground if foreground else _in_background)() as mounted:
            try:
                connection = mount(mountpoint, **arguments)
            except (OSError, ValueError) as error:
                raise RuntimeError(getattr(error, "strerror", None) or str(error)) from error
            mounted()
        with connection:
            _serving.append(connection)
            try:
                self._serve(connection, Adapter(self, operations, settings))
            finally:
                _serving.remove(connection)
        del self.operations  # it may be done now

    def _serve(self, connection: Connection, adapter: Adapter) -> None:
        self._init(connection, adapter)
        handlers = Handlers(adapter)
        try:
            connection.run(handlers, loop="blocking")
        except Aborted:
            pass  # an unmount by force
        finally:
            handlers.finish()
            if adapter.has("destroy"):
                adapter.call("destroy", "/")

    def _init(self, connection: Connection, adapter: Adapter) -> None:
        settings = adapter.settings
        if adapter.has("init_with_config"):
            # Plain calls: what these raise ends the program.
            self.operations.init_with_config(SimpleNamespace(capable=0, want=0), settings)
            adapter.use_ino = settings.use_ino
            defaults = connection._entry
            defaults.attr_valid, defaults.attr_valid_nsec = timeout_parts(settings.attr_timeout)
            defaults.entry_valid, defaults.entry_valid_nsec = timeout_parts(settings.entry_timeout)
        elif adapter.has("init"):
            adapter.call("init", "/")

    @classmethod
    def is_default(cls, operations: Any, name: str, method: Any) -> bool:
        """Is it one of Operations' methods that say no more than if there were none?"""
        if method is not getattr(Operations, name, None) or name not in ASSUMED:
            return False
        # Where all calls go through a __call__ of its own the method is not all there is.
        return type(operations).__call__ in (Operations.__call__, LoggingMixIn.__call__)


def _settings(options: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """FUSE's options as what libfuse would do about them, and as arguments of mount."""
    settings = Settings()
    arguments: dict[str, Any] = {}
    texts = []
    for key, value in options.items():
        if key in _WITHOUT_MEANING:
            log.debug("the option %s has no meaning here", key)
        elif key == "umask":
            settings.umask = int(value, 8) if isinstance(value, str) else int(value)
        elif key in ("uid", "gid"):
            setattr(settings, key, int(value))
        elif key.endswith("_timeout") and hasattr(Settings, key):
            setattr(settings, key, float(value))
        elif hasattr(Settings, key):
            setattr(settings, key, bool(value))
        elif key in _NUMBERS:
            arguments[key] = int(value)
        elif key in ("fsname", "subtype", "transport"):
            arguments[key] = str(value)
        elif value is True:
            texts.append(key)
        elif value is not False:
            texts.append(f"{key}={str(value)}".replace("\\", "\\\\").replace(",", "\\,"))
    arguments.update(options=",".join(texts), attr_timeout=settings.attr_timeout, entry_timeout=settings.entry_timeout)
    return settings, arguments


@contextmanager
def _in_foreground() -> Iterator[Callable[[], None]]:
    yield lambda: None


@contextmanager
def _in_background() -> Iterator[Callable[[], None]]:
    """Goes on in a child process. The parent ends when the function has been called that this gives; where the child
    fails before, it raises what the child did."""
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        said = os.read(reader, 4096)
        os.close(reader)
        if said == b"\0":
            os._exit(0)
        os.waitpid(child, 0)
        raise RuntimeError(os.fsdecode(said) or "the process in the background has ended")
    os.close(reader)

    def mounted() -> None:
        os.setsid()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        os.close(null)
        os.write(writer, b"\0")
        os.close(writer)

    try:
        yield mounted
    except Exception as error:
        os.write(writer, os.fsencode(str(error)))
        os._exit(1)


if __name__ == "__main__":
    from fusewire.compat import _program, fusepy, mfusepy

    _program.run("fusewire.compat.fusepy", {"fuse": fusepy, "fusepy": fusepy, "mfusepy": mfusepy})
