"""script/bench works as a whole: it measures all that was asked for, goes on when a server fails, and leaves nothing
behind. How fast anything is plays no part."""

import json
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("FUSEWIRE_BUILD", ROOT / "build"))
PLOTS = ["bandwidth.svg", "cpu.svg", "latency.svg", "ratios.svg", "requests.svg"]

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


def bench(tmp_path, *arguments):
    """Runs it with its temporary files in tmp_path: the finished process, and what it wrote as JSON."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    result = tmp_path / "result.json"
    done = subprocess.run([ROOT / "script/bench", "--quick", "--seconds", "0.05", "--json", result, *arguments],
                          capture_output=True, text=True, timeout=100, env={**os.environ, "TMPDIR": str(scratch)},
                          check=False)
    assert result.exists(), done.stderr
    assert str(scratch) not in pathlib.Path("/proc/self/mountinfo").read_text()
    assert not os.listdir(scratch)
    return done, json.loads(result.read_text())


@pytest.fixture
def faulty(tmp_path):
    """A server that gets a signal from itself in the middle of the first run, once it has served for a while."""

    def command(signal):
        script = tmp_path / f"faulty-{signal}"
        script.write_text(f"""#!/bin/sh
"{BUILD}/bench/floor" "$1" &
server=$!
trap 'kill -KILL $server; wait; exit' TERM
while kill -0 $server 2>/dev/null; do
    # Its voluntary context switches count the requests: one is waited for each time.
    if [ "$(awk '/^voluntary/ {{ print $2 }}' /proc/$server/status)" -gt 50 ]; then
        kill -{signal} $server
        echo "it got SIG{signal}" >&2
        wait
    fi
done
""")
        script.chmod(0o755)
        return f"faulty={script}"

    return command


@pytest.mark.timeout(120)
def test_bench_measures_and_draws_and_cleans_up(tmp_path):
    loads = ["getattr", "open", "read-4k", "write-1m"]
    plots = tmp_path / "plots"
    done, results = bench(tmp_path, "--rounds", "2", "--loads", ",".join(loads), "--clients", "1,3", "--servers",
                          "floor,poll", "--plots", plots)
    assert done.returncode == 0, done.stderr
    assert [(cell["load"], cell["clients"]) for cell in results["cells"]] == [(load, clients) for load in loads
                                                                              for clients in (1, 3)]
    for cell in results["cells"]:
        assert {name: len(samples) for name, samples in cell["samples"].items()} == {"floor": 2, "poll": 2}
        assert all(sample["rate"] > 0 and sample["cpu"] > 0 and 0 < sample["p50"] <= sample["p99"]
                   for samples in cell["samples"].values() for sample in samples)
        assert not cell["failures"]
        for requests in cell["requests_per_call"].values():  # empty where perf cannot count
            assert requests == pytest.approx(2 if cell["load"] == "open" else 1, rel=0.05)
    rows = [line.split()[0] for line in done.stdout.splitlines() if line.startswith((" floor ", " poll "))]
    assert rows == ["floor", "poll"] * (len(results["cells"]) + 2)  # with the two tables at the end

    drawn = {path.name: path.read_bytes() for path in plots.iterdir()}
    assert set(PLOTS) <= set(drawn)
    for svg in drawn.values():
        xml.etree.ElementTree.fromstring(svg)
    again = tmp_path / "again"
    subprocess.run([sys.executable, ROOT / "bench/plot.py", tmp_path / "result.json", again], timeout=60, check=True)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == drawn


@pytest.mark.timeout(120)
@pytest.mark.parametrize("signal, words", [
    ("KILL", ["its process ended", "Transport endpoint is not connected", "Software caused connection abort"]),
    pytest.param("STOP", ["did not answer"], marks=pytest.mark.long),
])
def test_bench_goes_on_without_a_server_that_fails(tmp_path, faulty, signal, words):
    done, results = bench(tmp_path, "--rounds", "1", "--seconds", "0.5", "--loads", "getattr,read-4k", "--clients", "1",
                          "--placements", "other", "--servers", "floor", "--server", faulty(signal), "--server",
                          "absent=/bin/false")
    assert done.returncode == 1
    for cell in results["cells"]:
        assert list(cell["samples"]) == ["floor"]
        assert any(word in cell["failures"]["faulty"] for word in words)
        assert f"it got SIG{signal}" in cell["failures"]["faulty"]
        assert "did not start" in cell["failures"]["absent"]
    assert cell["failures"]["faulty"] in done.stdout.replace("\n", " ")


def test_bench_says_what_it_does_not_know(tmp_path):
    for arguments in (["--servers", "floor,nothing"], ["--loads", "dance"], ["--placements", "moon"],
                      ["--clients", "0"], ["--clients", "65"], ["--rounds", "0"], ["--server", "nameless"]):
        done = subprocess.run([ROOT / "script/bench", *arguments], capture_output=True, text=True, timeout=60,
                              check=False)
        assert done.returncode == 2, arguments
        assert "error:" in done.stderr
