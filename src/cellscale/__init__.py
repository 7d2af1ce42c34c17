"""cellscale: published cell segmentation on OME-Zarr time-lapses of any size.

The public names are loaded on first use, so that `import cellscale` is quick.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

# torch's threads read it when torch is imported. Where other programs use the processors, two threads that spin while
# they wait for one another take eight times as long for a training step.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

_PLACES = {
    "import_images": "cellscale.api.data:import_images",
    "train": "cellscale.api.training:train",
    "calibrate": "cellscale.api.calibration:calibrate",
    "SegmentationResult": "cellscale.api.segmentation:SegmentationResult",
    "Forecast": "cellscale.segmentation.forecast:Forecast",
    "Scores": "cellscale.metrics.result:Scores",
    "Model": "cellscale.models.model:Model",
    "segment": "cellscale.api.segmentation:segment",
    "segment_array": "cellscale.api.arrays:segment_array",
    "save_image": "cellscale.api.arrays:save_image",
    "save_labels": "cellscale.api.arrays:save_labels",
    "PlateResult": "cellscale.api.plates:PlateResult",
    "segment_plate": "cellscale.api.plates:segment_plate",
    "write_plate": "cellscale.ngff.plates:write_plate",
    "plate_images": "cellscale.ngff.plates:plate_images",
    "prepare": "cellscale.api.preparation:prepare",
    "plan": "cellscale.api.segmentation:plan",
    "predict_maps": "cellscale.api.probability_maps:predict_maps",
    "upsample_labels": "cellscale.api.segmentation:upsample_labels",
    "evaluate": "cellscale.api.evaluation:evaluate",
    "export_table": "cellscale.api.table_files:export_table",
    "export_ngio": "cellscale.api.table_files:export_ngio",
    "measure": "cellscale.api.objects:measure",
    "TrackingResult": "cellscale.api.tracking:TrackingResult",
    "track": "cellscale.api.tracking:track",
    "evaluate_tracks": "cellscale.api.tracking:evaluate_tracks",
    "export_ctc": "cellscale.api.tracking:export_ctc",
    "draw_lineage": "cellscale.api.tracking:draw_lineage",
    "export_geff": "cellscale.api.tracking:export_geff",
    "doctor": "cellscale.api.health:doctor",
    "synthesize": "cellscale.api.data:synthesize",
    "list_methods": "cellscale.api.training:list_methods",
    "list_models": "cellscale.api.training:list_models",
    "demo": "cellscale.api.demo:demo",
    "preview": "cellscale.viewers.contact_sheet:preview",
    "scene": "cellscale.viewers.scenes:scene",
    "view": "cellscale.viewers.neuroglancer:view",
    "view_in_napari": "cellscale.viewers.napari:view_in_napari",
    "open_image": "cellscale.ngff.views:open_image_view",
    "open_labels": "cellscale.ngff.views:open_labels_view",
    "load_model": "cellscale.models.model:load_model",
    "save_model": "cellscale.models.model:save_model",
    "CellscaleError": "cellscale.errors:CellscaleError",
}
"""Public name to module:name."""

__all__ = [
    "CellscaleError",
    "Forecast",
    "Model",
    "PlateResult",
    "Scores",
    "SegmentationResult",
    "TrackingResult",
    "__version__",
    "calibrate",
    "demo",
    "doctor",
    "draw_lineage",
    "evaluate",
    "evaluate_tracks",
    "export_ctc",
    "export_geff",
    "export_ngio",
    "export_table",
    "import_images",
    "list_methods",
    "list_models",
    "load_model",
    "measure",
    "open_image",
    "open_labels",
    "plan",
    "plate_images",
    "predict_maps",
    "prepare",
    "preview",
    "save_image",
    "save_labels",
    "save_model",
    "scene",
    "segment",
    "segment_array",
    "segment_plate",
    "synthesize",
    "track",
    "train",
    "upsample_labels",
    "view",
    "view_in_napari",
    "write_plate",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _PLACES:
        raise AttributeError(f"module 'cellscale' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    # Kept, because the import has put the module under the name `demo`.
    globals()[name] = getattr(importlib.import_module(module), attribute)
    return globals()[name]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
