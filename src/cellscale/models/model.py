"""A trained model as a folder: model.json and weights.safetensors, on any file system or object store.

model.json is written last and names the file of the weights and its digest, so that an incomplete model is not visible.
A model that replaces another has its weights in a file with another name.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

import cellscale
from cellscale.errors import DamagedError, InputError, MissingError, StoreError
from cellscale.methods import check_trusted, load_method, settings_of
from cellscale.methods.protocol import Method
from cellscale.models.budget import SPARE, Budget
from cellscale.progress import Progress
from cellscale.settings.fields import added_since, replaced
from cellscale.storage.documents import parsed
from cellscale.storage.folder import Folder
from cellscale.storage.json_text import json_text
from cellscale.storage.urls import Location, url_of
from cellscale.types import AnyArray

FORMAT = 1
"""Version of the folder's layout."""
DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"
WEIGHTS_NAME = re.compile(r"weights(-[0-9a-f]{16})?\.safetensors")
"""Names of files of weights."""
CURVE = ("history.csv", "loss.png")
"""The curve of the training that made the weights, if there is one."""
SHIPPED = Path(__file__).with_name("shipped")
"""Folder of the models that come with the package: NAME/model.json, NAME/weights.safetensors, NAME/card.md."""
KINDS = {"method": str, "settings": dict, "pixel_size_um": list | None, "training": dict, "weights_sha256": str}
"""Entries of a description and their types."""
_MISFITS = (RuntimeError, TypeError, ArithmeticError, LookupError, ValueError)
"""Errors that Python and torch raise for combinations of settings that do not fit together."""
MAX_REACH = 8192
"""Largest reach of a method, px: a window is twice as much wider than its core, and has to fit into memory."""
MAX_PIXEL_UM = 1e6
"""Largest pixel, µm."""


class ArrayOptions(TypedDict, total=False):
    """Keyword arguments of `Model.segment`; `cellscale.segment_array` says what each means."""

    axes: str | None
    channels: str | Sequence[str | int] | None
    z_mode: Literal["slices", "max_projection"]
    settings: Mapping[str, Any] | None
    on_progress: Progress


@dataclass(frozen=True, kw_only=True)
class Model:
    """A method with its weights and a summary of their training."""

    method: Method
    """Method with its settings."""
    networks: dict[str, nn.Module]
    """Trained networks by name."""
    pixel_size_um: tuple[float, float] | None = None
    """Height and width of a pixel of the training images, µm; None: unknown."""
    training: dict[str, Any] = field(default_factory=dict)
    """Summary of the training in JSON's types: steps, seed, scores …"""

    @property
    def test_time_flips(self) -> bool:
        """Whether the thresholds were fitted on means over four flips: a segmentation predicts these as well."""
        return self._training_settings.get("test_time_flips") is True

    def with_flips(self, flips: bool) -> Model:
        """The same model, whose thresholds are for means over four flips, or for plain predictions."""
        settings = {**self._training_settings, "test_time_flips": flips}
        return replace(self, training={**self.training, "settings": settings})

    @property
    def _training_settings(self) -> Mapping[str, Any]:
        """Settings of the training, as a model from elsewhere may lack them."""
        found = self.training.get("settings")
        return found if isinstance(found, dict) else {}

    def segment(self, array: AnyArray, **options: Unpack[ArrayOptions]) -> AnyArray:
        """Segment an array of NumPy, dask or xarray: `cellscale.segment_array` with this model.

        Parameters
        ----------
        array : numpy.ndarray, dask.array.Array or xarray.DataArray
            Pixels of 2 to 5 dimensions.
        **options
            axes, channels, z_mode, settings, on_progress: as for `cellscale.segment_array`.

        Returns
        -------
        array of the same kind, uint32
            Labels, 0 for background.

        Examples
        --------
        >>> import numpy as np
        >>> import cellscale
        >>> labels = cellscale.load_model("nuclei").segment(np.zeros((64, 64), np.uint8))
        >>> labels.shape, labels.dtype, int(labels.max())
        ((64, 64), dtype('uint32'), 0)
        """
        # The public name loads the layers above this one on first use.
        return cellscale.segment_array(array, model=self, **options)


def named_tensors(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """All parameters and statistics, not copied, as network.name."""
    return {f"{name}.{key}": value for name, network in networks.items() for key, value in network.state_dict().items()}


def tensors(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """All parameters and statistics, on the CPU, as network.name."""
    return {name: value.detach().cpu().contiguous() for name, value in named_tensors(networks).items()}


def restore(networks: Mapping[str, nn.Module], values: Mapping[str, Tensor]) -> None:
    """Put `tensors` back into networks of the same shapes.

    Raises
    ------
    StoreError
        If names or shapes differ.
    """
    for name, network in networks.items():
        own = {key.removeprefix(f"{name}."): value for key, value in values.items() if key.startswith(f"{name}.")}
        try:
            network.load_state_dict(own, strict=True)
        except RuntimeError as error:
            raise StoreError(
                f"The weights do not fit network {name!r}: {error}. Were the settings in {DESCRIPTION} changed?"
            ) from error


def _settings(method: Method) -> str:
    return json.dumps({"method": method.name, "settings": settings_of(method)}, sort_keys=True)


def digest(model: Model) -> str:
    """Return the SHA-256 of method, settings and weights: equal digests mean equal predictions on equal hardware."""
    found = hashlib.sha256(_settings(model.method).encode())
    for name, value in sorted(tensors(model.networks).items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def save_model(model: Model, url: Location, storage_options: Mapping[str, Any] | None = None) -> None:
    """Write a model as a folder; an existing model stays until the new one is complete, and is then replaced.

    The curve of the old model's training is deleted with it, unless the new one has the same weights.

    Parameters
    ----------
    model : Model
        A trained model.
    url, storage_options
        The folder, any fsspec URL, and options for fsspec.

    Raises
    ------
    StoreError
        If the folder cannot be written.

    Examples
    --------
    >>> import cellscale
    >>> cellscale.save_model(cellscale.load_model("nuclei"), "copied")
    >>> cellscale.load_model("copied").method.name
    'unet-ronneberger'
    """
    weights = save(tensors(model.networks))
    folder = Folder(url=url_of(url, "model"), storage_options=storage_options or {})
    written = hashlib.sha256(weights).hexdigest()
    # A model that is there keeps its weights until its description names the new ones.
    file = WEIGHTS if folder.size(WEIGHTS) is None else f"weights-{written[:16]}.safetensors"
    description = {
        "format": FORMAT,
        **json.loads(_settings(model.method)),
        "pixel_size_um": model.pixel_size_um,
        "training": model.training,
        "weights": file,
        "weights_sha256": written,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in ("cellscale", "numpy", "torch")}},
    }
    text = json_text(description, indent=2).encode()
    before: list[bytes | None] = []

    def changed(content: bytes | None) -> bytes | None:
        before[:] = [content]
        return None if content == text else text

    folder.write(file, weights)
    folder.update(DESCRIPTION, changed)
    old = _weights_of(before[0])
    if old is None:
        return
    others = () if _described(before[0])["weights_sha256"] == written else CURVE
    for name in (*others, *({old} - {file})):
        folder.delete(name)


def _described(content: bytes | None) -> dict[str, Any]:
    """Entries of a description; none if it is damaged or describes no model."""
    try:
        found = parsed(content or b"null", DESCRIPTION)
    except DamagedError:
        return {}
    return found if isinstance(found, dict) and "weights_sha256" in found else {}


def _weights_of(content: bytes | None) -> str | None:
    """Name of the file of weights that a description names; None for something else."""
    found = _described(content)
    name = found.get("weights", WEIGHTS) if found else None
    return name if isinstance(name, str) and WEIGHTS_NAME.fullmatch(name) else None


def _pair(folder: Folder) -> tuple[bytes | None, bytes | None]:
    """Read a description and its weights, which another process may replace meanwhile."""
    content = folder.read(DESCRIPTION)
    while True:
        weights = folder.read(_weights_of(content) or WEIGHTS)
        now = folder.read(DESCRIPTION) if weights is None else content
        if now == content:
            return content, weights
        content = now


def _read(url: str, storage_options: Mapping[str, Any] | None, shipped: Path) -> tuple[bytes, bytes]:
    content, weights = _pair(Folder(url=url, storage_options=storage_options or {}))
    if content is None or weights is None:
        names = [found["name"] for found in shipped_models(shipped)]
        if url in names:
            return _read(str(shipped / url), None, shipped)
        raise MissingError(
            f"No model at {url}: expected a folder with {DESCRIPTION} and {WEIGHTS}, or the name of an included model "
            f"({', '.join(names) or 'none'}). Make one with `cellscale train`."
        )
    return content, weights


def shipped_models(folder: Path = SHIPPED) -> list[dict[str, Any]]:
    """List the models included in the package: name, summary (title of its card), method, pixel_size_um, bytes."""
    return [_listed(path.parent) for path in sorted(folder.glob(f"*/{DESCRIPTION}"))]


def _listed(folder: Path) -> dict[str, Any]:
    description = _description((folder / DESCRIPTION).read_bytes(), str(folder))
    return {
        "name": folder.name,
        "summary": (folder / "card.md").read_text().partition("\n")[0].strip("# "),
        "method": description["method"],
        "pixel_size_um": description.get("pixel_size_um"),
        "bytes": (folder / WEIGHTS).stat().st_size,
    }


def _description(content: bytes, url: str) -> dict[str, Any]:
    place, again = f"{url}/{DESCRIPTION}", "Copy the model again, or train it anew."
    try:
        found = parsed(content, place)
    except DamagedError as error:
        raise DamagedError(f"{place} is not a valid model description: {error} {again}") from error
    if not isinstance(found, dict) or "format" not in found:
        raise DamagedError(f"{place} is not a valid model description: it has no entry 'format'. {again}")
    if found["format"] != FORMAT:
        raise InputError(f"{place} has format {found['format']!r}, expected {FORMAT}. Use the cellscale that wrote it.")
    wrong = [name for name, kind in KINDS.items() if not isinstance(found.get(name), kind)]
    if not _is_size(found.get("pixel_size_um")):
        wrong.append("pixel_size_um")
    if wrong:
        raise DamagedError(
            f"{place} is damaged: {', '.join(map(repr, dict.fromkeys(wrong)))} missing or of another type. {again}"
        )
    return found


def _is_size(value: Any) -> bool:
    """Whether a value is None or a height and a width above 0."""
    if value is None:
        return True
    whole = isinstance(value, list) and len(value) == 2
    return whole and all(type(side) in (int, float) and 0 < side < MAX_PIXEL_UM for side in value)


def _method(description: Mapping[str, Any], place: str, trust: Collection[str]) -> Method:
    """The method of a description; its settings give windows that fit into memory."""
    check_trusted(description["method"], trust, place)
    method = load_method(description["method"], **description["settings"])
    try:
        method = replaced(method, added_since(method, description["settings"]))
    except MissingError as error:
        raise DamagedError(f"{place} is incomplete: {error} Copy the model again.") from error
    try:
        reaches = asdict(method.reaches)
    except _MISFITS as error:
        raise DamagedError(f"The settings of {place} do not fit together: {error}. Copy the model again.") from error
    for name, value in reaches.items():
        if not 0 <= value <= MAX_REACH:
            raise InputError(f"The settings of {place} give a {name} of {value} px; expected 0 to {MAX_REACH}.")
    return method


def _networks(method: Method, weights: bytes, url: str) -> dict[str, nn.Module]:
    """Networks of a method with these weights, in evaluation mode; none larger than the weights is created."""
    try:
        values = load(weights)
    except (SafetensorError, LookupError, ValueError) as error:
        raise DamagedError(f"{url}/{WEIGHTS} is damaged: {error}.") from error
    _check_finite(values, url)
    held = sum(value.numel() for value in values.values())
    place, advice = f"{url}/{DESCRIPTION}", f"Were the settings in {DESCRIPTION} changed?"
    message = f"{place} asks for networks that its weights, {held} numbers, cannot fill. {advice}"
    try:
        with Budget(held + SPARE, message):
            networks = {name: network.eval() for name, network in method.networks().items()}
    except _MISFITS as error:
        raise DamagedError(f"The settings of {place} give no valid networks: {error}. {advice}") from error
    restore(networks, values)
    return networks


def _check_finite(values: Mapping[str, Tensor], url: str) -> None:
    """Raise DamagedError for weights that are NaN or infinite: they would predict background without an error."""
    for name, value in sorted(values.items()):
        if value.is_floating_point() and not torch.isfinite(value).all():
            count = int((~torch.isfinite(value)).sum())
            raise DamagedError(
                f"{url}/{WEIGHTS}: {count} of {value.numel()} numbers of {name!r} are not finite (NaN or infinity). "
                "The training went wrong, or the file was changed: train again, with a lower learning rate."
            )


def load_model(
    url: Location,
    storage_options: Mapping[str, Any] | None = None,
    *,
    trust: Collection[str] = (),
    shipped: Path = SHIPPED,
) -> Model:
    """Read a model that `save_model` wrote; its networks are on the CPU in evaluation mode.

    Parameters
    ----------
    url : str or path
        Folder of the model, or the name of an included one; an existing folder of that name has precedence.
    storage_options : mapping
        Options for fsspec.
    trust : collection of str
        Modules outside of cellscale whose methods may be imported, e.g. ["mypackage.methods"]: their code runs. Without
        it, only the methods of `cellscale.list_methods()` are loaded.
    shipped : Path
        Folder of the models that have names.

    Raises
    ------
    MissingError
        If there is no model, or its method or a setting is unknown here.
    InputError
        If the folder has another format, or its method is code that is not trusted.
    StoreError
        If the folder cannot be read, or weights and description do not match.

    Examples
    --------
    >>> import cellscale
    >>> cellscale.load_model("nuclei").method.name
    'unet-ronneberger'
    """
    url = url_of(url, "model")
    content, weights = _read(url, storage_options, shipped)
    found = _description(content, url)
    if hashlib.sha256(weights).hexdigest() != found["weights_sha256"]:
        raise DamagedError(f"{url}/{WEIGHTS} is not the file that {DESCRIPTION} describes. Copy the model again.")
    method = _method(found, f"{url}/{DESCRIPTION}", trust)
    networks = _networks(method, weights, url)
    size = found.get("pixel_size_um")
    return Model(
        method=method,
        networks=networks,
        pixel_size_um=(float(size[0]), float(size[1])) if size else None,
        training=found["training"],
    )
