"""Settings that make every method small, so that a test of it takes seconds."""

from __future__ import annotations

from typing import Any

TINY: dict[str, Any] = {"width": 4, "depth": 2, "learning_rate": 0.01}
GAME = {"width": 4, "features": 4, "side": 16, "estimator_steps": 1, "discriminator_steps": 1, "noise": 0.5}
RATES = {"learning_rate": 0.01, "discriminator_rate": 0.01}
SMALL: dict[str, dict[str, Any]] = {
    "ribcage": {**GAME, **RATES},
    "classdisc": {**GAME, "hidden": 16, "learning_rate": 0.004, "discriminator_rate": 0.004},
    "ribcage-ce": {"width": 4},
    "l2s": {"iterations": 40},
    "pixel-forest": {"scales": [0.7, 1.6], "trees": 10, "leaves": 30, "batches": 3, "pixels": 300},
}
"""Settings of the methods that have no U-Net."""
