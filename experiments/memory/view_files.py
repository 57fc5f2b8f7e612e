"""The files of a look at hidden states: a figure, and one page, complete in itself, in which to mark points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import xarray as xr
from markupsafe import Markup

from mptt.errors import MPTTError
from mptt.experiments.figures.common import save, with_unit, years
from mptt.experiments.figures.view import KINDS, SEASONS, SITES, WIDEST, density, highest, view_figure
from mptt.experiments.memory.view import View
from mptt.files import write_atomically

_DASHES = {"-": "solid", "--": "dash", ":": "dot"}
# Of matplotlib's RdBu_r.
_DIVERGING = ("#053061", "#4393c3", "#f7f7f7", "#d6604d", "#67001f")


def write_view(folder: Path, view: View, page: bool = True, per: str = "days") -> list[Path]:
    """Write `view.png`, `view.pdf` and, where asked, `view.html`.

    Args:
        folder: that they go into.
        view: as of `view_states`.
        page: whether to write the page too, which needs plotly.
        per: what a step is, in the plural.

    Returns:
        The paths written.

    Raises:
        MPTTError: no plotly.
    """
    library = plotly_library() if page else ""
    save(view_figure(view), folder / "view")
    written = [folder / "view.png", folder / "view.pdf"]
    if page:
        loader = jinja2.PackageLoader("mptt.experiments", "templates")
        templates = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
        # Within a script only "<" could end it.
        content = Markup(
            json.dumps(page_data(view, per), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        )
        text = templates.get_template("view.html").render(
            title=view.title, data=content, plotly=Markup(library), per=per
        )
        write_atomically(folder / "view.html", text)
        written.append(folder / "view.html")
    return written


def plotly_library() -> str:
    """The text of plotly.js, to put into a page that works without network.

    Raises:
        MPTTError: no plotly.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MPTTError(
            f'The page cannot be made ({error}): pip install "mptt[view]", or --page false for the figure alone.'
        ) from error
    return str(get_plotlyjs())


def page_data(view: View, per: str) -> dict[str, Any]:
    """What the page shows, as numbers, texts and lists of them."""
    points = view.points
    sites = list(dict.fromkeys(points["site"].values.tolist()))
    dates = np.issubdtype(points["time"].dtype, np.datetime64)
    texts = _texts(points["time"])
    order = np.argsort(-view.half, kind="stable")
    colours: list[dict[str, Any]] = [_season(points["time"])]
    colours += [_numbers(points, f"{name}_observed", name, points[name]) for name in view.targets]
    colours += [_numbers(points, name, name, None) for name in view.others]
    if len(sites) > 1:
        colours.append(_sites(sites, points["site"].values.tolist()))
    colours.append(_year(points["time"]))
    return {
        "per": per,
        "axes": list(view.axes),
        "sites": [str(one) for one in sites],
        "site": [sites.index(one) for one in points["site"].values.tolist()],
        "dates": bool(dates),
        "time": texts if dates else years(points["time"]).round(4).tolist(),
        "text": [
            f"{text}, {site}" if len(sites) > 1 else text
            for text, site in zip(texts, points["site"].values, strict=True)
        ],
        "month": points["time"].dt.month.values.tolist(),
        "x": points["x"].values.round(4).tolist(),
        "y": points["y"].values.round(4).tolist(),
        "colours": colours,
        "units": [f"{view.units[at]} ({view.half[at]:.0f})" for at in order],
        "state": [_plain(points["state"].values[:, at], 2) for at in order],
        "diverging": _scale(_DIVERGING),
        "widest": WIDEST,
        "distances": _distances(view),
        "highest": highest(view.distances),
    }


def _season(time: xr.DataArray) -> dict[str, Any]:
    bar = {"tickvals": [1, 91, 182, 274, 366], "ticktext": ["Jan", "Apr", "Jul", "Oct", "Jan"]}
    values = time.dt.dayofyear.values.tolist()
    return {"label": "season", "values": values, "scale": _scale(SEASONS), "low": 1, "high": 366, "bar": bar}


def _year(time: xr.DataArray) -> dict[str, Any]:
    values = years(time).round(3).tolist()
    bar = {"tickformat": ".0f"}
    return {"label": "year", "values": values, "scale": "Cividis", "low": min(values), "high": max(values), "bar": bar}


def _numbers(points: xr.Dataset, name: str, label: str, predicted: xr.DataArray | None) -> dict[str, Any]:
    one = points[name]
    known = one.values[np.isfinite(one.values)]
    low, high = np.percentile(known, [1, 99]) if len(known) else (0, 1)
    values = _plain(one.values, 4)
    found: dict[str, Any] = {
        "label": with_unit(label, one.attrs.get("units", "")),
        "values": values,
        "observed": values,
    }
    found |= {"scale": "Viridis", "low": float(low), "high": float(high), "bar": {}}
    return found if predicted is None else {**found, "predicted": _plain(predicted.values, 4)}


def _sites(sites: list[str], each: list[str]) -> dict[str, Any]:
    count = len(sites)
    used = [SITES[at % len(SITES)] for at in range(count)]
    # Steps, so that no two sites are mixed.
    scale = [[edge / count, used[at]] for at in range(count) for edge in (at, at + 1)]
    bar = {"tickvals": list(range(count)), "ticktext": [str(one) for one in sites]}
    values = [sites.index(one) for one in each]
    return {"label": "site", "values": values, "scale": scale, "low": -0.5, "high": count - 0.5, "bar": bar}


def _distances(view: View) -> list[dict[str, Any]]:
    traces = []
    for kind, (label, colour, dash) in KINDS.items():
        edges, share = density(view.distances, kind)
        if share is not None:
            line = {"color": colour, "dash": _DASHES[dash], "shape": "hvh", "width": 1.6}
            middle = (edges[:-1] + edges[1:]) / 2
            traces.append({"x": middle.tolist(), "y": share.tolist(), "name": label, "mode": "lines", "line": line})
    return traces


def _texts(time: xr.DataArray) -> list[str]:
    """Dates as ISO has them; with hours where there are any."""
    whole = not ((time.dt.hour != 0) | (time.dt.minute != 0)).any()
    return time.dt.strftime("%Y-%m-%d" if whole else "%Y-%m-%d %H:%M").values.tolist()


def _plain(values: np.ndarray, digits: int) -> list[float | None]:
    """Numbers of so many digits behind the point, None where there are none."""
    return [round(value, digits) if np.isfinite(value) else None for value in values.astype(float).tolist()]


def _scale(colours: tuple[str, ...]) -> list[list[Any]]:
    return [[nth / (len(colours) - 1), colour] for nth, colour in enumerate(colours)]
