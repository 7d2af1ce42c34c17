"""The published methods, by name; each paper is one file.

A method is a value: METHODS names it, `load_method` imports it on first use. A method outside the package is named
"package.module:NAME".
"""

from __future__ import annotations

import importlib
from typing import Any, cast

from cellscale.errors import MissingError, unknown
from cellscale.methods.protocol import Method
from cellscale.settings.fields import flat, replaced

METHODS = {
    "unet-ronneberger": "cellscale.methods.border_weights:UNET_RONNEBERGER",
    "unet2": "cellscale.methods.shape_aware_weights:UNET2",
    "unet3": "cellscale.methods.shape_aware_weights:UNET3",
    "focal": "cellscale.methods.shape_aware_weights:FOCAL",
    "dwm": "cellscale.methods.shape_aware_weights:DWM",
    "saw": "cellscale.methods.shape_aware_weights:SAW",
    "deepsplit": "cellscale.methods.deepsplit:DEEPSPLIT",
    "branchnet": "cellscale.methods.deepsplit:BRANCHNET",
    "double-unet": "cellscale.methods.deepsplit:DOUBLE_UNET",
    "ribcage": "cellscale.methods.rib_cage:RIBCAGE",
    "ribcage-ce": "cellscale.methods.rib_cage:RIBCAGE_CE",
    "classdisc": "cellscale.methods.rib_cage:CLASSDISC",
    "pixel-forest": "cellscale.methods.pixel_forest:PIXEL_FOREST",
    "multicellnet": "cellscale.methods.multicellnet:MULTICELLNET",
    "l2s": "cellscale.methods.legendre_level_set:L2S",
    "maskrcnn": "cellscale.methods.shape_aware_loss:MASK_RCNN",
    "unet-binary": "cellscale.methods.shape_aware_loss:UNET_BINARY",
    "mu-lux": "cellscale.methods.mu_lux:MU_LUX",
    "calt-us": "cellscale.methods.calt_us:CALT_US",
}
"""Name on the command line to "module:value"."""


def load_method(name: str, **settings: Any) -> Method:
    """Return the method of this name with these settings.

    Parameters
    ----------
    name : str
        A name of METHODS, or "package.module:NAME" of a method, or of a class that makes one without arguments.
    **settings
        Fields by dotted name, or by the last part of it where that is clear: `unet.width` or `width`.

    Raises
    ------
    MissingError
        If there is no such method or setting; lists those that exist and suggests the nearest.
    InputError
        If a setting is of the wrong type.
    """
    place = METHODS.get(name, name)
    if ":" not in place:
        raise unknown("method", name, METHODS)
    module, _, attribute = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise MissingError(f"Method {name!r} cannot be imported: {error}. Write package.module:NAME.") from error
    method = cast("Method", found() if isinstance(found, type) else found)
    return replaced(method, settings)


def settings_of(method: Method) -> dict[str, Any]:
    """Return all settings by dotted name, in JSON's types; `load_method(name, **settings)` gives the method back."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in flat(method).items()}
