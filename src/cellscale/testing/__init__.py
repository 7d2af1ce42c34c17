"""Tools for testing segmentation methods and label layers, inside this package and outside it.

`conformance` checks that a method keeps the contract of `cellscale.methods.protocol.Method`; `cases` has small label
images with a name; `strategies` draws label images, masks and probability maps for Hypothesis; `naive` holds a slow,
obvious implementation of each kernel; `geometry` compares a label layer with its image; `reach` measures a receptive
field. pytest and Hypothesis are needed: `pip install 'cellscale[testing]'`.
"""

from cellscale.errors import MissingError

try:
    import hypothesis as _hypothesis  # noqa: F401 - the strategies need it
    import pytest
except ImportError as error:
    raise MissingError(
        f"cellscale.testing needs {error.name}, which cannot be imported. pip install 'cellscale[testing]'."
    ) from error

pytest.register_assert_rewrite(f"{__name__}.conformance")  # a failed check then shows both sides of its comparison
