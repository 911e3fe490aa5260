"""script/bench works as a whole: it measures all that was asked for, and leaves no mount behind."""

import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.needs_fuse
@pytest.mark.timeout(120)
def test_bench_measures_and_cleans_up(tmp_path):
    result = tmp_path / "result.json"
    arguments = ["--quick", "--rounds", "2", "--seconds", "0.05", "--loads", "getattr,open,read-4k,write-1m",
                 "--clients", "1,3", "--servers", "floor,poll,ring", "--json", str(result)]
    done = subprocess.run([ROOT / "script/bench", *arguments], capture_output=True, text=True, timeout=100,
                          env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    assert done.returncode == 0, done.stderr
    cells = json.loads(result.read_text())["cells"]
    assert len(cells) == 4 * 2
    for cell in cells:
        assert {name: len(samples) for name, samples in cell["samples"].items()} == {"floor": 2, "poll": 2, "ring": 2}
        assert all(sample["rate"] > 0 and sample["cpu"] > 0 for samples in cell["samples"].values() for sample in samples)
    assert str(tmp_path) not in pathlib.Path("/proc/self/mountinfo").read_text()
    assert os.listdir(tmp_path) == ["result.json"]
