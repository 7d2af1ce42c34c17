"""Redaction of secrets in text that is written or printed: messages, logs, reports, attributes of layers.

Hidden are passwords in URLs, signatures and tokens in query strings, and values next to the name of a secret, as in
`{"secret": "…"}` or `AccountKey=…`. A secret without such a name next to it cannot be known from the text; where the
storage options are at hand, their values are hidden too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "***"
"""Replacement for a secret."""
_LONG = (
    r"[\w.\-]*(?:secret|passw(?:or)?d|token|signature|credential|account_?key|access_?key|api_?key|shared_?key"
    r"|connection_?string|authorization)[\w.\-]*"
)
_NAMES = rf"(?:{_LONG}|key|sig|pwd)"
"""Names of secrets in options and query strings; the short ones are words elsewhere."""
_PUBLIC = r"anon|cloud|browser|google_default|key\.json"
"""Values of gcsfs's `token` that are not secret."""
_USER = re.compile(r"(?<=://)[^\s/@:]*:(?!\d{1,5}/)(?:[^\s/]*@|(?:(?!://)[^\s@])*@)")
"""`user:password@` of a URL. A password may contain @ and, wrongly, a slash, unless the colon precedes a port."""
_WEB_USER = re.compile(r"(https?://)[^\s/@]+@")
"""A user without a password: a token on web servers, but the name of a container in a URL of Azure."""
_QUERY = re.compile(rf"([?&;]{_NAMES}=)[^&#;\s'\"]+", re.IGNORECASE)
_QUOTED = re.compile(rf"((['\"]){_NAMES}\2\s*[:=]\s*)(['\"])(?!(?:{_PUBLIC})\3).*?\3", re.IGNORECASE)
_PLAIN = re.compile(rf"(\b{_LONG}\s*=\s*)(?!['\"]?(?:\*\*\*|…))['\"]?[^\s'\",;&)\]}}]{{4,}}['\"]?", re.IGNORECASE)
_HEADER = re.compile(r"(\bauthorization['\"]?\s*:\s*['\"]?)[^'\"\r\n]+", re.IGNORECASE)
_SHORTEST = 6
"""Characters of a value of the options that is looked for: shorter ones stand in ordinary words."""


def redacted(text: str, options: Mapping[str, Any] | None = None) -> str:
    """Replace passwords, tokens and signatures in a text by `***`.

    Parameters
    ----------
    text : str
        Text to be written or printed.
    options : mapping
        Storage options: what stands in them under the name of a secret is hidden wherever it stands in the text.
    """
    for secret in _secrets(options or {}):
        text = text.replace(secret, HIDDEN)
    text = _WEB_USER.sub(rf"\1{HIDDEN}@", _USER.sub(f"{HIDDEN}@", text))
    text = _QUOTED.sub(rf"\1\3{HIDDEN}\3", _QUERY.sub(rf"\1{HIDDEN}", text))
    return _HEADER.sub(rf"\1{HIDDEN}", _PLAIN.sub(rf"\1{HIDDEN}", text))


def redacted_values(value: Any) -> Any:
    """Return a value of JSON's types whose strings are `redacted`."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {name: redacted_values(part) for name, part in value.items()}
    return [redacted_values(part) for part in value] if isinstance(value, list | tuple) else value


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str) and len(value) >= _SHORTEST and re.fullmatch(_NAMES, str(name), re.IGNORECASE):
            yield value
