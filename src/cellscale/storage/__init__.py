"""Files and folders on any file system or object store."""
