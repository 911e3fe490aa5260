"""Every way to mount and unmount, and every way in which that fails, driven through build/tests/mount/mount_driver."""

import contextlib
import errno
import os
import pathlib
import re
import select
import shutil
import subprocess
import tempfile
import time

import pytest

BUILD = pathlib.Path(os.environ.get("FUSEWIRE_BUILD", pathlib.Path(__file__).resolve().parents[1] / "build")).resolve()
DRIVER = BUILD / "tests" / "mount" / "mount_driver"
NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="no /dev/fuse"),
]


def until(condition, seconds=5):
    """Polls until the condition holds; says whether it did."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def mounts(path, table="/proc/self/mounts"):
    """What is mounted at a path, lowest first: (source, type, options)."""
    found = []
    with open(table) as lines:
        for line in lines:
            source, where, kind, options = re.sub(
                r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.replace(" ", "\0")
            ).split("\0")[:4]
            if where == str(path):
                found.append((source, kind, set(options.split(","))))
    return found


class Driver:
    """A mount_driver that runs, or has said why it does not."""

    def __init__(self, *arguments, prefix=(), silent=False, env=None):
        command = [*prefix, DRIVER, *(["-s"] if silent else []), *arguments]
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        try:
            said = self.line(25)
        except BaseException:
            self.process.kill()
            self.process.wait(10)
            raise
        number, _, self.words = said.partition(" ")
        self.error = 0 if number == "ok" else -int(number)

    def line(self, seconds=5):
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        assert ready, "the driver says nothing"
        return self.process.stdout.readline().rstrip("\n")

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.line()

    def close(self):
        assert self.say("close") == "closed"
        assert self.process.wait(5) == 0

    def kill(self):
        self.process.kill()
        self.process.wait(5)

    def descriptors(self):
        links = pathlib.Path(f"/proc/{self.process.pid}/fd")
        return sorted(os.readlink(link) for link in links.iterdir() if int(link.name) > 2)


@pytest.fixture
def folder():
    """An empty folder that everybody may reach and write to; nothing stays mounted there."""
    top = pathlib.Path(os.path.realpath(tempfile.mkdtemp(prefix="fusewire-mount-")))
    top.chmod(0o755)
    path = top / "here"
    path.mkdir()
    path.chmod(0o777)
    yield path
    while subprocess.run(["umount", "-l", path], stderr=subprocess.DEVNULL, timeout=10).returncode == 0:
        pass
    shutil.rmtree(top)


@pytest.fixture
def drive(folder):
    drivers = []

    def start(*arguments, **keywords):
        drivers.append(Driver(*arguments, **keywords))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.kill()
        driver.process.stdin.close()
        driver.process.stdout.close()


def stat(path):
    return subprocess.run(["stat", "-c", "%F", path], capture_output=True, text=True, timeout=10)


# ---- Mounting and unmounting -----------------------------------------------------------------------------------------


def test_mounts_serves_and_unmounts(drive, folder):
    driver = drive(folder)
    assert driver.error == 0
    [(source, kind, options)] = mounts(folder)
    assert (source, kind) == ("/dev/fuse", "fuse")
    assert {"rw", "nosuid", "nodev", "user_id=0", "group_id=0"} <= options
    assert stat(folder).stdout == "directory\n"
    assert driver.descriptors() == ["/dev/fuse"]
    driver.close()
    assert mounts(folder) == []


def test_options_reach_the_kernel(drive, folder):
    driver = drive(
        folder,
        "ro,suid,dev,noexec,noatime,sync,dirsync,lazytime,nosymfollow,default_permissions,allow_other,max_read=16384,"
        "fsname=a\\,b c,subtype=book,_netdev,x-shelf",
    )
    [(source, kind, options)] = mounts(folder)
    assert (source, kind) == ("a,b c", "fuse.book")
    assert {"ro", "noexec", "noatime", "sync", "dirsync", "lazytime", "nosymfollow"} <= options
    assert {"default_permissions", "allow_other", "max_read=16384"} <= options
    assert not {"nosuid", "nodev"} & options
    driver.close()
    assert mounts(folder) == []


@pytest.mark.parametrize("name", ["with blank", "with\nnewline", "with\\backslash", "with,comma", "sch\u00f6n"])
def test_names_of_the_mount_point(drive, folder, name):
    place = folder / name
    place.mkdir()
    driver = drive(place)
    assert driver.error == 0
    assert stat(place).stdout == "directory\n"
    assert drive(place).error == errno.EBUSY
    driver.close()
    place.rmdir()


def test_mount_point_may_be_a_link_or_relative(drive, folder):
    link = folder.parent / "link"
    link.symlink_to("here")
    driver = drive(os.path.relpath(link))
    assert len(mounts(folder)) == 1
    driver.close()
    assert mounts(folder) == []


def test_unmount_starts_while_a_client_is_inside(drive, folder):
    driver = drive(folder)
    inside = os.open(folder, os.O_PATH)
    try:
        assert driver.say("unmount") == "0"
        assert until(lambda: mounts(folder) == [])
        driver.close()
    finally:
        os.close(inside)


def test_close_answers_a_client_of_a_silent_server(drive, folder):
    driver = drive(folder, silent=True)
    client = subprocess.Popen(["stat", folder], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert until(lambda: "request_wait" in wchan(client.pid) or "fuse" in wchan(client.pid))
        driver.close()
        assert mounts(folder) == []
        _, said = client.communicate(timeout=5)
        assert client.returncode != 0 and said
    finally:
        client.kill()
        client.communicate(timeout=10)


def wchan(pid):
    return pathlib.Path(f"/proc/{pid}/wchan").read_text()


@pytest.mark.parametrize("first_unmounted", [False, True])
def test_somebody_elses_mount_stays(drive, folder, first_unmounted):
    driver = drive(folder)
    if first_unmounted:
        subprocess.run(["umount", "-l", folder], check=True, timeout=10)
    subprocess.run(["mount", "-t", "tmpfs", "theirs", folder], check=True, timeout=10)
    driver.close()
    assert mounts(folder)[-1][:2] == ("theirs", "tmpfs")


def test_a_mount_that_took_our_place_with_our_numbers_stays(drive, folder):
    """The kernel gives device numbers and mount ids again at once."""
    first = drive(folder)
    subprocess.run(["umount", "-l", folder], check=True, timeout=10)
    second = drive(folder, "fsname=second")
    first.close()
    assert [mount[0] for mount in mounts(folder)] == ["second"]
    second.close()
    assert mounts(folder) == []


def test_a_forked_child_leaves_the_mount_alone(drive, folder):
    driver = drive(folder)
    assert driver.say("fork") == "forked"
    assert stat(folder).stdout == "directory\n"
    driver.close()
    assert mounts(folder) == []


def test_no_child_is_left(drive, folder):
    driver = drive(folder, "auto_unmount")
    assert driver.say("unmount") == "0"
    assert until(lambda: mounts(folder) == [])
    children = pathlib.Path(f"/proc/{driver.process.pid}/task/{driver.process.pid}/children")
    assert len(children.read_text().split()) <= 2  # fusermount3 and the one that unmounted
    driver.close()


def test_auto_unmount_after_a_kill(drive, folder):
    driver = drive(folder, "auto_unmount,fsname=shelf")
    assert mounts(folder)[0][0] == "shelf"
    assert [link.split(":")[0] for link in driver.descriptors()] == ["/dev/fuse", "socket"]
    driver.kill()
    assert until(lambda: mounts(folder) == [])


def test_auto_unmount_and_close(drive, folder):
    driver = drive(folder, "auto_unmount")
    driver.close()
    assert mounts(folder) == []


def test_ignored_sigchld(drive, folder):
    for options in ("ro", "auto_unmount"):
        driver = drive(folder, options, prefix=["env", "--ignore-signal=CHLD"])
        assert driver.error == 0
        driver.close()
        assert mounts(folder) == []


# ---- Mount points that are none --------------------------------------------------------------------------------------


def test_missing(drive, folder):
    driver = drive(folder / "nowhere")
    assert driver.error == errno.ENOENT
    assert "does not exist" in driver.words and str(folder / "nowhere") in driver.words
    assert drive("").error == errno.ENOENT


def test_not_a_folder(drive, folder):
    (folder / "file").touch()
    for path in (folder / "file", folder / "file" / "below", "/dev/null"):
        driver = drive(path)
        assert driver.error == errno.ENOTDIR
        assert "is not a folder" in driver.words


def test_not_empty(drive, folder):
    (folder / "file").touch()
    driver = drive(folder)
    assert driver.error == errno.ENOTEMPTY
    assert "-o nonempty" in driver.words
    driver = drive(folder, "nonempty")
    assert driver.error == 0
    driver.close()


@pytest.mark.parametrize("silent", [False, True])
def test_busy(drive, folder, silent):
    first = drive(folder, "fsname=shelf,subtype=book", silent=silent)
    second = drive(folder, "nonempty")
    assert second.error == errno.EBUSY
    assert '"shelf" is mounted there, of type fuse.book' in second.words
    first.close()


def test_busy_with_something_else(drive, folder):
    subprocess.run(["mount", "-t", "tmpfs", "theirs", folder], check=True, timeout=10)
    driver = drive(folder)
    assert driver.error == errno.EBUSY
    assert '"theirs" is mounted there, of type tmpfs' in driver.words


def test_dead(drive, folder):
    drive(folder).kill()
    driver = drive(folder)
    assert driver.error == errno.ENOTCONN
    assert "fusermount3 -u" in driver.words and "umount -l" in driver.words
    assert drive(folder / "below").error == errno.ENOTCONN


def test_bad_options_are_refused_before_anything_happens(drive, folder):
    driver = drive(folder, "ro,shelf=3")
    assert driver.error == errno.EINVAL
    assert driver.words == 'unknown mount option "shelf"'
    assert mounts(folder) == []


def test_the_kernels_own_complaint(drive, folder):
    if "selinuxfs" in pathlib.Path("/proc/filesystems").read_text():
        pytest.skip("this kernel knows security contexts")
    driver = drive(folder, "context=system_u:object_r:tmp_t:s0")
    assert driver.error == errno.EINVAL
    assert "the kernel says: fuse: Unknown parameter 'context'" in driver.words
    assert mounts(folder) == []


# ---- System calls that fail ------------------------------------------------------------------------------------------


def strace(*arguments):
    """-D: the process that is started is the driver's own, and strace its grandchild. A driver that is built with the
    address sanitizer cannot look for leaks beside strace."""
    sanitizer = ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "detect_leaks=0"]))
    return ["strace", "-D", "-f", "-o", "/dev/null", "-E", f"ASAN_OPTIONS={sanitizer}", *arguments]


def inject(*rules):
    return strace(*(part for rule in rules for part in ("-e", f"inject={rule}")))


@pytest.mark.parametrize("call", ["fsopen", "fsconfig", "fsmount", "move_mount"])
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_without_the_new_mount_api(drive, folder, call, error):
    driver = drive(folder, "fsname=shelf,subtype=book,ro", prefix=inject(f"{call}:error={error}"))
    assert driver.error == 0
    assert mounts(folder)[0][:2] == ("shelf", "fuse.book")
    assert stat(folder).stdout == "directory\n"
    assert driver.descriptors() == ["/dev/fuse"]
    driver.close()
    assert mounts(folder) == []


def test_a_source_too_long_for_the_new_mount_api(drive, folder):
    driver = drive(folder, "fsname=" + "x" * 300)
    assert mounts(folder)[0][0] == "x" * 300
    driver.close()
    assert drive(folder, "context=" + "x" * 5000).error == errno.EINVAL


@pytest.mark.parametrize(
    "call, error, words",
    [
        ("fsopen", "ENODEV", "modprobe fuse"),
        ("fsconfig", "EINVAL", "fsconfig"),
        ("fsmount", "ENOMEM", "Cannot allocate memory"),
        ("move_mount", "ENOSPC", "/proc/sys/fs/mount-max"),
        ("fsopen", "EMFILE", "Too many open files"),
    ],
)
def test_the_new_mount_api_fails(drive, folder, call, error, words):
    driver = drive(folder, prefix=inject(f"{call}:error={error}"))
    assert driver.error == getattr(errno, error)
    assert words in driver.words
    assert mounts(folder) == []


@pytest.mark.parametrize("error, words", [("EBUSY", "busy"), ("EINVAL", "Invalid"), ("ENODEV", "modprobe fuse")])
def test_mount_fails(drive, folder, error, words):
    driver = drive(folder, prefix=inject("fsopen:error=ENOSYS", f"mount:error={error}"))
    assert driver.error == getattr(errno, error)
    assert words in driver.words
    assert mounts(folder) == []


def test_no_permission_to_mount(drive, folder):
    """As root in a container: the words are about the container, whether fusermount3 is there or not."""
    without = ["capsh", "--drop=cap_sys_admin", "--", "-c", 'exec "$@"', "sh"] if shutil.which("capsh") else None
    prefix = without or ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    for path in (os.environ["PATH"], "/nowhere"):
        driver = drive(folder, prefix=[shutil.which(prefix[0]), *prefix[1:], "env", f"PATH={path}"])
        assert driver.error == errno.EPERM
        assert "CAP_SYS_ADMIN" in driver.words
    assert mounts(folder) == []


@pytest.mark.parametrize(
    "error, expected, words",
    [
        ("ENOENT", "ENODEV", "modprobe fuse"),
        ("ENODEV", "ENODEV", "modprobe fuse"),
        ("EPERM", "EPERM", "--device /dev/fuse"),
        ("EACCES", "EACCES", "--device /dev/fuse"),
        ("EMFILE", "EMFILE", "Too many open files"),
    ],
)
def test_the_device_cannot_be_opened(drive, folder, error, expected, words):
    prefix = [*strace("-P", "/dev/fuse", "-e", f"inject=openat:error={error}"), "env", "PATH=/nowhere"]
    driver = drive(folder, prefix=prefix)
    assert driver.error == getattr(errno, expected)
    assert words in driver.words


def test_out_of_descriptors(drive, folder):
    driver = drive(folder, prefix=["prlimit", "--nofile=4"])
    assert driver.error == errno.EMFILE
    assert mounts(folder) == []


@pytest.mark.parametrize("call", ["socketpair", "pipe2", "clone"])
def test_fusermount_cannot_be_started(drive, folder, call):
    driver = drive(folder, "auto_unmount", prefix=inject(f"{call}:error=EAGAIN"))
    assert driver.error == errno.EAGAIN
    assert "fusermount3" in driver.words
    assert mounts(folder) == []


def test_without_statx(drive, folder):
    """A system call filter of old knows no statx: the mount is undone all the same."""
    driver = drive(folder, prefix=inject("statx:error=EPERM"))
    assert driver.error == 0
    driver.close()
    assert mounts(folder) == []


def test_an_unmount_that_hangs_does_not_hang_close(drive, folder):
    driver = drive(folder, prefix=inject("umount2:delay_enter=20000000"))
    started = time.monotonic()
    assert driver.say("unmount") == "0"
    assert time.monotonic() - started < 1
    driver.process.stdin.write("close\n")
    driver.process.stdin.flush()
    assert driver.line(15) == "closed"


# ---- fusermount3 -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def fake_fusermount(folder, script):
    place = folder.parent / "bin"
    place.mkdir()
    program = place / "fusermount3"
    program.write_text(script)
    program.chmod(0o755)
    yield {**os.environ, "PATH": f"{place}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    "script, error, words",
    [
        ("#!/bin/sh\necho 'fusermount3: shelf is full' >&2; exit 1\n", errno.EIO, "fusermount3: shelf is full"),
        ("#!/bin/sh\nexit 1\n", errno.EIO, "without a word"),
        ("#!/bin/sh\nexit 0\n", errno.EIO, "without a word"),
        ("#!/bin/sh\nkill -9 $$\n", errno.EIO, "without a word"),
        ("#!/bin/sh\necho junk >&$_FUSE_COMMFD; exit 0\n", errno.EIO, "without a word"),
        ("#!/nowhere/sh\n", errno.EACCES, "cannot be executed"),
        (
            "#!/bin/sh\necho warning >&2; echo 'fusermount3: mount failed: Device or resource busy' >&2\n",
            errno.EBUSY,
            "fusermount3: mount failed: Device or resource busy",
        ),
        (
            "#!/bin/sh\necho 'fusermount3: too many FUSE filesystems mounted; mount_max=N can be set' >&2; exit 1\n",
            errno.ENOSPC,
            "raise mount_max",
        ),
    ],
)
def test_fusermount_fails(drive, folder, script, error, words):
    with fake_fusermount(folder, script) as env:
        driver = drive(folder, "auto_unmount", env=env)
    assert driver.error == error
    assert words in driver.words
    assert mounts(folder) == []


def test_fusermount_gets_what_it_needs_and_no_more(drive, folder):
    look = 'echo "$@"; ls -l /proc/$$/fd; grep -E "^Sig(Blk|Ign)" /proc/self/status'
    with fake_fusermount(folder, f'#!/bin/sh\n{{ {look}; }} >"$0.seen"\nexit 1\n') as env:
        drive(folder, "auto_unmount,fsname=a\\,b", env=env)
    seen = (folder.parent / "bin" / "fusermount3.seen").read_text()
    assert seen.startswith(f"-o nosuid,nodev,fsname=a\\,b,auto_unmount -- {folder}\n")
    numbers = {int(number) for number in re.findall(r" (\d+) -> ", seen)}
    assert {0, 1, 2, 3} <= numbers and numbers <= {0, 1, 2, 3, 10, 11, 255}  # the last are the shell's own
    assert "SigBlk:\t0000000000000000" in seen
    assert "SigIgn:\t0000000000001000" in seen  # SIGPIPE


def test_fusermount_is_not_there(drive, folder):
    driver = drive(folder, "auto_unmount", env={**os.environ, "PATH": "/nowhere:relative:"})
    assert driver.error == errno.ENOPKG
    assert "install the package fuse3" in driver.words


@pytest.mark.long
@pytest.mark.parametrize(
    "script",
    ["exec sleep 60", "exec yes shelf >&2", 'mount -t tmpfs late "$4"; exec sleep 60'],
    ids=["hangs", "talks", "hangs after mounting"],
)
def test_fusermount_hangs(drive, folder, script):
    with fake_fusermount(folder, f"#!/bin/sh\necho $$ >\"$0.pid\"\n{script}\n") as env:
        started = time.monotonic()
        driver = drive(folder, "auto_unmount", env=env)
    assert driver.error == errno.ETIMEDOUT
    assert time.monotonic() - started < 15
    assert "did not answer within 10 seconds" in driver.words
    assert mounts(folder) == []
    pid = int((folder.parent / "bin" / "fusermount3.pid").read_text())
    assert not os.path.exists(f"/proc/{pid}")


# ---- As an ordinary user ---------------------------------------------------------------------------------------------


@pytest.fixture
def as_user(folder):
    """The start of a command that runs as a user with a world of its own: /dev/fuse open to all, as distributions have
    it, and an /etc/fuse.conf."""
    device = folder.parent / "device"
    os.mknod(device, 0o666 | 0o020000, os.makedev(10, 229))
    device.chmod(0o666)
    configuration = folder.parent / "fuse.conf"
    configuration.write_text("# nothing is allowed\n")
    configuration.chmod(0o644)
    os.chown(folder, NOBODY, NOBODY)

    def prefix(allow_other=False, device_mode=0o666, *more):
        device.chmod(device_mode)
        configuration.write_text("user_allow_other\n" if allow_other else "\n")
        script = 'mount --bind "$1" /dev/fuse && mount --bind "$2" /etc/fuse.conf && shift 2 && exec "$@"'
        return ["unshare", "-m", "sh", "-c", script, "sh", device, configuration, *AS_NOBODY, *more]

    if shutil.which("fusermount3") is None:
        pytest.skip("fusermount3 is not installed")
    if not os.path.exists("/etc/fuse.conf"):
        pytest.skip("no /etc/fuse.conf to mount upon")
    yield prefix
    device.unlink()


def seen_by(driver, folder):
    return mounts(folder, f"/proc/{driver.process.pid}/mounts")


def inside(driver, *command):
    """A command in the user's world."""
    return subprocess.run(
        ["nsenter", "-t", str(driver.process.pid), "-m", *AS_NOBODY, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=10,
    )


def test_user_mounts_and_unmounts(drive, folder, as_user):
    driver = drive(folder, "fsname=shelf,subtype=book,default_permissions", prefix=as_user())
    assert driver.error == 0
    [(source, kind, options)] = seen_by(driver, folder)
    assert (source, kind) == ("shelf", "fuse.book")
    assert {"nosuid", "nodev", f"user_id={NOBODY}", f"group_id={NOBODY}", "default_permissions"} <= options
    assert inside(driver, "stat", "-c", "%F", folder).stdout == "directory\n"
    assert driver.descriptors() == ["/dev/fuse"]
    assert driver.say("unmount") == "0"
    assert until(lambda: seen_by(driver, folder) == [])
    driver.close()


def test_user_close_unmounts(drive, folder, as_user):
    """What is unmounted is looked at through a process that stays in the user's world."""
    driver = drive(folder, prefix=as_user())
    watcher = subprocess.Popen(["nsenter", "-t", str(driver.process.pid), "-m", "sleep", "60"])
    try:
        table = f"/proc/{watcher.pid}/mounts"
        assert until(lambda: os.readlink(f"/proc/{watcher.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"))
        assert len(mounts(folder, table)) == 1
        driver.close()
        assert mounts(folder, table) == []
    finally:
        watcher.kill()
        watcher.wait(5)


def test_user_auto_unmount(drive, folder, as_user):
    driver = drive(folder, "auto_unmount,allow_other", prefix=as_user(allow_other=True))
    watcher = subprocess.Popen(["nsenter", "-t", str(driver.process.pid), "-m", "sleep", "60"])
    try:
        table = f"/proc/{watcher.pid}/mounts"
        assert until(lambda: os.readlink(f"/proc/{watcher.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"))
        assert len(mounts(folder, table)) == 1
        assert driver.say("fork") == "forked"
        driver.kill()
        assert until(lambda: mounts(folder, table) == [])
    finally:
        watcher.kill()
        watcher.wait(5)


def test_user_ignored_sigchld(drive, folder, as_user):
    driver = drive(folder, prefix=as_user(False, 0o666, "env", "--ignore-signal=CHLD"))
    assert driver.error == 0
    driver.close()


def test_user_allow_other(drive, folder, as_user):
    driver = drive(folder, "allow_other", prefix=as_user())
    assert driver.error == errno.EPERM
    assert "add the line user_allow_other to /etc/fuse.conf" in driver.words
    driver = drive(folder, "allow_other", prefix=as_user(allow_other=True))
    assert driver.error == 0
    assert "allow_other" in seen_by(driver, folder)[0][2]
    driver.close()


def test_user_of_a_folder_not_theirs(drive, folder, as_user):
    os.chown(folder, 0, 0)
    folder.chmod(0o755)
    driver = drive(folder, prefix=as_user())
    assert driver.error == errno.EACCES
    assert "use a folder that you may write to" in driver.words


def test_user_of_a_device_that_is_closed_to_them(drive, folder, as_user):
    driver = drive(folder, prefix=as_user(device_mode=0o600))
    assert driver.error == errno.EACCES
    assert "/dev/fuse" in driver.words and "0666" in driver.words


def test_user_without_fusermount(drive, folder, as_user):
    driver = drive(folder, prefix=as_user(False, 0o666, "env", "PATH=/nowhere"))
    assert driver.error == errno.ENOPKG
    assert "install the package fuse3" in driver.words


def test_user_with_an_option_that_fusermount_lacks(drive, folder, as_user):
    driver = drive(folder, "strictatime", prefix=as_user())
    if driver.error == 0:
        pytest.skip("this fusermount3 knows strictatime")
    assert driver.error == errno.EINVAL
    assert "unknown option 'strictatime'" in driver.words


@pytest.mark.long
def test_user_whose_fusermount_hangs(drive, folder, as_user):
    with fake_fusermount(folder, "#!/bin/sh\nexec sleep 60\n") as env:
        driver = drive(folder, prefix=as_user(), env=env)
    assert driver.error == errno.ETIMEDOUT


def test_dead_mount_of_a_user_is_named(drive, folder, as_user):
    driver = drive(folder, prefix=as_user())
    pid = driver.process.pid
    watcher = subprocess.Popen(["nsenter", "-t", str(pid), "-m", "sleep", "60"])
    try:
        assert until(lambda: os.readlink(f"/proc/{watcher.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"))
        driver.kill()
        second = drive(folder, prefix=["nsenter", "-t", str(watcher.pid), "-m", *AS_NOBODY])
        assert second.error == errno.ENOTCONN
        assert f"{folder}" in second.words and "fusermount3 -u" in second.words
    finally:
        watcher.kill()
        watcher.wait(5)
