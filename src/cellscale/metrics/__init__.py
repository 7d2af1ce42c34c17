"""Two label images in, numbers out."""
