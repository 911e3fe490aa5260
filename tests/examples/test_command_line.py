"""The command line that the C examples share, as a shell, mount.fuse3 and fstab use it."""

import os
import signal
import subprocess
import sys

import pytest

from harness import EXAMPLES, child_environment, cpus, mounts, until

NAMES = ["hello", "memfs", "passthrough"]


@pytest.fixture
def folder(tmp_path):
    """A folder to mount on, and one to show; detached afterwards, however the test ends."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("shown")
    (tmp_path / "mnt").mkdir()
    yield tmp_path
    if mounts.connection_number(tmp_path / "mnt") is not None:
        mounts.umount(tmp_path / "mnt", mounts.MNT_DETACH)


def command(name, folder, *more):
    source = [folder / "source"] if name == "passthrough" else []
    return [EXAMPLES / name, *source, folder / "mnt", *more]


def run(arguments, **environment):
    return subprocess.run(
        list(map(str, arguments)), capture_output=True, text=True, timeout=30, env=child_environment(**environment)
    )


def listed(folder):
    """The names in the mount, asked for by a process that can be left to itself."""
    code = "import os, sys; print(sorted(os.listdir(sys.argv[1])))"
    return run([sys.executable, "-I", "-S", "-c", code, folder / "mnt"]).stdout.strip()


EXPECTED = {"hello": "['hello']", "memfs": "[]", "passthrough": "['file']"}


@pytest.mark.parametrize("name", NAMES)
def test_help(name):
    result = run([EXAMPLES / name, "--help"])
    assert result.returncode == 0 and result.stdout.startswith(f"Usage: {name} ")
    for word in ("-f", "-d", "-o", "transport=", "queue_depth=", "workers="):
        assert word in result.stdout


@pytest.mark.parametrize("name", NAMES)
def test_no_words(name):
    result = run([EXAMPLES / name])
    assert result.returncode == 2 and "mount point is missing" in result.stderr and "--help" in result.stderr


@pytest.mark.needs_fuse
@pytest.mark.needs_root
@pytest.mark.parametrize("transport", ["poll", "ring", "uring"])
@pytest.mark.parametrize("name", NAMES)
def test_background(name, transport, folder):
    """It is back only when mounted; unmounting ends the server."""
    statistics = folder / "statistics"
    result = run(command(name, folder, "-o", f"transport={transport}"), FUSEWIRE_STATS=str(statistics))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert mounts.connection_number(folder / "mnt") is not None
    assert listed(folder) == EXPECTED[name]
    mounts.umount(folder / "mnt")
    assert until(lambda: "answered" in statistics.read_text())
    assert f"transport {transport}\n" in statistics.read_text()


@pytest.mark.needs_fuse
@pytest.mark.needs_root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", NAMES)
def test_foreground_until_a_signal(name, number, folder):
    server = subprocess.Popen(command(name, folder, "-f"), stderr=subprocess.PIPE, text=True, env=child_environment())
    try:
        assert until(lambda: mounts.connection_number(folder / "mnt") is not None)
        assert listed(folder) == EXPECTED[name]
        server.send_signal(number)
        assert server.wait(10) == 0
        assert server.stderr.read() == ""
        assert mounts.connection_number(folder / "mnt") is None
    finally:
        server.kill()
        server.wait(10)
        server.stderr.close()


def bindings(pid):
    """The CPUs that each of its threads may run on."""
    return sorted(sorted(os.sched_getaffinity(int(task))) for task in os.listdir(f"/proc/{pid}/task"))


@pytest.mark.needs_fuse
@pytest.mark.needs_root
@pytest.mark.skipif(len(cpus.usable()) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("transport", ["poll", "ring", "uring"])
@pytest.mark.parametrize("workers", ["cpus", "0", str(len(cpus.usable()) + 2)])
@pytest.mark.parametrize("name", NAMES)
def test_workers(name, workers, transport, folder):
    """Over uring each is bound to its share of the CPUs, the main thread too, which minds the signals."""
    usable = cpus.usable()
    count = int(workers) if workers not in ("0", "cpus") else len(usable)
    options = f"transport={transport},workers={workers},queue_depth=5"
    server = subprocess.Popen(command(name, folder, "-d", "-o", options), stderr=subprocess.PIPE, text=True,
                              env=child_environment())
    try:
        assert until(lambda: mounts.connection_number(folder / "mnt") is not None)
        for cpu in usable:
            with cpus.pinned(cpu):
                assert listed(folder) == EXPECTED[name]
        # With more workers than CPUs the last ones have none of their own.
        bound = [[cpu] for cpu in usable] if transport == "uring" else []
        wanted = sorted(bound + [usable] * (count - len(bound)))
        assert until(lambda: bindings(server.pid) == wanted), bindings(server.pid)
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        words = server.stderr.read().splitlines()
    finally:
        server.kill()
        server.wait(10)
        server.stderr.close()
    assert words.count(f"{name}: transport {transport}") == 1
    statistics = dict(line.split(" ", 1) for line in words if " " in line)
    assert (statistics["workers"], statistics["transport"]) == (str(count), transport)
    queues = (len(cpus.possible()), 5) if transport == "uring" else (0, 0)
    assert (int(statistics["queues"]), int(statistics["queue_depth"])) == queues


@pytest.mark.needs_fuse
@pytest.mark.needs_root
@pytest.mark.needs_uring
@pytest.mark.skipif(len(cpus.usable()) < 2, reason="needs two CPUs")
def test_auto_with_workers_and_without(folder):
    """Workers are better off over uring; one thread alone is not, also where -s undoes workers."""
    statistics = folder / "statistics"
    for options, transport in [(["-o", "workers=cpus"], "uring"), ([], "ring"), (["-s", "-o", "workers=cpus"], "ring")]:
        statistics.write_text("")
        result = run(command("memfs", folder, *options), FUSEWIRE_STATS=str(statistics))
        assert result.returncode == 0, result.stderr
        mounts.umount(folder / "mnt")
        assert until(lambda: "answered" in statistics.read_text())
        assert f"transport {transport}\n" in statistics.read_text()


@pytest.mark.needs_fuse
@pytest.mark.needs_root
@pytest.mark.parametrize("foreground", [(), ("-f",)])
@pytest.mark.parametrize("name", NAMES)
def test_failures_have_words(name, foreground, folder):
    """Also from the background, where the parent has to report what the child has found."""
    for option in ("nonsense=1", "transport=pigeon", "workers=many", "workers=257", "queue_depth=0"):
        unknown = run(command(name, folder, *foreground, "-o", option))
        assert unknown.returncode != 0 and option.partition("=")[0] in unknown.stderr
    os.rmdir(folder / "mnt")
    missing = run(command(name, folder, *foreground))
    assert missing.returncode != 0 and str(folder / "mnt") in missing.stderr


@pytest.mark.needs_fuse
@pytest.mark.needs_root
def test_as_fstab_calls_it(folder):
    """With the words that mount(8) passes on, and a source that is only a name."""
    options = "rw,noauto,user,_netdev,x-systemd.automount,nodev"
    result = run([EXAMPLES / "memfs", "scratch", folder / "mnt", "-o", options])
    assert result.returncode == 0, result.stderr
    assert mounts.fuse_mounts().count(str(folder / "mnt")) == 1
    mounts.umount(folder / "mnt")
