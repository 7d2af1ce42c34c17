"""Types of the public names, which the package loads on first use."""

from cellscale.api.arrays import save_image as save_image
from cellscale.api.arrays import save_labels as save_labels
from cellscale.api.arrays import segment_array as segment_array
from cellscale.api.calibration import calibrate as calibrate
from cellscale.api.data import import_images as import_images
from cellscale.api.data import synthesize as synthesize
from cellscale.api.demo import demo as demo
from cellscale.api.evaluation import evaluate as evaluate
from cellscale.api.health import doctor as doctor
from cellscale.api.objects import measure as measure
from cellscale.api.plates import PlateResult as PlateResult
from cellscale.api.plates import segment_plate as segment_plate
from cellscale.api.preparation import prepare as prepare
from cellscale.api.probability_maps import predict_maps as predict_maps
from cellscale.api.segmentation import SegmentationResult as SegmentationResult
from cellscale.api.segmentation import plan as plan
from cellscale.api.segmentation import segment as segment
from cellscale.api.segmentation import upsample_labels as upsample_labels
from cellscale.api.table_files import export_ngio as export_ngio
from cellscale.api.table_files import export_table as export_table
from cellscale.api.tracking import TrackingResult as TrackingResult
from cellscale.api.tracking import draw_lineage as draw_lineage
from cellscale.api.tracking import evaluate_tracks as evaluate_tracks
from cellscale.api.tracking import export_ctc as export_ctc
from cellscale.api.tracking import export_geff as export_geff
from cellscale.api.tracking import track as track
from cellscale.api.training import list_methods as list_methods
from cellscale.api.training import list_models as list_models
from cellscale.api.training import train as train
from cellscale.errors import CellscaleError as CellscaleError
from cellscale.metrics.result import Scores as Scores
from cellscale.models.model import Model as Model
from cellscale.models.model import load_model as load_model
from cellscale.models.model import save_model as save_model
from cellscale.ngff.plates import plate_images as plate_images
from cellscale.ngff.plates import write_plate as write_plate
from cellscale.ngff.views import open_image_view as open_image
from cellscale.ngff.views import open_labels_view as open_labels
from cellscale.segmentation.forecast import Forecast as Forecast
from cellscale.viewers.contact_sheet import preview as preview
from cellscale.viewers.napari import view_in_napari as view_in_napari
from cellscale.viewers.neuroglancer import view as view
from cellscale.viewers.scenes import scene as scene

__version__: str

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
