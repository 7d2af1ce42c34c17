"""The published methods, by name; each paper is one file.

A method is a value: METHODS names it, `load_method` imports it on first use. A method outside the package is named
"package.module:NAME".
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Collection, Sequence
from typing import Any, cast

from cellscale.errors import InputError, MissingError, unknown
from cellscale.methods.protocol import Method
from cellscale.settings.fields import flat_json, replaced

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
_PARTS = sorted(name for name in vars(Method) if not name.startswith("_"))
"""Members that every method has."""


def load_method(name: str, /, **settings: Any) -> Method:
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
        If a setting is of the wrong type, or the name does not refer to a method.
    """
    place = METHODS.get(name, name)
    if ":" not in place:
        raise unknown("method", name, METHODS)
    module, _, attribute = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
        method = found() if isinstance(found, type) else found
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise MissingError(f"Method {name!r} cannot be imported: {reason}. Write package.module:NAME.") from error
    absent = [part for part in _PARTS if not hasattr(method, part)]
    if absent or not dataclasses.is_dataclass(method):
        expected = "expected a frozen dataclass with what cellscale.methods.protocol.Method names"
        raise InputError(f"{name!r} is not a valid method; {expected}{_lacking(absent)}.")
    return replaced(cast("Method", method), settings)


def _lacking(names: Sequence[str]) -> str:
    return f", but it lacks {', '.join(names)}" if names else ""


def module_of(name: str) -> str:
    """Module of a method named "package.module:NAME"; empty for a name of METHODS."""
    return name.partition(":")[0] if ":" in name else ""


def check_trusted(name: str, trust: Collection[str], source: str) -> None:
    """Refuse a method that a file names and that is not trusted: importing it would run code chosen by the file.

    Parameters
    ----------
    name : str
        Name of the method: a name without a module can only be one of METHODS, which are always trusted.
    trust : collection of str
        Names of the modules whose methods may be imported.
    source : str
        The file that names the method.

    Raises
    ------
    InputError
        If the method's module is not among them.
    """
    module, allowed = module_of(name), {trust} if isinstance(trust, str) else set(trust)
    if ":" not in name or (module and module in allowed):
        return
    raise InputError(
        f"{source} asks for the method {name!r}, which is not part of cellscale: loading it runs the code of the "
        f"module {module!r}. If you trust it, add --trust-model {module} (Python: trust=[{module!r}])."
    )


def settings_of(method: Method) -> dict[str, Any]:
    """Return all settings by dotted name, in JSON's types; `load_method(name, **settings)` gives the method back."""
    return flat_json(method)
