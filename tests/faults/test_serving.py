"""What works when nothing is wrong, and what it costs: the fault server on every transport and in every loop."""

import errno

from harness import until


def test_a_file_is_read_and_written(launch, client):
    server = launch()
    reader = client(
        """
with open(path + "/file", "r+b", buffering=0) as file:
    data = file.read()
    assert data == pattern("file", 0, 1 << 20)
    return os.pwrite(file.fileno(), data[5000:105000], 5000)
"""
    )
    assert reader.ok() == "100000"
    assert server.settled()["read"] > 5
    server.close()


def test_what_is_absent(launch, stat):
    server = launch()
    assert stat("absent").error() == errno.ENOENT
    server.rule("LOOKUP odd error 5")
    assert stat("odd").error() == errno.EIO
    server.settled()
    server.close()


def test_many_callers(launch, storm):
    server = launch()
    writers, readers = storm("write", 4, 60), storm("read", 4, 60)
    for result in (writers.result(), readers.result()):
        assert result["done"] == 240 and result["failed"] == 0
    server.settled()
    server.close()


def test_idle(launch):
    """No thread, no processor time, not even a wake-up now and then."""
    server = launch()
    assert server.threads() == 1
    assert server.rests(server.rest(), 0.5)
    assert server.threads() == 1
    server.close()


def test_descriptors_come_back(launch, storm):
    """Load does not collect descriptors; what a server has is what its connection needs."""
    server = launch()
    assert storm("read", 8, 1).result()["failed"] == 0  # by now it has opened all that it needs
    before = server.descriptors()
    assert storm("read", 8, 20).result()["failed"] == 0
    assert until(lambda: server.stats()["open"] == 0)
    assert server.descriptors() == before
    server.close()


def test_processor_time_belongs_to_requests(launch, stat):
    """A held request costs nothing while it waits."""
    server = launch()
    server.rule("GETATTR * hold")
    server.rule("LOOKUP * hold")
    waiting = [stat(f"file{i}") for i in range(4)]
    for one in waiting:
        assert one.waits()
    assert until(lambda: server.count("held") == 4)
    assert server.rests(server.rest(), 0.3)
    server.do("clear")
    server.do("release 100")
    for one in waiting:
        assert one.ok()
    server.settled()
    server.close()
