"""StarDist, trained by its own code on the same images for a given processor time, beside one of our models.

    pip install stardist 'tensorflow-cpu>=2.16'      # an environment of its own, next to cellscale
    CELLSCALE_DATA=… python benchmarks/stardist_comparison.py --model nuclei --minutes 45

Both see the split of `accuracy.py` (data `dsb`, seed 0): StarDist trains on the first part, stops and chooses its two
thresholds on the second, and both are scored on the third by the same function. StarDist has the settings of its own
example for these data (32 rays, grid 2, patches of 256 px, batches of 4, flips, turns, intensity and noise). Time is
processor time of the whole process, which has one thread, so a busy machine changes nothing. The same command again
continues a training that was stopped, from the weights after its last whole epoch and with a new optimizer; one that
was scored goes on from the weights that were scored, with more `--minutes`.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from csbdeep.utils import normalize
from stardist.models import Config2D, StarDist2D

from annotated import DATA, Pairs, parts
from cellscale.metrics.frames import scores
from cellscale.models.model import load_model
from cellscale.training.validation import predicted, scored
from cellscale.types import Labels

AP = tuple(f"ap_{percent}" for percent in range(50, 95, 5))
"""The thresholds of the published tables, 0.5 to 0.9."""
COLUMNS = ("ap_50", "ap_mean", "precision", "recall")
RNG = np.random.default_rng(0)
"""Of the augmentation."""


class Clock(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Count the processor time of a training over several processes, and end it after a number of seconds."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.file, self.seconds = folder / "seconds.txt", 0.0
        self.before = float(self.file.read_text()) if self.file.exists() else 0.0
        self.began = time.process_time()

    def used(self) -> float:
        """Seconds of training so far."""
        return self.before + time.process_time() - self.began

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Check after each step."""
        if self.used() >= self.seconds:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Note the time of the weights that are saved at this moment."""
        self.file.write_text(str(self.used()))


def augmented(image: np.ndarray, labels: Labels) -> tuple[np.ndarray, Labels]:
    """Flips, quarter turns, another gain and offset, noise: the augmentation of StarDist's own examples."""
    turns, flip = int(RNG.integers(4)), int(RNG.integers(2))
    image, labels = (np.rot90(plane, turns)[:, :: 1 - 2 * flip] for plane in (image, labels))
    image = image * RNG.uniform(0.6, 2) + RNG.uniform(-0.2, 0.2)
    return image + 0.02 * RNG.uniform() * RNG.normal(size=image.shape), labels


def arrays(pairs: Pairs) -> tuple[list[np.ndarray], list[Labels]]:
    """Images as StarDist normalises them, 1st to 99.8th percentile, and their labels."""
    images = [normalize(image[0].astype(np.float32), 1, 99.8, axis=(0, 1)) for image, _ in pairs]
    return images, [labels.astype(np.int32) for _, labels in pairs]


def summary(found: dict[str, float]) -> dict[str, float]:
    """The scores that the table has."""
    kept = {name: round(found[name], 4) for name in ("ap_50", "precision", "recall", "f1", "seg")}
    return kept | {"ap_mean": round(float(np.mean([found[name] for name in AP])), 4)}


def stardist(folder: Path) -> StarDist2D:
    """A StarDist ready for training, which keeps its weights in the folder; with those of a stopped training."""
    config = Config2D(n_rays=32, grid=(2, 2), train_patch_size=(256, 256), train_batch_size=4, train_tensorboard=False)
    model = StarDist2D(config, name="stardist", basedir=str(folder))
    # Weights of the last epoch are there until a training has ended, then those of the best one.
    for name in (config.train_checkpoint_epoch, config.train_checkpoint):
        if (model.logdir / name).exists():
            model.load_weights(name)
            break
    model.prepare_for_training()
    model.callbacks.append(Clock(model.logdir))
    return model


def fit(model: StarDist2D, learn: Pairs, choose: Pairs, minutes: float) -> None:
    """Train until the process has used the minutes; keep the weights of the best epoch; choose both thresholds."""
    next(known for known in model.callbacks if isinstance(known, Clock)).seconds = 60 * minutes
    images, labels = arrays(learn)
    model.train(
        images, labels, validation_data=arrays(choose), augmenter=augmented, epochs=10_000, steps_per_epoch=100, seed=0
    )
    model.optimize_thresholds(*arrays(choose))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nuclei", help="one of ours, to score on the same images")
    parser.add_argument("--minutes", default="45", help="processor minutes after which StarDist is scored, e.g. 45,100")
    parser.add_argument("--folder", type=Path, default=Path("stardist-model"))
    given = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    learn, choose, test = parts(DATA["dsb"].read(Path(os.environ["CELLSCALE_DATA"])), DATA["dsb"].split)
    lines: list[dict[str, Any]] = []
    ours = load_model(given.model)
    maps = predicted(ours.method, ours.networks, test, device="cpu", precision="fp32", flips=ours.test_time_flips)
    lines.append({"model": given.model, **summary(scored(ours.method, maps))})
    print(json.dumps(lines[-1]), flush=True)
    model = stardist(given.folder)
    for minutes in map(float, given.minutes.split(",")):
        fit(model, learn, choose, minutes)
        found = [model.predict_instances(image)[0] for image in arrays(test)[0]]
        line = summary(
            scores((truth, labels.astype(np.uint32)) for (_, truth), labels in zip(test, found, strict=True))
        )
        lines.append({"model": "StarDist", "minutes": minutes, **line})
        print(json.dumps(lines[-1]), flush=True)
    print("| model | processor min | AP 0.5 | mean AP | precision | recall |\n|---|---|---|---|---|---|")
    for line in lines:
        columns = (
            line["model"],
            line.get("minutes", ""),
            *(line[name] for name in ("ap_50", "ap_mean", "precision", "recall")),
        )
        print("| " + " | ".join(map(str, columns)) + " |")


if __name__ == "__main__":
    main()
