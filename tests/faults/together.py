"""Commands that write into one place at the same time: processes of their own, against a real S3 server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cellscale.models.model import digest, load_model
from cellscale.ngff.image import open_image
from cellscale.ngff.labels import list_labels, open_labels
from cellscale.types import Box
from tests.faults.plans import Ending, Ground, Plan, started
from tests.segmentation.test_run import arrays, equal

PUBLISHERS = 4
LEAD_S = 20.0
"""Time that the processes have to get ready, s."""

_PUBLISH = """
import json, sys, time
from cellscale.ngff.image import open_image
from cellscale.ngff.import_planes import write_frame
from cellscale.ngff.labels import open_labels, publish_labels, stage_labels
from cellscale.types import Box
url, options, name, start = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], float(sys.argv[4])
image = open_image(url, storage_options=options)
calm = open_labels(url, "calm", storage_options=options)
layer = stage_labels(image, name, planes_z=1)
whole = Box(0, 0, image.size("y"), image.size("x"))
for t in range(image.size("t")):
    write_frame(layer, calm.read(whole, t=t), t=t)
time.sleep(max(0.0, start - time.time()))
publish_labels(layer)
"""


def publishers(of: Ground) -> Ending:
    """Processes publish a layer each, of other names, at the same moment."""
    names, start = [f"together-{i}" for i in range(PUBLISHERS)], time.time() + LEAD_S
    words = [of.image.url, json.dumps(of.options)]
    running = [
        subprocess.Popen([sys.executable, "-c", _PUBLISH, *words, name, str(start)], cwd=Path(__file__).parents[2])
        for name in names
    ]
    statuses = [process.wait() for process in running]
    listed = list_labels(of.image.url, storage_options=of.options)
    lost = [name for name, status in zip(names, statuses, strict=True) if status or name not in listed]
    same = not lost and all(equal(arrays(of.image, name), arrays(of.image, "calm")) for name in names)
    return Ending(
        faults=f"{PUBLISHERS} × publish at once", finished=not lost, equal=same, named=f"lost: {lost} {statuses}"
    )


def _both(commands: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    """Status and error text of commands that run at the same time."""
    running = [started(words) for words in commands]
    errors = [process.communicate()[1].decode() for process in running]
    return [(process.returncode, error) for process, error in zip(running, errors, strict=True)]


def trainings(of: Ground) -> Ending:
    """The same training is started twice in one folder, over a model that is there."""
    url, options = f"{of.image.url}.together", ["--storage-options", json.dumps(of.options)]
    small = ["steps=20", "crop=32", "batch_size=2", "unet.width=2", "depth=1", "loader_workers=0", "precision=fp32"]
    words = ["train", "saw", of.image.url, "--layer", "calm", "--serial", "--output", url, *options]
    words += [word for setting in small for word in ("--set", setting)]
    started(words).communicate()
    expected = digest(load_model(url, of.options))
    ended = _both([[*words, "--overwrite"]] * 2)
    refused = [error for status, error in ended if status]
    finished = len(refused) < 2 and all("Another training has taken over" in error for error in refused)
    same = digest(load_model(url, of.options)) == expected
    return Ending(faults="2 × the same training at once", finished=finished, equal=same, named=" | ".join(refused))


def imports(of: Ground) -> Ending:
    """Two images are written into one place at the same time, over one that is there."""
    url, options = f"{of.image.url}.imported", ["--storage-options", json.dumps(of.options)]
    words = ["synthesize", "--shape", "2,64,80", "--cells", "4", *options]
    twins = [f"{url}-{seed}" for seed in (1, 2)]
    for place, seed in ((url, 3), *zip(twins, (1, 2), strict=True)):
        started([*words, place, "--seed", str(seed)]).communicate()
    ended = _both([[*words, url, "--seed", str(seed), "--overwrite"] for seed in (1, 2)])
    finished = not any(status for status, _ in ended)
    same = [_pixels(of, url) == _pixels(of, twin) for twin in twins]
    return Ending(faults="2 × import at once", finished=finished, equal=any(same), named=str(ended))


def _pixels(of: Ground, url: str) -> list[bytes]:
    image = open_image(url, storage_options=of.options)
    labels = open_labels(url, "truth", storage_options=of.options)
    whole = Box(0, 0, image.size("y"), image.size("x"))
    planes = [np.ascontiguousarray(image.read(whole, t=t)) for t in range(image.size("t"))]
    return [plane.tobytes() for plane in [*planes, *(labels.read(whole, t=t) for t in range(image.size("t")))]]


TOGETHER: dict[str, Plan] = {
    "four layers are published at once": Plan(carry_out=publishers, finishes=True),
    "the same training is started twice, over a model": Plan(carry_out=trainings, finishes=True),
    "two images are imported into one place at once": Plan(carry_out=imports, finishes=True),
}
