"""What the tests of the Python package serve."""

import asyncio
import errno

import trio

import fusewire
from fusewire import Attr


TEXT = b"the quick brown fox\n"


def is_in_trio():
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


async def sleep(seconds):
    """In the event loop that runs."""
    await (trio if is_in_trio() else asyncio).sleep(seconds)


def event():
    return (trio if is_in_trio() else asyncio).Event()


class Files:
    """A root folder with some files, whose contents are TEXT. Nothing is cached."""

    def __init__(self, *names):
        self.root = Attr.dir(fusewire.ROOT)
        self.files = {name: Attr.file(number, size=len(TEXT)) for number, name in enumerate(names or ("file",), 2)}

    def attr(self, request):
        if request.node == fusewire.ROOT:
            return self.root
        return next(attr for attr in self.files.values() if attr.ino == request.node)

    def getattr(self, request):
        return self.attr(request)

    def lookup(self, request):
        if request.name not in self.files:
            raise OSError(errno.ENOENT, "no such file")
        return self.files[request.name]

    def readdir(self, request):
        return self.files

    def open(self, request):
        return fusewire.Opened(flags=fusewire.FOPEN_DIRECT_IO)

    def read(self, request):
        return TEXT[request.offset : request.offset + request.size]


class Waiting(Files):
    """Reads that wait, and say what became of them."""

    def __init__(self):
        super().__init__("file", "outcome")
        self.outcome = ""

    async def read(self, request):
        if request.node == self.files["outcome"].ino:
            return self.outcome.encode()[request.offset :]
        self.outcome = "waiting"
        try:
            await sleep(1000)
        except (asyncio.CancelledError, trio.Cancelled):
            self.outcome = "cancelled"
            raise
        return b""


def answer(filesystem, request):
    """What serve does, by hand."""
    handler = getattr(filesystem, request.operation, None)
    if request.answered:
        return
    if handler is None:
        request.reply_error(errno.ENOSYS)
        return
    try:
        result = handler(request)
    except OSError as error:
        request.reply_error(error.errno)
    else:
        request.reply(result)
