"""Units as data files write them, and their conversion: those of the CF conventions, and some that hydrologists add."""

from __future__ import annotations

import difflib
import re
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from mptt.errors import MPTTError

_ADDED = (
    "cubic_foot_per_second = foot ** 3 / second = cfs = cusec",
    "mole_of_carbon_dioxide = mole = molCarbonDioxide",
    "mole_of_photons = mole = molPhoton",
    "gram_of_carbon = mole / 12.011 = gC",
)
_ALIASES = {"": "1", "-": "1", "none": "1", "unitless": "1", "nondimensional": "1", "dimensionless": "1"}
_ALIASES |= dict.fromkeys(("cms", "cumec", "cumecs"), "m3/s") | {"cfs": "cfs", "mb": "mbar", "sqkm": "km2"}
_ALIASES |= dict.fromkeys(("oc", "ºc", "℃"), "degC") | {"kelvin": "K", "watts/m2": "W/m2", "watts m-2": "W m-2"}
_ALIASES |= {"fraction": "1", "mm w.e.": "mm", "m of water equivalent": "m", "m of water": "m"}
_DEGREES = re.compile(r"\bdeg(?:rees?|\.)?[ _]?([CFK]|Celsius|Fahrenheit|Kelvin)\b", re.IGNORECASE)
_LETTERS = {"c": "degC", "f": "degF", "k": "K"}
_WATER = 1000.0  # kg m-3
_EXAMPLES = "mm/day, m3 s-1, cfs, degC, K, kg m-2 s-1, W/m2, hPa, %"


def convert_units(array: xr.DataArray, to: str, area: xr.DataArray | float | None = None) -> xr.DataArray:
    """The values in another unit, from the one in the attribute `units`.

    Understood are the units of the CF conventions (m3 s-1, W/m2, "kg m-2 s-1", "deg C", %), cfs, and umolCO2 and gC
    (12.011 g a mole). Besides conversions within a dimension there are two more:

    - volume to depth, as m3/s to mm/day: divided by the area of the site;
    - mass of water on an area to depth, as kg m-2 s-1 to mm/day: by 1000 kg m-3. It is done when `to` asks for a depth;
      the data are not asked whether they are water, so do not ask for it with a flux of carbon or snow on glass.

    Args:
        array: with the attribute `units`.
        to: the unit wanted.
        area: of each site; a number is in km2, as is an array without `units`.

    Returns:
        A new array of the same dimensions and dtype (whole numbers become float32), `units` being `to`.

    Raises:
        MPTTError: no unit stated, one that is not known, one that does not convert, no area where it is needed.

    Example:
        >>> flow = xr.DataArray([175.0], dims="time", attrs={"units": "cfs"})
        >>> convert_units(flow, "mm/day", area=771.486538).round(4).values
        array([0.555])
    """
    name = array.name or "array"
    stated = str(array.attrs.get("units", "")).strip()
    if not stated:
        raise MPTTError(
            f"{name} states no unit, so it cannot be converted to {to}. Set its attribute `units`, or say it in"
            " units_in_file={...}."
        )
    if isinstance(area, xr.DataArray) and str(area.attrs.get("units", "")).strip():
        area = convert_units(area, "km2")
    try:
        factor, offset = conversion(stated, to, None if area is None else np.asarray(area, np.float64))
    except MPTTError as error:
        raise MPTTError(f"{name}: {error}") from error
    values = array if array.dtype.kind == "f" else array.astype(np.float32)
    scale: Any = factor
    if isinstance(area, xr.DataArray) and not isinstance(factor, float):
        scale = area.copy(data=factor).astype(values.dtype)
    converted = (values * scale + offset).transpose(*array.dims).astype(values.dtype)
    return converted.rename(array.name).assign_attrs({**array.attrs, "units": to})


def conversion(
    from_: str, to: str, area_km2: float | npt.NDArray[np.float64] | None = None
) -> tuple[float | npt.NDArray[np.float64], float]:
    """Factor and offset from one unit to another: value * factor + offset.

    Args:
        from_: unit of the values.
        to: unit wanted.
        area_km2: of the site, or of each, for volume to depth or back.

    Returns:
        The factor, an array if areas are and it depends on them, and the offset.

    Raises:
        MPTTError: a unit that is not known, two that do not convert, no area where one is needed.

    Example:
        >>> conversion("deg C", "K")
        (1.0, 273.15)
    """
    import pint

    registry = _registry()
    source, target = _parse(from_), _parse(to)
    ratio = target.dimensionality / source.dimensionality
    by: float | npt.NDArray[np.float64] = 1.0
    length, mass = registry.get_dimensionality("[length]"), registry.get_dimensionality("[mass]")
    if ratio in (length**-2, length**2) and _is_volume(source if ratio == length**-2 else target):
        metres = _checked(area_km2, from_, to) * 1e6
        upward = ratio == length**2
        by = metres if upward else 1 / metres
        source = source * registry.Unit("m2") if upward else source / registry.Unit("m2")
    elif ratio in (length**3 / mass, mass / length**3) and _is_layer(source if ratio == length**3 / mass else target):
        upward = ratio == mass / length**3
        by = _WATER if upward else 1 / _WATER
        density = registry.Unit("kg/m3")
        source = source * density if upward else source / density
    elif source.dimensionality != target.dimensionality:
        amount = ratio * registry.get_dimensionality("[time]") in (registry.get_dimensionality(""), length**3 / mass)
        way = (
            f"It is an amount, of which {to!r} asks for the rate: if it is that of a day, say {f'{from_}/day'!r} in"
            " units_in_file={...}."
            if amount
            else "Ask for a unit of the same kind; if the file states the wrong one, say the right one in"
            " units_in_file={...}."
        )
        raise MPTTError(
            f"{from_!r} ({source.dimensionality}) does not convert to {to!r} ({target.dimensionality}). {way}"
        )
    try:
        zero = float(registry.Quantity(0.0, source).to(target).magnitude)
        one = float(registry.Quantity(1.0, source).to(target).magnitude)
    except pint.errors.PintError as error:  # of temperatures with other units
        raise MPTTError(
            f"{from_!r} does not convert to {to!r}: {error}. Units are written as in {_EXAMPLES}."
        ) from error
    factor = by * (one - zero)
    return (factor if isinstance(factor, np.ndarray) and factor.ndim else float(factor)), zero


def check_unit(unit: str) -> None:
    """Check that a unit is known.

    Raises:
        MPTTError: it is not; names near ones.
    """
    _parse(unit)


@cache
def _registry() -> Any:
    """The units of the CF conventions and ours; imported late, since it takes half a second."""
    import copy

    from cf_xarray.units import units

    registry = copy.deepcopy(units)
    for definition in _ADDED:
        registry.define(definition)
    return registry


@cache
def _parse(unit: str) -> Any:
    import pint

    text = unit.strip()
    text = _ALIASES.get(text.lower(), text)
    text = text.replace("CO2", "CarbonDioxide").replace("µ", "u").replace("μ", "u")  # a 2 would be read as an exponent
    text = _DEGREES.sub(lambda found: _LETTERS[found[1][0].lower()], text)
    registry = _registry()
    try:
        parsed = registry.Unit(text)
    except pint.UndefinedUnitError as error:
        unknown = error.unit_names if isinstance(error.unit_names, str) else next(iter(error.unit_names))
        near = difflib.get_close_matches(unknown, list(registry), n=3)
        hint = f"Near it: {', '.join(near)}." if near else f"Units are written as in {_EXAMPLES}."
        raise MPTTError(f"The unit {unit!r} is not known, because of {unknown!r}. {hint}") from error
    except Exception as error:  # the parser of expressions has many
        raise MPTTError(f"The unit {unit!r} cannot be read. Units are written as in {_EXAMPLES}.") from error
    if "month" in str(parsed):
        raise MPTTError(f"The unit {unit!r} counts months, which differ in length. Divide by the days of each first.")
    return parsed


def _is_volume(unit: Any) -> bool:
    return bool(unit.dimensionality.get("[length]", 0) == 3 and "[mass]" not in unit.dimensionality)


def _is_layer(unit: Any) -> bool:
    return bool(unit.dimensionality.get("[mass]", 0) == 1 and unit.dimensionality.get("[length]", 0) == -2)


def _checked(
    area_km2: float | npt.NDArray[np.float64] | None, from_: str, to: str
) -> npt.NDArray[np.float64] | np.float64:
    if area_km2 is None:
        raise MPTTError(
            f"{from_!r} converts to {to!r} only with the area of the site (km2); give the data an attribute `area`,"
            " with attributes_file or names={...: 'area'}."
        )
    area = np.asarray(area_km2, np.float64)
    if not (np.isfinite(area) & (area > 0)).all():
        wrong = area[~(np.isfinite(area) & (area > 0))].flat[0] if area.ndim else float(area)
        raise MPTTError(f"{from_!r} converts to {to!r} only with a positive area; found {wrong} km2. Correct `area`.")
    return area
