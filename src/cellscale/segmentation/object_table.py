"""The object table of a label layer: one row for each cell and frame, in Parquet files of one schema.

Every file has the same columns and types, also without rows; `ngff.layer_tables` names them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cellscale.kernels.exact_sums import means_of
from cellscale.kernels.tables import FLAGS
from cellscale.types import Table

SIDES = ("y0", "x0", "y1", "x1")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The image on which objects are measured."""

    shape: tuple[int, int]
    """Height and width of a frame, px."""
    pixel_size_um: tuple[float, float] | None
    """Height and width of a pixel, µm; None: unknown, lengths and areas in µm are nan."""
    channels: Sequence[str]
    """Names of the channels, each once."""


def intensity_prefix(channel: int) -> str:
    """Beginning of the names of the columns that hold a channel's sums, see `exact_sums`."""
    return f"intensity_{channel}:"


def schema(channels: Sequence[str]) -> pa.Schema:
    """Columns of the table of a layer whose image has these channels."""
    fields: dict[str, pa.DataType] = {"frame": pa.int32(), "slice": pa.int32(), "label": pa.uint32()}
    fields |= {"area_px": pa.int64(), "area_um2": pa.float64()}
    fields |= {f"centroid_{axis}_{unit}": pa.float64() for unit in ("px", "um") for axis in "yx"}
    fields |= {f"bbox_{side}_px": pa.int64() for side in SIDES}
    fields |= {"touches_edge": pa.bool_()} | dict.fromkeys(FLAGS, pa.bool_())
    fields |= {f"intensity_mean-{name}": pa.float64() for name in channels}
    return pa.schema(list(fields.items()))


def object_table(objects: Table, image: Measured, *, frame: int, z: int, labels: NDArray[np.integer[Any]]) -> pa.Table:
    """Rows of the objects of one frame and slice.

    Parameters
    ----------
    objects : Table
        One row for each object: area, sum_y, sum_x, y0, x0, y1, x1 as `fragment_table` has them, 0 or 1 for each flag
        that the method has, and the digits of each channel's sum under its `intensity_prefix`. Without objects it may
        be empty.
    image : Measured
        Size, pixel size and channels.
    frame, z : int
        Frame and slice.
    labels : integer array, (n,)
        Label of each object.
    """
    none = np.zeros(len(labels), np.int64)
    area, size = objects.get("area", none), image.pixel_size_um or (np.nan, np.nan)
    columns: dict[str, NDArray[Any]] = {
        "frame": np.full(len(labels), frame, np.int32),
        "slice": np.full(len(labels), z, np.int32),
        "label": labels,
        "area_px": area,
        "area_um2": area * size[0] * size[1],
    }
    for axis, length in zip("yx", size, strict=True):
        columns[f"centroid_{axis}_px"] = objects.get(f"sum_{axis}", none) / area
        columns[f"centroid_{axis}_um"] = columns[f"centroid_{axis}_px"] * length
    y0, x0, y1, x1 = sides = [objects.get(side, none) for side in SIDES]
    columns |= {f"bbox_{side}_px": values for side, values in zip(SIDES, sides, strict=True)}
    columns["touches_edge"] = (y0 == 0) | (x0 == 0) | (y1 == image.shape[0]) | (x1 == image.shape[1])
    columns |= {flag: objects.get(flag, none) > 0 for flag in FLAGS}
    for c, name in enumerate(image.channels):
        columns[f"intensity_mean-{name}"] = means_of(_sums(objects, intensity_prefix(c)), area)
    wanted = schema(image.channels)
    return pa.table([pa.array(columns[field.name], field.type) for field in wanted], schema=wanted)


def _sums(objects: Table, prefix: str) -> Mapping[str, NDArray[np.int64]]:
    return {name.removeprefix(prefix): column for name, column in objects.items() if name.startswith(prefix)}


def parquet(table: pa.Table) -> bytes:
    """The content of a file of the table."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()
