"""JSON as cellscale writes and prints it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(value: Any, **layout: Any) -> str:
    """Serialise a value as strict JSON: NaN and infinities, which JSON does not have, become null.

    Parameters
    ----------
    value : Any
        Value of JSON's types, tuples and mappings included.
    **layout : Any
        `indent`, `sort_keys` and `separators` as `json.dumps` has them.

    Examples
    --------
    >>> json_text({"seg": float("nan"), "cells": 0})
    '{"seg": null, "cells": 0}'
    """
    return json.dumps(_finite(value), allow_nan=False, **layout)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
