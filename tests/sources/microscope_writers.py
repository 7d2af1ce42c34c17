"""Minimal files of two microscope makers, written byte by byte for the tests of what reads them.

LIF: an XML header in UTF-16 and one memory block for each image. ND2: chunks with a map of them at the end of the file;
documents as XML, frames of all channels of one place, (y, x, c).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 0x0ABECEDA
FRAME_AT = 4072
"""Length of the name of a frame's chunk in an ND2 file: its pixels begin 4096 bytes after the chunk."""


def _lif_element(
    number: int, name: str, pixels: NDArray[np.uint16], channels: Sequence[str], steps: Mapping[str, float]
) -> str:
    t, c, z, y, x = pixels.shape
    plane = 2 * y * x
    described = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="16" NameOfMeasuredQuantity="" Min="0" Max="9" '
        f'Unit="" LUTName="{channel}" IsLUTInverted="0" BytesInc="{i * plane}" BitInc="0"/>'
        for i, channel in enumerate(channels)
    )
    lengths = [(1, x, "x", 2), (2, y, "y", 2 * x), (3, z, "z", plane * c), (4, t, "t", plane * c * z)]
    dimensions = "".join(
        f'<DimensionDescription DimID="{number}" NumberOfElements="{count}" Origin="0" '
        f'Length="{steps[axis] * (count - 1)}" Unit="{"s" if axis == "t" else "m"}" BitInc="0" BytesInc="{step}"/>'
        for number, count, axis, step in lengths
        if count > 1
    )
    return (
        f'<Element Name="{name}" Visibility="1" CopyOption="1" UniqueID="id{number}"><Data><Image TextDescription="">'
        f"<ImageDescription><Channels>{described}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription>"
        f'</Image></Data><Memory Size="{pixels.nbytes}" MemoryBlockID="MemBlock_{number}"/></Element>'
    )


def write_lif(
    path: Path, images: Mapping[str, NDArray[np.uint16]], *, channels: Sequence[str], steps: Mapping[str, float]
) -> None:
    """Write images of (t, c, z, y, x) by name; steps of z, y and x in m, of t in s."""
    elements = [_lif_element(i, name, pixels, channels, steps) for i, (name, pixels) in enumerate(images.items())]
    header = (
        '<LMSDataContainerHeader Version="2"><Element Name="file" Visibility="1" CopyOption="1">'
        f'<Memory Size="0" MemoryBlockID="MemBlock_f"/><Children>{"".join(elements)}</Children></Element>'
        "</LMSDataContainerHeader>"
    ).encode("utf-16-le")
    out = struct.pack("<IIBI", 0x70, len(header) + 5, 0x2A, len(header) // 2) + header
    for i, pixels in enumerate(images.values()):
        name, data = f"MemBlock_{i}".encode("utf-16-le"), pixels.transpose(0, 2, 1, 3, 4).tobytes()
        out += struct.pack("<IIBQBI", 0x70, len(name) + 14, 0x2A, len(data), 0x2A, len(name) // 2) + name + data
    path.write_bytes(out)


def _variant(value: Any, name: str) -> str:
    if isinstance(value, Mapping):
        return f'<{name} runtype="CLxListVariant">{"".join(_variant(v, k) for k, v in value.items())}</{name}>'
    kinds = {bool: "bool", int: "lx_uint32", float: "double", str: "CLxStringW"}
    return (
        f'<{name} runtype="{kinds[type(value)]}" value="{str(value).lower() if isinstance(value, bool) else value}"/>'
    )


def _document(values: Mapping[str, Any]) -> bytes:
    return f'<?xml version="1.0"?><variant version="1.0">{_variant(values, "no_name")}</variant>'.encode()


def _loops(pixels: NDArray[np.uint16], steps: Mapping[str, float]) -> dict[str, Any]:
    p, t, _, z = pixels.shape[:4]
    stack = {
        "eType": 4,
        "uLoopPars": {"uiCount": z, "dZStep": steps["z"], "dZLow": 0.0, "dZHigh": steps["z"] * (z - 1)},
    }
    points = {f"i{i:010}": {"dPosX": float(i), "dPosY": 0.0, "dPosName": f"pos{i}"} for i in range(p)}
    places = {"eType": 2, "uLoopPars": {"Points": points}, "ppNextLevelEx": {"i0000000000": stack}}
    period = 1000 * steps["t"]
    times = {"uiCount": t, "dStart": 0.0, "dPeriod": period, "dDuration": period * t}
    return {"eType": 1, "uLoopPars": times, "ppNextLevelEx": {"i0000000000": places}}


def write_nd2(
    path: Path, pixels: NDArray[np.uint16], *, channels: Sequence[str], steps: Mapping[str, float], lost: int = 0
) -> None:
    """Write (p, t, c, z, y, x); steps of z, y = x in µm, of t in s; the last `lost` frames are not written."""
    p, t, c, z, y, x = pixels.shape
    frames = pixels.transpose(1, 0, 3, 4, 5, 2).reshape(t * p * z, y, x, c)
    size = {"uiWidth": x, "uiWidthBytes": 2 * x * c, "uiHeight": y, "uiComp": c, "uiBpcInMemory": 16}
    attributes = size | {"uiBpcSignificant": 16, "uiSequenceCount": len(frames) - lost, "eCompression": 2}
    probe = {"m_ExcitationSpectrum": {"pPoint": {"Point0": {"dTValue": 1.0, "dWavelength": 488.0}}, "uiCount": 1}}
    probe |= {"m_EmissionSpectrum": probe["m_ExcitationSpectrum"]}
    planes = {
        f"a{i}": {"sDescription": channel, "uiCompCount": 1, "uiSampleIndex": i, "pFluorescentProbe": probe}
        for i, channel in enumerate(channels)
    }
    picture = {"bCalibrated": True, "dCalibration": steps["x"], "sPicturePlanes": {"uiCount": c, "sPlaneNew": planes}}
    chunks = {
        b"ImageAttributesLV!": _document(attributes),
        b"ImageMetadataSeqLV|0!": _document(picture),
        b"ImageMetadataLV!": _document(_loops(pixels, steps)),
        b"CustomData|AcqTimesCache!": np.arange(len(frames), dtype=np.float64).tobytes(),
    }
    chunks |= {
        f"ImageDataSeq|{i}!".encode(): struct.pack("d", float(i)) + frame.tobytes()
        for i, frame in enumerate(frames[: len(frames) - lost])
    }
    out = struct.pack("IIQ32s64s", CHUNK, 32, 64, b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0")
    table = b""
    for name, data in chunks.items():
        length = FRAME_AT if name.startswith(b"ImageDataSeq") else len(name)
        table += name + struct.pack("QQ", len(out), len(data))
        out += struct.pack("IIQ", CHUNK, length, len(data)) + name.ljust(length, b"\0") + data
    at = len(out)
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!"
    table += end + struct.pack("Q", at)
    out += struct.pack("IIQ", CHUNK, 32, len(table)) + b"ND2 FILEMAP SIGNATURE NAME 0001!" + table
    path.write_bytes(out)
