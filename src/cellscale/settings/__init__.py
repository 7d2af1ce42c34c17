"""Settings of methods and runs: dataclass fields, files and assignments."""
