"""One worker against several: the same segmentation on Ray clusters of this machine, one thread each.

Run `python benchmarks/workers.py IMAGE.zarr MODEL --workers 1,2,1,2`: seconds of all steps, without the start of the
cluster and of its processes, which a small segmentation before each run takes.
"""

import argparse
import os
import tempfile

import ray

import cellscale


def seconds(image: str, model: str, small: str, folder: str) -> float:
    """Segment, after a small image has started the workers and loaded the kernels."""
    cellscale.segment(small, model=model, output=f"{folder}/small.zarr", overwrite=True)
    result = cellscale.segment(image, model=model, output=f"{folder}/labels.zarr", overwrite=True)
    return float(sum(result.report.seconds.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("model")
    parser.add_argument("--workers", default="1,2,1,2")
    given = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "RAY_worker_niceness": "0"}
    found: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        small = f"{folder}/little.zarr"
        cellscale.synthesize(small, shape=(8, 256, 256), cells=30)
        for count in map(int, given.workers.split(",")):
            ray.init(num_cpus=count, include_dashboard=False, log_to_driver=False)
            found.setdefault(count, []).append(seconds(given.image, given.model, small, folder))
            ray.shutdown()
            print(f"{count} workers: {found[count][-1]:.1f} s", flush=True)
    best = {count: min(values) for count, values in found.items()}
    for count, value in best.items():
        print(f"{count} workers: {best[min(best)] / value:.2f} × as fast as {min(best)}")


if __name__ == "__main__":
    main()
