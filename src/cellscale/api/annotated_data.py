"""Object tables as AnnData: what identifies an object in `obs`, its place in `obsm`, its measurements in `X`.

The attributes that SpatialData needs to join a table with its label layers are written where a row is known by its
layer and its label.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cellscale.errors import DamagedError, MissingError
from cellscale.kernels.tables import FLAGS

Columns = dict[str, NDArray[Any]]
"""Columns of equal length."""
_KEYS = ("image", "frame", "slice", "label")
"""Columns that name a row."""
_IDENTITY = (*_KEYS, "slice_end", "track", "parent", "generation", "touches_edge", *FLAGS)
"""Columns of `obs`, apart from the bounding box."""


def check_installed() -> None:
    """Raise MissingError unless anndata is installed."""
    if importlib.util.find_spec("anndata") is None:
        raise MissingError(
            "AnnData needs the package anndata. Install it with `pip install 'cellscale[anndata]'`, or write .csv or "
            ".parquet."
        )


def annotated_data(rows: pa.Table, layer: str) -> Any:
    """Return an object table as AnnData; it is held in memory.

    Parameters
    ----------
    rows : pyarrow.Table
        Rows of the object table. A column `image` has the names of images, ROW/COLUMN/FIELD in a plate.
    layer : str
        Name of the layer. The region of an image of a plate is ROW_COLUMN_FIELD_LAYER.

    Returns
    -------
    anndata.AnnData
        X: measurements, float64. obs: what identifies an object, bounding boxes, flags, and the region.
        obsm["spatial"]: centroids in the order x, y, z, in the unit that uns["cellscale"]["spatial_unit"] names;
        obsm["spatial_px"]: the same in pixels.

    Raises
    ------
    DamagedError
        If columns are missing, named twice, or have values of another kind.
    """
    anndata, pandas = importlib.import_module("anndata"), importlib.import_module("pandas")
    columns = _columns(rows, layer)
    keys = [columns[name].tolist() for name in _KEYS if name in columns]
    # anndata 0.12 writes text of the type object alone, and pandas 3 chooses another one by itself.
    index = pandas.Index(["/".join(map(str, key)) for key in zip(*keys, strict=True)], dtype=object)
    obs = pandas.DataFrame(index=index)
    for name, column in {**_regions(columns, layer), **_identity(columns)}.items():
        text = column.dtype == object
        known = pandas.Index(np.unique(column), dtype=object) if text else None
        obs[name] = pandas.Categorical(column, categories=known) if text else column
    places, unit = _places(columns)
    features = [name for name in columns if name not in _IDENTITY and not name.startswith(("bbox_", "centroid_"))]
    values = np.stack([columns[name].astype(np.float64) for name in features] or [np.zeros((0, len(obs)))], axis=-1)
    uns: dict[str, Any] = {"cellscale": {"layer": layer, "spatial_unit": unit}}
    if not obs.duplicated(["region", "label"]).any():
        regions = obs["region"].cat.categories.tolist()
        uns["spatialdata_attrs"] = {"region": regions, "region_key": "region", "instance_key": "label"}
    return anndata.AnnData(
        X=values.reshape(len(obs), len(features)),
        obs=obs,
        var=pandas.DataFrame(index=pandas.Index(features, dtype=object)),
        obsm=places,
        uns=uns,
    )


def _columns(rows: pa.Table, layer: str) -> Columns:
    """Columns by name, each a number or a truth value, and the names of images as text."""
    names, needed = rows.column_names, ("frame", "label", "centroid_y_px", "centroid_x_px")
    twice = sorted({name for name in names if names.count(name) > 1})
    missing = [name for name in needed if name not in names]
    other = [field.name for field in rows.schema if not _fits(field)]
    unknown = [name for name in _IDENTITY if name in names and name not in twice and rows[name].null_count]
    for reason, found in (
        ("two columns of the name", twice),
        ("no column", missing),
        ("values of another kind in the column", other),
        ("rows without a value in the column", unknown),
    ):
        if found:
            raise DamagedError(
                f"The object table of layer {layer!r} has {reason} {found[0]!r}. Make it anew with "
                "`cellscale measure --overwrite`."
            )
    return {name: rows[name].to_numpy() for name in names}


def _fits(field: pa.Field) -> bool:
    """Whether a column has the kind of values that its name promises."""
    if field.name == "image":
        return bool(pa.types.is_string(field.type))
    whole = pa.types.is_integer(field.type)
    return whole or (field.name not in _KEYS and (pa.types.is_floating(field.type) or pa.types.is_boolean(field.type)))


def _identity(columns: Columns) -> Columns:
    return {name: columns[name] for name in columns if name in _IDENTITY or name.startswith("bbox_")}


def _regions(columns: Columns, layer: str) -> Columns:
    """The region of each row, and for a plate its well and field."""
    count = len(columns["label"])
    if "image" not in columns:
        return {"region": np.full(count, layer, object)}
    images, which = np.unique(columns["image"].astype(object), return_inverse=True)
    names = [image.split("/") for image in images.tolist()]
    made = {"region": ["_".join((*name, layer)) for name in names]}
    if all(len(name) == 3 for name in names):
        made |= {"well": ["/".join(name[:2]) for name in names], "field": [name[2] for name in names]}
    return {name: np.array(values, object)[which] for name, values in made.items()}


def _places(columns: Columns) -> tuple[Columns, str]:
    """Centroids, (n, axes) in the order x, y, z, and the unit of the first ones; µm where all of them are known."""
    axes = [axis for axis in "xyz" if f"centroid_{axis}_px" in columns]
    unknown = np.full(len(columns["label"]), np.nan)
    pixels, lengths = (
        np.stack([columns.get(f"centroid_{axis}_{unit}", unknown) for axis in axes], axis=1).astype(np.float64)
        for unit in ("px", "um")
    )
    known = bool(np.isfinite(lengths).all())
    return {"spatial": lengths if known else pixels, "spatial_px": pixels}, "micrometer" if known else "pixel"
