"""OME-Zarr images and label layers: the only folder that opens a Zarr store."""
