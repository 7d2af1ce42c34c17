"""Another calibration of a trained model: its thresholds for other images, without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cellscale.errors import InputError
from cellscale.methods.inference import Precision, check_device, device_of
from cellscale.models.model import Model, digest, load_model, save_model
from cellscale.settings.fields import check_trained, flat, replaced
from cellscale.settings.files import read_config
from cellscale.settings.frame_range import Frames as Range
from cellscale.storage.folder import Folder
from cellscale.storage.urls import Location, address, check_apart, url_of, urls_of
from cellscale.training.frames import Frames, checked
from cellscale.training.selection import labelled_images, training_data


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    """Parameters of the prediction of the annotated frames; as in a training."""

    device: str = "auto"
    """Device of the networks: cpu, cuda, mps; auto: a GPU where this process has one."""
    precision: Precision = "auto"
    """Arithmetic of the networks."""
    test_time_flips: bool | Literal["auto"] = "auto"
    """Predict the mean over a frame's four flips, as a segmentation with the new model then does; auto: as the given
    model does."""
    ignore_label: int = 0
    """Label of pixels that were not annotated; 0: no such label."""

    def __post_init__(self) -> None:
        check_device(self.device)


def calibrate(
    model: Location | Model,
    data: Sequence[Location] = (),
    *,
    output: Location,
    layer: str = "truth",
    frames: Range = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    trust: Collection[str] = (),
    storage_options: Mapping[str, Any] | None = None,
) -> Model:
    """Write a trained model with other thresholds: fitted on annotated images, or given. Its networks stay.

    Parameters
    ----------
    model : str, path or Model
        A trained model, the URL of its folder, or a name of `list_models()`.
    data : sequence of str or path
        URLs of OME-Zarr images with a label layer, on which the thresholds and size limits are fitted that the method's
        settings call fitted by `calibrate`; of a collection of images, all that have the layer. Empty: only
        `settings` are applied.
    output : str or path
        Folder of the new model, any fsspec URL.
    layer : str
        Label layer with the ground truth.
    frames : tuple of int
        Half-open range of frames; None: all that are annotated.
    settings : mapping
        Settings of the method by name, e.g. {"minimum_area": 50}, and of the prediction: device, precision,
        test_time_flips, ignore_label. With `data`, they are where the search begins.
    overwrite : bool
        Replace an existing model.
    trust : collection of str
        Modules outside of cellscale whose methods the model may name, see `load_model`.
    storage_options : mapping
        Options for fsspec.

    Returns
    -------
    Model
        As saved. `training["calibrated_from"]` is the digest of the weights and settings it was made from,
        `training["validation"]` has the scores on `data`.

    Raises
    ------
    CellscaleError
        For neither data nor settings, settings that need another training, data that do not fit, or an existing model.

    Examples
    --------
    >>> import cellscale
    >>> model = cellscale.calibrate("nuclei", settings={"minimum_area": 50}, output="larger-nuclei")
    >>> model.method.minimum_area
    50
    """
    # What draws the curves of a training takes seconds to import; the other commands do without.
    from cellscale.training.resume_state import claim
    from cellscale.training.run import check_start

    given = model if isinstance(model, Model) else load_model(model, storage_options, trust=trust)
    fields = {"method": flat(given.method), "training": flat(CalibrationSettings())}
    read = read_config(None, settings or {}, fields)
    made = dataclasses.replace(given, method=replaced(given.method, read.section("method")))
    how = replaced(CalibrationSettings(), read.section("training"))
    if not data and not read.section("method") and how.test_time_flips == "auto":
        raise InputError(
            "Nothing to change: expected images with a label layer, or settings of the method such as minimum_area."
        )
    check_start(given, given.method.name, made.method)
    check_trained(given.method, made.method)
    urls, output = urls_of(data, "annotated images"), url_of(output, "output")
    for url in urls:
        check_apart(url, output)
    images = labelled_images(urls, layer, storage_options)
    annotated = [training_data(image, layer, made.method.channels, frames) for image in images]
    held = claim(Folder(url=address(output), storage_options=storage_options or {}), resume=False, overwrite=overwrite)
    with held.given_up_on_error():
        about = {"calibrated_from": digest(given), "validation_frames": 0, "validation": {}}
        made = dataclasses.replace(made, training={**given.training, **about})
        made = fit_thresholds(made, annotated, how)
        held.check()
        save_model(made, held.folder.url, held.folder.storage_options)
        held.release()
    return made


def fit_thresholds(model: Model, annotated: Sequence[Frames], how: CalibrationSettings) -> Model:
    """Fit a model's thresholds on data sets of annotated frames, if there are any; its summary gets their scores."""
    from cellscale.training.run import held_out_crops
    from cellscale.training.validation import Inference, calibrated, predictions

    model = model if how.test_time_flips == "auto" else model.with_flips(how.test_time_flips)
    if not annotated:
        return model
    crops = held_out_crops(
        checked(annotated, model.method.channels, "annotated", how.ignore_label), model.method, how.ignore_label
    )
    ways = Inference(device=str(device_of(how.device)), precision=how.precision, flips=model.test_time_flips)
    for network in model.networks.values():
        network.to(ways.device)
    method, found = calibrated(
        model.method, crops.frames, lambda tiles: predictions(model.method, model.networks, crops, tiles, ways)
    )
    for network in model.networks.values():
        network.cpu()
    about = {"validation_frames": len(crops.frames), "validation": found}
    return dataclasses.replace(model, method=method, training={**model.training, **about})
