"""`mptt data inspect`, `convert` and `download`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from rich.console import Console

from mptt.datamodules.catalogue import open_source
from mptt.datamodules.reading.source import Source
from mptt.datamodules.storing import converting, downloading
from mptt.experiments.data.showing import Download, Shown, show
from mptt.experiments.data.suggestion import suggest
from mptt.experiments.data.survey import survey
from mptt.experiments.figures import save
from mptt.experiments.figures.datasets import data_set
from mptt.files import write_atomically


def run_data(words: Sequence[str]) -> None:
    """Run `mptt data` with the words after it.

    Raises:
        MPTTError: what a command raises.
        SystemExit: words that cannot be parsed.
    """
    auto_cli(
        {"inspect": inspect, "convert": convert, "download": download},
        args=[_flag(word, after) for word, after in pairwise([*words, ""])] if words else ["--help"],
        prog="mptt data",
        description="Look at a data set on disk, convert it to a store that is read fast, or download it.",
    )


def _flag(word: str, after: str) -> str:
    """A switch without a value means yes."""
    return f"{word}=true" if word in ("--quiet", "--overwrite") and after not in ("true", "false") else word


def inspect(
    path: str,
    layout: str | None = None,
    sites: str | None = None,
    options: dict[str, Any] | None = None,
    out: str | None = None,
    quiet: bool = False,
) -> None:
    """Say what a data set on disk holds, draw it, and suggest a configuration.

    Prints sites, period, variables with units and missing values, attributes, licence and citation. Writes inspect.png
    and inspect.pdf, missing.csv (sites x variables), attributes.csv (a row a site) and config.yaml, for `mptt fit
    --config`, into a folder.

    Args:
        path: of the data set, as downloaded, or a store.
        layout: name; by default the one that recognises the path.
        sites: names with commas between, or the path of a text file with one a line; all by default.
        options: of the layout, such as --options.forcing nldas.
        out: folder; by default inspect/NAME, NAME being that of the data set.
        quiet: show no progress.
    """
    # Where it goes to a file no line need be short.
    console = Console() if sys.stdout.isatty() else Console(width=140)
    source = _opened(path, layout, sites, options)
    found = survey(source, Shown(console, quiet))
    show(found, console)
    folder = Path(out) if out is not None else Path("inspect", Path(path).resolve().stem)
    save(data_set(found), folder / "inspect")
    write_atomically(folder / "missing.csv", found.missing().to_csv(float_format="%.6g"))
    written = ["inspect.png", "inspect.pdf", "missing.csv"]
    if len(source.attributes.data_vars):
        write_atomically(folder / "attributes.csv", source.attributes.to_dataframe().to_csv())
        written.append("attributes.csv")
    console.print(f"written to {folder}: {', '.join(written)}", soft_wrap=True, highlight=False)
    if len(found.variables) > 1:
        config = _keep_config(folder, suggest(found, all_sites=sites is None))
        line = shlex.join(["mptt", "fit", "--config", str(config), "--run_dir", f"runs/{folder.resolve().name}"])
        console.print(f"a configuration to begin with: {line}", soft_wrap=True, highlight=False)


def convert(
    path: str,
    out: str,
    layout: str | None = None,
    variables: str | None = None,
    sites: str | None = None,
    options: dict[str, Any] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> None:
    """Write a data set on disk as a Zarr store that SeriesDataModule reads, site by site.

    It needs little memory. What is finished is kept in OUT.partial: after an interruption the same line goes on.

    Args:
        path: of the data set, as downloaded, or a store.
        out: path of the store, such as basins.zarr.
        layout: name; by default the one that recognises the path.
        variables: names of series and attributes, given as sites are; all by default.
        sites: names with commas between, or the path of a text file with one a line; all by default.
        options: of the layout, such as --options.forcing nldas.
        overwrite: replace a store that is there.
        quiet: show no progress.
    """
    console = Console()
    source = _opened(path, layout, sites, options)
    try:
        names = None if variables is None else _names(variables)
        made = converting.convert(source, out, names, overwrite=overwrite, progress=Shown(console, quiet))
    except KeyboardInterrupt:
        print(f"mptt: what is finished is kept in {out}.partial; the same line goes on.", file=sys.stderr)
        raise
    console.print(f"{source.kind}, {len(source.sites)} site(s): written to {made}", soft_wrap=True, highlight=False)


def download(name: str, folder: str, quiet: bool = False) -> None:
    """Download a data set from where its authors publish it, check it, and unpack it into FOLDER/NAME.

    Shows its licence and whom to cite first. A download that broke off is gone on with by the same line.

    Args:
        name: camels_ch, camels_us, caravan or caravan_csv; of others, says where to get them.
        folder: that the data set's own folder goes into.
        quiet: show no progress.
    """
    console = Console()
    archive = downloading.find_archive(name)
    for what, said in (
        ("what", archive.title),
        ("from", f"https://doi.org/{archive.doi}"),
        ("licence", archive.license),
        ("cite", archive.references),
        ("size", archive.size),
    ):
        console.print(f"{what:<8} {said}", soft_wrap=True, highlight=False, markup=False)
    with Download(console, quiet) as shown:
        place = downloading.download(name, folder, shown=shown)
    console.print(f"written to {place}; look at it: mptt data inspect {place}", soft_wrap=True, highlight=False)


def _opened(path: str, layout: str | None, sites: str | None, options: dict[str, Any] | None) -> Source:
    source = open_source(path, layout, **(options or {}))
    return source if sites is None else source.choose(_names(sites))


def _names(text: str) -> list[str]:
    """Names with commas between, or of a file with one a line; as text, for numbers would lose their zeros."""
    path = Path(text)
    words = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else text.split(",")
    return [word.strip() for word in words if word.strip()]


def _keep_config(folder: Path, text: str) -> Path:
    """Write a configuration; beside one that is there and says something else, which may be someone's work."""
    path = folder / "config.yaml"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        path = folder / "config.new.yaml"
    write_atomically(path, text)
    return path
