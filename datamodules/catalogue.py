"""The layouts of data sets on disk that are known, and how one is found."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mptt.datamodules import camels, camels_us, caravan, files, fluxnet, fluxnet_zarr, store, swat, swat_output
from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.finding import is_pattern
from mptt.datamodules.reading.places import place_of
from mptt.datamodules.reading.source import Layout, Source
from mptt.errors import MPTTError

# In the order in which they are tried: the particular before the general.
LAYOUTS: Sequence[Layout] = (
    camels_us.LAYOUT,
    camels.LAYOUT,
    caravan.LAYOUT,
    fluxnet.LAYOUT,
    fluxnet_zarr.ZARR_LAYOUT,
    swat_output.LAYOUT,
    swat.LAYOUT,
    store.LAYOUT,
    files.LAYOUT,
)


def find_layout(path: str | Path, layouts: Sequence[Layout] = LAYOUTS) -> Layout:
    """The layout in which a data set lies on disk.

    Args:
        path: its folder or file, a pattern of files as "data/*.csv", or an address.
        layouts: that are tried, in order.

    Raises:
        MPTTError: there is nothing, or nothing that a layout recognises; says what was looked for and what lies there.
    """
    if isinstance(place_of(path), str) or is_pattern(place_of(path)):
        return files.LAYOUT  # the others look into folders of this machine
    path = _there(path)
    for layout in layouts:
        if layout.recognise(path):
            return layout
    looked_for = "".join(f"\n  {layout.name}: {layout.summary}" for layout in layouts)
    raise MPTTError(f"{path} is no data set of a known layout{_deeper(path, layouts)}. Looked for:{looked_for}")


def open_source(
    path: str | Path, layout: str | None = None, *, layouts: Sequence[Layout] = LAYOUTS, **options: Any
) -> Source:
    """Open a data set on disk, whatever its layout.

    Args:
        path: its folder or file, a pattern of files as "data/*.csv", or an address.
        layout: name; by default the first that recognises it.
        layouts: that are known.
        options: of the layout, such as the weather product of CAMELS-US.

    Raises:
        MPTTError: an unknown layout or option, and what finding and opening it raise.
    """
    chosen = find_layout(path, layouts) if layout is None else _named(layout, layouts)
    place = place_of(path)
    if isinstance(place, Path) and not is_pattern(place):
        _there(place)
    known = list(inspect.signature(chosen.source).parameters)[1:]
    if unknown := [name for name in options if name not in known]:
        raise MPTTError(f"The layout {chosen.name} has no option {listed(unknown)}; it has {listed(known)}.")
    return chosen.source(place, **options)


def _there(path: str | Path) -> Path:
    if not Path(path).exists():
        raise MPTTError(f"There is nothing at {path} (looked from {Path.cwd()}).")
    return Path(path)


def _named(name: str, layouts: Sequence[Layout]) -> Layout:
    names = [layout.name for layout in layouts]
    if name in names:
        return layouts[names.index(name)]
    near = difflib.get_close_matches(name, names, n=1)
    raise MPTTError(
        f"There is no layout {name!r}.{f' Did you mean {near[0]}?' if near else ''} There are {listed(names)}."
    )


def _deeper(path: Path, layouts: Sequence[Layout], most: int = 50) -> str:
    """What lies at a path, and where inside it there is a data set, if anywhere."""
    if path.is_file():
        return f": a file of {path.stat().st_size:,} bytes"
    inside = sorted(path.iterdir())
    if not inside:
        return ": the folder is empty"
    names = [f"{one.name}/" if one.is_dir() else one.name for one in inside]
    for one in [one for one in inside if one.is_dir()][:most]:
        for layout in layouts:
            if layout.recognise(one):
                return f"; it holds {listed(names)}. {one} is one ({layout.name}): give that"
    return f"; it holds {listed(names)}"
