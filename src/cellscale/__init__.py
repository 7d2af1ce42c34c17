"""cellscale: published cell segmentation on OME-Zarr time-lapses of any size."""
