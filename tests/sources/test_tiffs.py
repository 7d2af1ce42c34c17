"""TIFF files as people have them: every page is imported where it belongs, or the file is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from cellscale.errors import CellscaleError, InputError, MissingError, StoreError
from cellscale.sources import Source, open_source, open_sources
from cellscale.sources.tiffs import tiff_images

SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def noise(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def planes(source: Source) -> NDArray[Any]:
    t, c, z, _, _ = source.shape
    return np.array([[[source.plane(i, j, k) for k in range(z)] for j in range(c)] for i in range(t)])


def ome(images: str, uuid: str = "") -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{SCHEMA}" {uuid}>{images}</OME>'


def image(data: str, *, t: int = 1, c: int = 1, pixels: str = "", name: str = "") -> str:
    channels = "".join(f'<Channel ID="Channel:0:{i}" SamplesPerPixel="1"/>' for i in range(c))
    return (
        f'<Image ID="Image:0" Name="{name}"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="40" '
        f'SizeY="32" SizeC="{c}" SizeZ="1" SizeT="{t}" {pixels}>{channels}{data}</Pixels></Image>'
    )


def one_page_each(t: int, c: int = 1) -> str:
    places = [(i, j) for i in range(t) for j in range(c)]
    return "".join(
        f'<TiffData FirstT="{i}" FirstC="{j}" FirstZ="0" IFD="{n}" PlaneCount="1"/>' for n, (i, j) in enumerate(places)
    )


def write(path: Path, pixels: NDArray[Any], description: str) -> None:
    """Write pages with a description of one's own."""
    tifffile.imwrite(path, pixels, description=description, metadata=None, photometric="minisblack")


def _set(folder: Path, frames: int) -> NDArray[Any]:
    """An OME-TIFF of one file for each frame."""
    folder.mkdir()
    data = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1"><UUID FileName="f{t}.ome.tif">urn:uuid:{t}</UUID></TiffData>'
        for t in range(frames)
    )
    pixels = noise(frames, 32, 40)
    for t in range(frames):
        text = ome(image(data, t=frames), f'UUID="urn:uuid:{t}"')
        tifffile.imwrite(folder / f"f{t}.ome.tif", pixels[t], description=text, metadata=None, compression="zlib")
    return pixels


@pytest.mark.parametrize("name", ["f0.ome.tif", "f2.ome.tif", ""])
def test_planes_of_a_set_come_from_their_own_files(tmp_path: Path, name: str) -> None:
    pixels = _set(tmp_path / "set", 3)
    source = open_source(str(tmp_path / "set" / name))
    assert source.shape == (3, 1, 1, 32, 40)
    assert (planes(source)[:, 0, 0] == pixels).all()
    assert source.files == {str(tmp_path / "set" / f"f{t}.ome.tif") for t in range(3)}


def test_frames_that_are_sets_of_their_own(tmp_path: Path) -> None:
    """Each frame one set, each channel one file of it."""
    pixels = noise(3, 2, 32, 40)
    for t in range(3):
        data = "".join(
            f'<TiffData FirstC="{c}" IFD="0" PlaneCount="1"><UUID FileName="t{t}c{c}.ome.tif">urn:uuid:{c}</UUID>'
            "</TiffData>"
            for c in range(2)
        )
        for c in range(2):
            text = ome(image(data, c=2), f'UUID="urn:uuid:{c}"')
            write(tmp_path / f"t{t}c{c}.ome.tif", pixels[t, c], text)
    source = open_source(str(tmp_path))
    assert (planes(source)[:, :, 0] == pixels).all()
    assert len(source.files) == 6


def test_a_set_with_a_missing_file_is_refused(tmp_path: Path) -> None:
    pixels = _set(tmp_path / "set", 4)
    (tmp_path / "set" / "f2.ome.tif").unlink()
    with pytest.raises(InputError, match=r"Frame 2 .* files of its set are not there: f2.ome.tif.*--frames"):
        open_source(str(tmp_path / "set" / "f0.ome.tif"))
    part = open_source(str(tmp_path / "set" / "f0.ome.tif"), frames=(0, 2))
    assert (planes(part)[:, 0, 0] == pixels[:2]).all()


def test_a_set_does_not_reach_out_of_its_folder(tmp_path: Path) -> None:
    data = '<TiffData IFD="0" PlaneCount="1"><UUID FileName="../other.tif">urn:uuid:1</UUID></TiffData>'
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(32, 40), description=ome(image(data)), metadata=None)
    with pytest.raises(InputError, match=r"'../other.tif'; the files of a set must lie in one folder"):
        open_source(str(tmp_path / "a.ome.tif"))


def test_a_part_without_description_names_the_file_that_has_it(tmp_path: Path) -> None:
    text = ome('<BinaryOnly MetadataFile="main.ome.tif" UUID="urn:uuid:0"/>')
    tifffile.imwrite(tmp_path / "part.ome.tif", noise(2, 32, 40), description=text, metadata=None)
    with pytest.raises(InputError, match=r"that main.ome.tif describes"):
        open_source(str(tmp_path / "part.ome.tif"))
    assert open_source(str(tmp_path / "part.ome.tif"), axes="tyx").shape[0] == 2


def test_frames_that_an_ome_tiff_lacks_do_not_exist(tmp_path: Path) -> None:
    present = [0, 1, 3, 4, 7, 9]
    data = "".join(f'<TiffData FirstT="{t}" IFD="{i}" PlaneCount="1"/>' for i, t in enumerate(present))
    pixels = noise(6, 32, 40) + 1
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, description=ome(image(data, t=10)), metadata=None)
    source = open_source(str(tmp_path / "a.ome.tif"))
    assert source.frames == tuple(present)
    assert [(source.plane(t) == pixels[i]).all() for i, t in enumerate(present)] == [True] * 6
    assert source.plane(2).max() == 0


def test_pages_that_a_description_promises_must_be_there(tmp_path: Path) -> None:
    write(tmp_path / "a.ome.tif", noise(2, 32, 40), ome(image(one_page_each(4), t=4)))
    with pytest.raises(InputError, match=r"contradicts itself: OME series contains index out of range"):
        open_source(str(tmp_path / "a.ome.tif"))
    assert open_source(str(tmp_path / "a.ome.tif"), axes="tyx").shape[0] == 2


def test_a_frame_that_lacks_a_channel_is_refused(tmp_path: Path) -> None:
    data = one_page_each(2, 2).replace('<TiffData FirstT="1" FirstC="1" FirstZ="0" IFD="3" PlaneCount="1"/>', "")
    text = ome(image(data, t=2, c=2))
    write(tmp_path / "a.ome.tif", noise(3, 32, 40), description=text)
    with pytest.raises(InputError, match=r"Frame 1 of .* is incomplete: it lacks channel 1, slice 0.*--frames A:B"):
        open_source(str(tmp_path / "a.ome.tif"))
    assert open_source(str(tmp_path / "a.ome.tif"), frames=(0, 1)).shape == (1, 2, 1, 32, 40)
    with pytest.raises(InputError, match="Frame 1 of"):
        open_source(str(tmp_path / "a.ome.tif"), frames=(1, 2))


def test_pages_that_the_description_leaves_out_are_named(tmp_path: Path) -> None:
    pixels = noise(6, 32, 40)
    header = "ImageJ=1.54f\nimages=4\nframes=4\nunit=micron\n"
    tifffile.imwrite(tmp_path / "i.tif", pixels, metadata=None, description=header, resolution=(2, 2))
    tifffile.imwrite(tmp_path / "o.ome.tif", pixels, description=ome(image(one_page_each(4), t=4)), metadata=None)
    for name in ("i.tif", "o.ome.tif"):
        with pytest.raises(InputError, match=r"has 6 pages; its description leaves out pages 4–5.*--axes, e.g. tyx"):
            open_source(str(tmp_path / name))
        source = open_source(str(tmp_path / name), axes="tyx")
        assert (planes(source)[:, 0, 0] == pixels).all()
    assert open_source(str(tmp_path / "i.tif"), axes="tyx").calibration.pixel_size_um == (0.5, 0.5)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_header_that_promises_more_than_there_is(tmp_path: Path, compression: str | None) -> None:
    header = "ImageJ=1.54f\nimages=9\nframes=9\nhyperstack=true\n"
    tifffile.imwrite(tmp_path / "i.tif", noise(6, 32, 40), metadata=None, description=header, compression=compression)
    with pytest.raises(InputError, match=r"i.tif"):
        open_source(str(tmp_path / "i.tif"))


def test_appended_pages_are_frames(tmp_path: Path) -> None:
    pixels = noise(5, 32, 40)
    for t in range(5):
        tifffile.imwrite(tmp_path / "a.tif", pixels[t], append=True)
    assert (planes(open_source(str(tmp_path / "a.tif")))[:, 0, 0] == pixels).all()


def test_several_images_are_listed_and_none_is_taken(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "p.ome.tif") as file:
        for position in range(3):
            file.write(np.full((2, 32, 40), position, "u2"), metadata={"axes": "TYX", "Name": f"pos{position}"})
    with pytest.raises(
        InputError, match=r"holds 3 images .*: 0 'pos0' \(2 × 1 × 1 × 32 × 40\).*--series N.*--series all"
    ):
        open_source(str(tmp_path / "p.ome.tif"))
    assert open_source(str(tmp_path / "p.ome.tif"), series=2).plane(1).min() == 2
    found = open_sources(str(tmp_path / "p.ome.tif"), series="all")
    assert [(source.name, int(source.plane(0).max())) for source in found] == [("pos0", 0), ("pos1", 1), ("pos2", 2)]
    with pytest.raises(MissingError, match=r"Series 3 of .* does not exist; it has 3, numbered from 0"):
        open_source(str(tmp_path / "p.ome.tif"), series=3)


def test_pages_of_several_sizes_are_several_images(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        for side in (20, 30, 20):
            file.write(noise(side, 40), photometric="minisblack", metadata=None)
    with pytest.raises(InputError, match=r"holds 2 images .*\(2 × 1 × 1 × 20 × 40\).*\(1 × 1 × 1 × 30 × 40\)"):
        open_source(str(tmp_path / "s.tif"))


def test_thumbnails_and_smaller_copies_are_not_images(tmp_path: Path) -> None:
    pixels = noise(2, 64, 64)
    with tifffile.TiffWriter(tmp_path / "p.ome.tif") as file:
        file.write(pixels, subifds=1, metadata={"axes": "TYX"}, tile=(16, 16))
        file.write(pixels[:, ::2, ::2], subfiletype=1, tile=(16, 16))
    with tifffile.TiffWriter(tmp_path / "t.tif") as file:
        file.write(pixels, photometric="minisblack", metadata=None)
        file.write(pixels[0, ::4, ::4], subfiletype=1, photometric="minisblack", metadata=None)
    for name in ("p.ome.tif", "t.tif"):
        assert (planes(open_source(str(tmp_path / name)))[:, 0, 0] == pixels).all()


@pytest.mark.parametrize("kind", ["plain", "ome", "imagej", "bigtiff"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, kind: str, compression: str | None) -> None:
    """Whatever is left of a file gives its true planes, or an error: never fewer, never others."""
    pixels = noise(4, 32, 40)
    options: dict[str, Any] = {
        "plain": {"photometric": "minisblack"},
        "bigtiff": {"bigtiff": True, "photometric": "minisblack"},
    }
    named = {"ome": {"ome": True, "metadata": {"axes": "TYX"}}, "imagej": {"imagej": True, "metadata": {"axes": "TYX"}}}
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, pixels, compression=compression, **(options | named)[kind])
    whole = path.read_bytes()
    for size in np.linspace(8, len(whole) - 1, 60).astype(int):
        path.write_bytes(whole[:size])
        try:
            found = planes(open_source(str(path)))[:, 0, 0]
        except CellscaleError:
            continue
        assert (found.shape, found.tobytes()) == (pixels.shape, pixels.tobytes())


def test_planes_as_colours_are_asked_for(tmp_path: Path) -> None:
    frames, colours = noise(3, 32, 40), noise(32, 40, 3, dtype="uint8")
    with pytest.warns(DeprecationWarning, match="stored as RGB"):
        tifffile.imwrite(tmp_path / "f.tif", frames)
    with pytest.raises(InputError, match=r"stores 3 planes as colours.*--axes cyx for colours, --axes tyx for frames"):
        open_source(str(tmp_path / "f.tif"))
    assert (planes(open_source(str(tmp_path / "f.tif"), axes="tyx"))[:, 0, 0] == frames).all()
    tifffile.imwrite(tmp_path / "c.tif", colours)
    assert (planes(open_source(str(tmp_path / "c.tif")))[0, :, 0] == colours.transpose(2, 0, 1)).all()
    with pytest.warns(DeprecationWarning, match="stored as RGB"):
        tifffile.imwrite(tmp_path / "n.tif", frames, metadata={"axes": "TYX"})
    assert open_source(str(tmp_path / "n.tif")).shape[0] == 3


def test_narrow_frames_are_asked_for(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "five.tif", noise(64, 50, 5))
    np.save(tmp_path / "five.npy", noise(64, 50, 5))
    for name in ("five.tif", "five.npy"):
        with pytest.raises(InputError, match=r"its frames would be 50 × 5 px. Name its axes with --axes: tyx"):
            open_source(str(tmp_path / name))
        assert open_source(str(tmp_path / name), axes="yxc").shape == (1, 5, 1, 64, 50)
        assert open_source(str(tmp_path / name), axes="tyx").shape == (64, 1, 1, 50, 5)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "float16", "float32", "float64", "bool"])
@pytest.mark.parametrize("options", [{}, {"compression": "lzw"}, {"tile": (16, 16), "compression": "deflate"}])
def test_kinds_of_pixels(tmp_path: Path, dtype: str, options: dict[str, Any]) -> None:
    if dtype == "bool":
        options = {}
    pixels = (noise(3, 32, 48) % 2).astype(dtype) if dtype == "bool" else noise(3, 32, 48).astype(dtype)
    tifffile.imwrite(tmp_path / "s.tif", pixels, photometric="minisblack", bigtiff=True, **options)
    source = open_source(str(tmp_path / "s.tif"))
    assert source.dtype == np.dtype(dtype)
    assert (planes(source)[:, 0, 0] == pixels).all()


def test_a_palette_gives_the_stored_numbers(tmp_path: Path) -> None:
    pixels = noise(32, 40, dtype="uint8")
    table = np.random.default_rng(1).integers(0, 2**16, (3, 256)).astype("u2")
    tifffile.imwrite(tmp_path / "p.tif", pixels, photometric="palette", colormap=table)
    assert (open_source(str(tmp_path / "p.tif")).plane(0) == pixels).all()


def test_axes_that_nobody_knows_are_asked_for(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(2, 3, 32, 40), photometric="minisblack", metadata={"axes": "RTYX"})
    with pytest.raises(InputError, match=r"has the axes RTYX of .* name them with --axes"):
        open_source(str(tmp_path / "a.tif"))


OME_SIZES = {"PhysicalSizeX": 0.3, "PhysicalSizeY": 0.3, "PhysicalSizeZ": 1.5, "TimeIncrement": 0.5}


def test_ome_tiff_keeps_sizes_and_names(tmp_path: Path) -> None:
    units = {"PhysicalSizeZUnit": "nm", "TimeIncrementUnit": "min", "Channel": {"Name": ["DAPI", "GFP"]}}
    metadata = {"axes": "TCZYX", **OME_SIZES, **units}
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(3, 2, 4, 32, 40), metadata=metadata)
    known = open_source(str(tmp_path / "a.ome.tif")).calibration
    assert (known.pixel_size_um, known.frame_interval_s, known.channels) == ((0.3, 0.3), 30.0, ("DAPI", "GFP"))
    assert known.z_step_um == pytest.approx(0.0015)


def test_ome_tiff_each_image_has_its_own(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "p.ome.tif") as file:
        for size in (0.5, 0.25):
            metadata = {"axes": "YX", "Name": f"{size}", "PhysicalSizeX": size, "PhysicalSizeY": size}
            file.write(noise(32, 40), metadata=metadata)
    found = open_sources(str(tmp_path / "p.ome.tif"), series="all")
    assert [source.calibration.pixel_size_um for source in found] == [(0.5, 0.5), (0.25, 0.25)]


def test_regular_time_stamps_are_an_interval(tmp_path: Path) -> None:
    for stamps, interval in (((3.0, 13.1, 23.0), 10.0), ((0.0, 10.0, 50.0), None), ((0.0, 0.0, 0.0), None)):
        planes = [f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{s}"/>' for t, s in enumerate(stamps)]
        text = ome(image(one_page_each(3) + "".join(planes[:1:-1] + planes[:2]), t=3))
        write(tmp_path / "a.ome.tif", noise(3, 32, 40), description=text)
        assert open_source(str(tmp_path / "a.ome.tif")).calibration.frame_interval_s == interval


@pytest.mark.parametrize("value", ["0.0", "NaN", "inf", "wide"])
def test_sizes_that_are_none_are_not_known(tmp_path: Path, value: str) -> None:
    metadata = {"axes": "YX", "PhysicalSizeX": value, "PhysicalSizeY": value}
    tifffile.imwrite(tmp_path / "a.ome.tif", noise(32, 40), metadata=metadata)
    assert open_source(str(tmp_path / "a.ome.tif")).calibration.pixel_size_um is None


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("microns", 1), ("\\u00B5m", 1), ("inch", 25400), ("cm", 1e4), ("nm", 1e-3), ("pixel", None), ("", None)],
)
def test_imagej_units(tmp_path: Path, unit: str, factor: float | None) -> None:
    metadata = {"axes": "TZCYX", "unit": unit, "spacing": 3.0, "finterval": 2.0, "tunit": "min"}
    tifffile.imwrite(tmp_path / "a.tif", noise(3, 4, 2, 32, 40), imagej=True, resolution=(4, 2), metadata=metadata)
    known = open_source(str(tmp_path / "a.tif")).calibration
    assert known.frame_interval_s == 120.0
    assert known.pixel_size_um == (None if factor is None else pytest.approx((0.5 * factor, 0.25 * factor)))
    assert known.z_step_um == (None if factor is None else pytest.approx(3.0 * factor))


def test_sizes_in_units_that_nobody_knows_are_not_dropped_unsaid(tmp_path: Path) -> None:
    units = {f"PhysicalSize{axis}Unit": "furlong" for axis in "XYZ"} | {"TimeIncrementUnit": "fortnight"}
    text = ome(image(one_page_each(2), t=2, pixels=" ".join(f'{k}="{v}"' for k, v in {**OME_SIZES, **units}.items())))
    write(tmp_path / "a.ome.tif", noise(2, 32, 40), description=text)
    metadata = {"axes": "TZYX", "unit": "furlong", "spacing": 3.0, "finterval": 2.0, "tunit": "fortnight"}
    tifffile.imwrite(tmp_path / "a.tif", noise(3, 4, 32, 40), imagej=True, resolution=(4, 2), metadata=metadata)
    expected = {"pixel_size_um": "furlong", "z_step_um": "furlong", "frame_interval_s": "fortnight"}
    for name in ("a.ome.tif", "a.tif"):
        known = open_source(str(tmp_path / name)).calibration
        assert known.unknown_units == expected
        assert (known.pixel_size_um, known.z_step_um, known.frame_interval_s) == (None, None, None)


@pytest.mark.parametrize("unit", ["pixel", "reference frame", "", "Pixels"])
def test_sizes_without_a_unit_are_no_news(tmp_path: Path, unit: str) -> None:
    units = " ".join(f'PhysicalSize{axis}="1.0" PhysicalSize{axis}Unit="{unit}"' for axis in "XY")
    write(tmp_path / "a.ome.tif", noise(1, 32, 40), description=ome(image(one_page_each(1), pixels=units)))
    tifffile.imwrite(tmp_path / "a.tif", noise(32, 40), imagej=True, resolution=(4, 2), metadata={"unit": unit})
    for name in ("a.ome.tif", "a.tif"):
        known = open_source(str(tmp_path / name)).calibration
        assert (known.pixel_size_um, known.unknown_units) == (None, {})


def test_imagej_labels_name_channels(tmp_path: Path) -> None:
    labels = ["DAPI", "GFP"] * 3
    metadata = {"axes": "TCYX", "Labels": labels}
    tifffile.imwrite(tmp_path / "a.tif", noise(3, 2, 32, 40), imagej=True, metadata=metadata)
    assert open_source(str(tmp_path / "a.tif")).calibration.channels == ("DAPI", "GFP")
    tifffile.imwrite(
        tmp_path / "b.tif", noise(3, 2, 32, 40), imagej=True, metadata=metadata | {"Labels": list("abcdef")}
    )
    assert open_source(str(tmp_path / "b.tif")).calibration.channels == ()


@pytest.mark.parametrize(
    ("resolution", "unit", "size"),
    [((40000, 20000), "CENTIMETER", (0.5, 0.25)), ((72, 72), "INCH", None), ((40000, 40000), "NONE", None)],
)
def test_resolution_tags(tmp_path: Path, resolution: Any, unit: str, size: tuple[float, float] | None) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(32, 40), resolution=resolution, resolutionunit=unit)
    assert open_source(str(tmp_path / "a.tif")).calibration.pixel_size_um == size


def test_a_resolution_of_nothing_by_nothing_is_not_known(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(32, 40), imagej=True, resolution=(3, 3), metadata={"unit": "um"})
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages.first.tags["XResolution"].overwrite((0, 0))
    assert open_source(str(tmp_path / "a.tif")).calibration.pixel_size_um is None


def test_damaged_descriptions_are_named(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.ome.tif", noise(2, 32, 40), description=ome("<Image>")[:-9] + "</OME>", metadata=None
    )
    with pytest.raises(InputError, match=r"OME-XML that cannot be read.*--axes, e.g. tyx"):
        open_source(str(tmp_path / "a.ome.tif"))
    assert open_source(str(tmp_path / "a.ome.tif"), axes="tyx").shape[0] == 2
    text = json.dumps({"shape": [7, 32, 40]})
    tifffile.imwrite(tmp_path / "s.tif", noise(2, 32, 40), description=text, metadata=None, photometric="minisblack")
    with pytest.raises((InputError, StoreError), match=r"s.tif"):
        tiff_images(str(tmp_path / "s.tif"))
