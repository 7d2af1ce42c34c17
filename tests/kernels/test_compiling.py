import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cellscale

PROCESSES = 16
CALLS = """
import sys
import numpy as np
from cellscale.kernels.unions import root

chains = {kind: np.array([0, 0, 1, 2], kind) for kind in (np.int64, np.int32)}
turn = int(sys.argv[1]) % 2
print("ready", flush=True)
sys.stdin.readline()
for kind in [*chains][turn:] + [*chains][:turn]:
    print(kind.__name__, root(chains[kind], 3), chains[kind].tolist(), chains[kind].dtype)
print("hits", sum(root.stats.cache_hits.values()))
"""
MANY = """
import hashlib
import sys
import numpy as np
from cellscale.kernels.distances import transform
from cellscale.kernels import components, touching, watershed

mask = np.random.default_rng(0).random((60, 70)) < 0.6
print("ready", flush=True)
sys.stdin.readline()
labels, count = components.connected_components(mask)
heights = watershed.inner_distance(mask, cap=20)
found = [
    labels,
    heights,
    transform.label_distance_transform(labels, spacing=(3, 2)),
    touching.assign_touching(labels, ~mask, radius=5),
    watershed.basins(heights, mask)[0],
]
print(count, *(hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in found))
"""


def started(folder: Path, turn: int, calls: str = CALLS) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", calls, str(turn)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder), "OMP_NUM_THREADS": "1"},
    )


def said(processes: list[subprocess.Popen[str]]) -> list[list[str]]:
    """What the processes find when they are let go at once, in the order of the types."""
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    return [sorted(process.communicate(timeout=1800)[0].splitlines()) for process in processes]


def test_sixteen_processes_that_compile_at_once_into_one_folder_get_their_own_code(tmp_path) -> None:
    right = [f"{kind} 0 [0, 0, 1, 1] {kind}" for kind in ("int32", "int64")]
    first = said([started(tmp_path, turn) for turn in range(PROCESSES)])
    assert [[line for line in lines if not line.startswith("hits")] for lines in first] == [right] * PROCESSES
    (after,) = said([started(tmp_path, 0)])
    assert after == ["hits 2", *right]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".nbc"]


def test_other_sources_find_nothing_and_take_the_place(tmp_path) -> None:
    from cellscale.kernels.compiling import Compiled, _digest_of

    source = tmp_path / "lines.py"
    kept = Compiled(folder=tmp_path, source=source, name="add")
    for text in ("a + b", "a - b"):
        source.write_text(text)
        _digest_of.cache_clear()
        assert kept.load(("int64", "int64")) is None
        kept.save(("int64", "int64"), text)
        kept.save(("int32", "int64"), text)
        assert kept.load(("int64", "int64")) == text
        assert len(list(tmp_path.glob("*.nbc"))) == 2


def flipped(content: bytes) -> bytes:
    """The same but for one bit, deep in the machine code."""
    return content[:-90] + bytes([content[-90] ^ 1]) + content[-89:]


def test_a_damaged_file_is_no_compiled_kernel(tmp_path) -> None:
    from cellscale.kernels.compiling import Compiled

    source = tmp_path / "lines.py"
    source.write_text("a + b")
    kept = Compiled(folder=tmp_path, source=source, name="add")
    kept.save(("int64",), "compiled" * 99)
    (path,) = tmp_path.glob("*.nbc")
    whole = path.read_bytes()
    for damaged in (b"", whole[:9], whole[: len(whole) // 2], bytes(len(whole)), b"{}" * 99, flipped(whole)):
        path.write_bytes(damaged)
        assert kept.load(("int64",)) is None
    kept.save(("int64",), "compiled" * 99)
    assert path.read_bytes() == whole


def test_damaged_files_are_compiled_again_and_replaced(tmp_path) -> None:
    said([started(tmp_path, 0)])
    files = sorted(tmp_path.rglob("*.nbc"))
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:-900])
    files[1].write_bytes(flipped(files[1].read_bytes()))
    right = [f"{kind} 0 [0, 0, 1, 1] {kind}" for kind in ("int32", "int64")]
    assert said([started(tmp_path, 0)]) == [["hits 0", *right]]
    assert said([started(tmp_path, 0)]) == [["hits 2", *right]]


UNWRITABLE = """
from pathlib import Path
from cellscale.kernels import unions
for folder in Path(unions.__file__).parent.glob("__pycache__"):  # Numba has chosen it already.
    folder.chmod(0o500)
import numpy as np
for kind in (np.int64, np.int32):
    print(unions.root(np.array([0, 0, 1, 2], kind), 3))
"""


@pytest.mark.parametrize("when", ["from the start", "later"])
def test_without_a_folder_to_write_kernels_are_compiled_and_it_is_said_once(tmp_path, when: str) -> None:
    source = Path(cellscale.__file__).parent
    shutil.copytree(source, tmp_path / "cellscale", ignore=shutil.ignore_patterns("__pycache__", "shipped"))
    folders = [str(path) for path in (tmp_path / "cellscale").rglob("*") if path.is_dir()]
    if when == "from the start":
        for folder in folders:
            Path(folder).chmod(0o500)
    command = [sys.executable, "-c", UNWRITABLE]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    outer = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    unwritable = dict.fromkeys(("HOME", "XDG_CACHE_HOME"), "/proc/none")
    done = subprocess.run(
        command, capture_output=True, text=True, env={**outer, **unwritable, "PYTHONPATH": str(tmp_path)}, check=False
    )
    assert done.stdout.split() == ["0", "0"]
    assert done.stderr.count("NUMBA_CACHE_DIR") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_sixteen_processes_that_compile_many_kernels_at_once_find_the_same(tmp_path) -> None:
    alone = said([started(tmp_path / "one", 0, MANY)])
    assert len(alone[0][0].split()) == 6
    for _ in ("compiled", "loaded"):
        assert said([started(tmp_path / "all", turn, MANY) for turn in range(PROCESSES)]) == alone * PROCESSES
