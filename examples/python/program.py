"""What the example filesystems share: the command line that mount.fuse3 and fstab use, going into the background once
mounted, and a clean end on signals."""

import argparse
import asyncio
import errno
import logging
import logging.handlers
import os
import re
import signal
import sys

import fusewire

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP

#: Seconds that an unmount may take before the connection is stopped instead.
PATIENCE = 2.0


class Options:
    """The -o options: what the program and its filesystem take out of them, the rest is the library's."""

    def __init__(self, lists):
        # A comma behind a backslash belongs to the option.
        self._items = [item for text in lists for item in re.split(r"(?<!\\),", text) if item]

    def take(self, key, default=None, convert=str):
        """Takes out the last "key=value" and returns the value."""
        found = [item for item in self._items if item.partition("=")[0] == key]
        self._items = [item for item in self._items if item not in found]
        if not found:
            return default
        value = found[-1].partition("=")[2]
        try:
            return convert(value)
        except ValueError:
            raise SystemExit(f"{program_name()}: -o {key}={value}: not a value that it takes") from None

    def rest(self):
        return ",".join(self._items)


def program_name():
    return os.path.basename(sys.argv[0])


def main(make, *, name, description, own_options="", mount_options="", capabilities=(), **mount_arguments):
    """Mounts and serves what make(options, source) returns; ends the process. `own_options` are its lines of --help;
    `mount_options` and `capabilities` are always asked for."""
    parser = argparse.ArgumentParser(
        description=description,
        usage="%(prog)s [SOURCE] MOUNTPOINT [-f] [-d] [-o opt,...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"""options of -o:
  transport=NAME            how requests travel: auto, uring, ring or poll
  depth=N                   requests open at once
  queue_depth=N             over uring: requests of one CPU open at once
  max_write=N               bytes of one write request
{own_options}  and those of mount(8) and mount.fuse3(8): ro, allow_other, fsname=NAME, default_permissions ...""",
    )
    parser.add_argument("places", nargs="+", metavar="[SOURCE] MOUNTPOINT")
    parser.add_argument("-f", dest="foreground", action="store_true", help="stay in the foreground")
    parser.add_argument("-d", dest="debug", action="store_true", help="say what is asked and answered; implies -f")
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="opt,...", help="see below")
    arguments = parser.parse_args()
    if len(arguments.places) > 2:
        parser.error("too many arguments")
    *sources, mountpoint = arguments.places
    source = sources[0] if sources else None

    options = Options(arguments.options)
    transport = options.take("transport", "auto")
    if transport not in ("auto", "uring", "ring", "poll"):
        raise SystemExit(f"{program_name()}: -o transport={transport}: there are auto, uring, ring and poll")
    numbers = {key: options.take(key, 0, int) for key in ("depth", "queue_depth", "max_write")}
    if options.take("workers", "1") != "1":
        raise SystemExit(f"{program_name()}: -o workers: this filesystem lives in one process")
    filesystem = make(options, source)

    def mount():
        try:
            return fusewire.mount(
                mountpoint,
                fsname=options.take("fsname", source or name),
                subtype=options.take("subtype", name),
                options=",".join(filter(None, (mount_options, options.rest()))),
                transport=transport,
                capabilities=capabilities,
                **numbers,
                **mount_arguments,
            )
        except (OSError, ValueError, OverflowError) as error:
            words = getattr(error, "strerror", None) or error
            raise SystemExit(f"{program_name()}: {mountpoint}: {words}") from None

    # Who is asked to end while mounting does so once mounted: a server that dies leaves a dead mount behind.
    asked = []
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: asked.append(number))
    logging.basicConfig(level=logging.DEBUG if arguments.debug else logging.WARNING, format="%(message)s")
    if arguments.foreground or arguments.debug:
        connection = mount()
    else:
        mounted = into_background()
        connection = mount()
        mounted()
    with connection:
        try:
            asyncio.run(serve(connection, filesystem, asked))
        except fusewire.Aborted as error:
            raise SystemExit(f"{program_name()}: {mountpoint}: {error.strerror}") from None


def into_background():
    """Goes on in a child process. The parent waits until the function that is returned has been called, or the child
    has ended, and exits with that status."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        if os.read(reader, 1):
            os._exit(0)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or 1)
    os.close(reader)
    os.setsid()

    def mounted():
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        os.close(null)
        if os.path.exists("/dev/log"):
            handler = logging.handlers.SysLogHandler("/dev/log")
            handler.ident = f"{program_name()}[{os.getpid()}]: "
            logging.getLogger().addHandler(handler)
        os.write(writer, b"\0")
        os.close(writer)

    return mounted


async def serve(connection, filesystem, asked):
    """Serves until the filesystem is unmounted; a signal unmounts it, a second one does not wait for that."""
    loop = asyncio.get_running_loop()

    def end(number):
        asked.append(number)
        if len(asked) == 1:
            unmount()
        else:
            connection.stop()

    def unmount():
        try:
            connection.unmount()
        except OSError as error:
            # Where somebody else mounted it, it is not for us to unmount.
            if error.errno != errno.EINVAL:
                logging.error("unmount: %s", error.strerror)
            connection.stop()
        else:
            loop.call_later(PATIENCE, connection.stop)

    for number in SIGNALS:
        loop.add_signal_handler(number, end, number)
    if asked:
        unmount()
    await connection.serve(filesystem)
