"""Neuroglancer in the browser: its page and the stores served by this machine, or a link to stores on the web."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from cellscale.ngff.stores import Store, joined
from cellscale.storage.urls import Location
from cellscale.viewers.http_server import listening, serving
from cellscale.viewers.neuroglancer_state import HOSTED, link, state
from cellscale.viewers.scenes import Scene, scene

log = logging.getLogger("cellscale")
WEB = ("http://", "https://")


@dataclass(frozen=True, kw_only=True)
class View:
    """A page that shows a scene while its servers run."""

    url: str
    """URL of the page."""
    stores: Mapping[str, str]
    """HTTP address of each store, by its URL: for other programs on this machine, not for pages of other origins."""
    servers: contextlib.ExitStack

    @property
    def here(self) -> bool:
        """Whether something is served by this machine."""
        return any(address != url for url, address in self.stores.items())

    def close(self) -> None:
        """Stop the servers."""
        self.servers.close()

    def __enter__(self) -> Self:
        """Keep the servers while the block lasts."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the servers."""
        self.close()


def _mounts(shown: Scene) -> dict[str, Store]:
    """Stores to serve, by a name: the image's, and those of layers that lie elsewhere."""
    found = {"image": shown.image.store}
    for number, layer in enumerate(shown.labels):
        if not layer.url.startswith(f"{shown.image.url}/"):
            found[f"labels-{number}"] = layer.store
    return {name: store for name, store in found.items() if not store.url.startswith(WEB)}


def _addresses(shown: Scene, mounts: Mapping[str, Store], server: str) -> dict[str, str]:
    """HTTP address of the image and of each layer."""
    found = {}
    for url in (shown.image.url, *(layer.url for layer in shown.labels)):
        homes = [(name, store.url) for name, store in mounts.items() if f"{url}/".startswith(f"{store.url}/")]
        found[url] = joined(server, homes[0][0], url[len(homes[0][1]) :]) if homes else url
    return found


def view(shown: Scene | Location, *, host: str = "127.0.0.1", port: int = 0) -> View:
    """Serve an image with its label layers and a neuroglancer page that shows them.

    Stores that are on the web are not served again. Without the package `neuroglancer`, and for stores on the web, the
    page is the one that its makers keep on the web.

    Parameters
    ----------
    shown : Scene or str
        Result of `scene`, or the URL of an image, with all its layers.
    host : str
        Address to listen on, of this machine's loopback.
    port : int
        Port of the page; the stores use the next one. 0: any two free ports.

    Returns
    -------
    View
        Its `url` is the page; it is served until `close`.

    Raises
    ------
    CellscaleError
        For an image that cannot be opened, or a port that is taken.

    Examples
    --------
    >>> import cellscale
    >>> with cellscale.view("movie.zarr") as page:
    ...     print(page.url.startswith("http"))
    True
    """
    shown = shown if isinstance(shown, Scene) else scene(shown)
    for layer in shown.labels:
        if layer.dtype.kind == "i" and layer.dtype.itemsize == 8:
            log.warning(
                "layer %r is %s, which neuroglancer may not draw; napari and preview do", layer.name, layer.dtype
            )
    mounts = _mounts(shown)
    here = bool(mounts) and importlib.util.find_spec("neuroglancer") is not None
    with contextlib.ExitStack() as servers:
        page = _page(servers, host, port) if here else None
        origin = _origin(page.get_viewer_url() if page else HOSTED)
        stores = serving(mounts, host=host, port=port + 1 if port else 0, origins=[origin])
        addresses = _addresses(shown, mounts, servers.enter_context(stores) if mounts else "")
        content = state(shown.image, shown.labels, addresses, t=shown.t, z=shown.z)
        if page:
            page.set_state(content)
        url = page.get_viewer_url() if page else link(content)
        return View(url=url, stores=addresses, servers=servers.pop_all())


def _origin(url: str) -> str:
    """Scheme, host and port of a page."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _page(servers: contextlib.ExitStack, host: str, port: int) -> Any:
    """A page of the package `neuroglancer`, which a server of its own sends; it shows nothing yet."""
    import neuroglancer

    with listening(host, port):
        neuroglancer.set_server_bind_address(host, port)
        viewer = neuroglancer.Viewer()
    # The server forgets a page that nobody holds: the stack holds it until it is closed.
    servers.callback(_stop, neuroglancer, viewer)
    return viewer


def _stop(package: Any, viewer: Any) -> None:
    """Stop the server that sends a page."""
    package.stop()
