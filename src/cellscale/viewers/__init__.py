"""What people look at: stores served to neuroglancer and napari, and contact sheets."""
