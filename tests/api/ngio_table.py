"""A feature table as ngio opens it: python -m tests.api.ngio_table IMAGE NAME OUT.json saves what it finds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ngio


def main(url: str, name: str, out: str) -> None:
    image = ngio.open_ome_zarr_container(url)
    table = image.get_table(name)
    found = {
        "names": image.list_tables(),
        "kind": table.table_type(),
        "layer": table.reference_label,
        "index": [table.dataframe.index.name, table.dataframe.index.tolist()],
        "columns": {column: values.tolist() for column, values in table.dataframe.items()},
        "measurements": list(table.anndata.var_names),
    }
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
