"""From the names, units and missing values of a file to those of the program."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from mptt.datamodules.preparing.checks import listed
from mptt.datamodules.reading.arrays import Opened
from mptt.datamodules.reading.places import Place
from mptt.datamodules.reading.units import check_unit, convert_units
from mptt.errors import MPTTError

# What often means a missing value: marks of many tables, and the filling of NetCDF.
_LIKELY = np.array([-9999, -99999, -999999, -9999.9, -9999.99, -999.99, -999.9, 9.96921e36, 1e20], np.float32)


@dataclass(frozen=True)
class Translation:
    """What differs between a file and the program.

    Attributes:
        names: {name in the file: name here}.
        units: units wanted, {name here: unit}.
        units_in_file: units of variables that do not state them, or the wrong ones, {name here: unit}.
        missing: numbers that mean a missing value.
    """

    names: Mapping[str, str]
    units: Mapping[str, str]
    units_in_file: Mapping[str, str]
    missing: npt.NDArray[np.float32]

    def called(self, variables: Sequence[str]) -> set[str]:
        """What these variables, named as here, may be called in the file."""
        renamed = {name for name, new in self.names.items() if new in variables}
        return renamed | {name for name in variables if name not in self.names}

    def check(self, place: Place, opened: Opened, fixed: xr.Dataset, chosen: Sequence[str] | None) -> None:
        """Check that what is renamed or converted is there, and the units known.

        Raises:
            MPTTError: a name or unit that is not there; two variables of one name.
        """
        for unit in (*self.units.values(), *self.units_in_file.values()):
            check_unit(unit)
        there = {str(name) for name in (*opened.read(opened.sites[0]).data_vars, *fixed.data_vars)}
        asked = None if chosen is None else self.called(chosen)
        _refuse_unknown(place, "names", [name for name in self.names if asked is None or name in asked], there)
        after = [self.names.get(name, name) for name in sorted(there)]
        if twice := sorted({name for name in after if after.count(name) > 1}):
            raise MPTTError(
                f"{place}: with these names, several variables are called {listed(twice)}. Rename them too."
            )
        for setting, found in (("units", self.units), ("units_in_file", self.units_in_file)):
            _refuse_unknown(place, setting, [name for name in found if chosen is None or name in chosen], set(after))

    def series(self, table: xr.Dataset, fixed: xr.Dataset, site: str) -> xr.Dataset:
        """One site's variables, float32, by the names and in the units of the program."""
        area = fixed["area"].sel(site=site, drop=True) if "area" in fixed else None
        return self._apply(table, area)

    def attributes(self, fixed: xr.Dataset) -> xr.Dataset:
        """The attributes of the sites likewise; text stays text."""
        return self._apply(fixed, None)

    def missing_marks(self, table: xr.Dataset) -> dict[str, float]:
        """Variables, by their names in the file, with a value that often means a missing one and is not said to."""
        found: dict[str, float] = {}
        marks = _LIKELY[~np.isin(_LIKELY, self.missing)]
        for name, values in table.data_vars.items():
            likely = (
                np.isin(values.values.astype(np.float32), marks)
                if values.dtype.kind in "fiub"
                else np.zeros(1, np.bool_)
            )
            if likely.any():
                found[str(name)] = float(values.values[likely][0])
        return found

    def _apply(self, table: xr.Dataset, area: xr.DataArray | None) -> xr.Dataset:
        table = table.rename({name: self.names[name] for name in map(str, table.data_vars) if name in self.names})
        return table.assign({name: self._one(str(name), values, area) for name, values in table.data_vars.items()})

    def _one(self, name: str, values: xr.DataArray, area: xr.DataArray | None) -> xr.DataArray:
        if values.dtype.kind not in "fiub":
            return values
        stated = str(self.units_in_file.get(name, values.attrs.get("units", values.attrs.get("unit", ""))))
        words = {key: value for key, value in values.attrs.items() if key in ("long_name", "standard_name")}
        words = {"units": stated, "long_name": name} | words
        values = values.astype(np.float32)
        if len(self.missing):
            values = values.where(~np.isin(values.values, self.missing))
        values = values.assign_attrs(words)
        values.attrs = words
        return convert_units(values, self.units[name], area) if name in self.units else values


def put_together(fixed: Sequence[xr.Dataset]) -> xr.Dataset:
    """The attributes of several files, a site each: NaN or "" where a file has none."""
    sites = np.concatenate([one["site"].values for one in fixed])
    kept: dict[str, xr.Variable] = {}
    for name in dict.fromkeys(str(name) for one in fixed for name in one.data_vars):
        found = [one.get(name) for one in fixed]
        text = any(values is not None and values.dtype.kind == "U" for values in found)
        column = [("" if text else np.nan) if values is None else values.values[0] for values in found]
        words = next(values.attrs for values in found if values is not None)
        kept[name] = xr.Variable(("site",), np.array(column, dtype=np.str_ if text else np.float32), words)
    return xr.Dataset(kept, {"site": ("site", sites)})


def _refuse_unknown(place: Place, setting: str, wanted: Collection[str], there: set[str]) -> None:
    if unknown := [name for name in wanted if name not in there]:
        near = difflib.get_close_matches(unknown[0], there, n=3, cutoff=0.5)
        hint = f"Near {unknown[0]!r}: {', '.join(near)}" if near else f"There are {listed(sorted(there))}"
        raise MPTTError(f"{place}: {setting} speaks of {listed(unknown)}, which is not there. {hint}.")
