"""What the columns of FLUXNET files are: units, which depend on the step, long names, and qualities."""

from __future__ import annotations

import re

from mptt.datamodules.reading.tables import described
from mptt.errors import MPTTError

STEPS = {"HH": "half-hour", "HR": "hour", "DD": "day", "WW": "week", "MM": "month", "YY": "year"}
FINE = ("HH", "HR")
CITATION = (
    "Pastorello et al. (2020), The FLUXNET2015 dataset and the ONEFlux processing pipeline for eddy covariance data,"
    " Scientific Data, 7, 225, doi:10.1038/s41597-020-0534-3"
)
LICENSE = (
    "CC BY 4.0 (FLUXNET2015 Tier One; Warm Winter 2020, doi:10.18160/2G60-ZHAK). Name the principal investigators."
)

_CARBON = "carbon"
QUANTITIES = {  # start of a column's name: (unit, what it is)
    "TA": ("degC", "air temperature"),
    "SW_IN_POT": ("W m-2", "shortwave radiation at the top of the atmosphere"),
    "SW_IN": ("W m-2", "incoming shortwave radiation"),
    "SW_DIF": ("W m-2", "incoming diffuse shortwave radiation"),
    "SW_OUT": ("W m-2", "outgoing shortwave radiation"),
    "LW_IN": ("W m-2", "incoming longwave radiation"),
    "LW_OUT": ("W m-2", "outgoing longwave radiation"),
    "NETRAD": ("W m-2", "net radiation"),
    "PPFD_IN": ("umolPhoton m-2 s-1", "incoming photosynthetic photon flux density"),
    "PPFD_DIF": ("umolPhoton m-2 s-1", "incoming diffuse photosynthetic photon flux density"),
    "PPFD_OUT": ("umolPhoton m-2 s-1", "outgoing photosynthetic photon flux density"),
    "VPD": ("hPa", "vapour pressure deficit"),
    "PA": ("kPa", "atmospheric pressure"),
    "P": ("mm/day", "precipitation"),
    "WS": ("m s-1", "wind speed"),
    "WD": ("degree", "wind direction"),
    "RH": ("%", "relative humidity"),
    "USTAR": ("m s-1", "friction velocity"),
    "CO2": ("umolCO2 mol-1", "mole fraction of carbon dioxide"),
    "TS": ("degC", "soil temperature"),
    "SWC": ("%", "soil water content"),
    "G": ("W m-2", "soil heat flux"),
    "LE": ("W m-2", "latent heat flux"),
    "H": ("W m-2", "sensible heat flux"),
    "NEE": (_CARBON, "net ecosystem exchange"),
    "GPP_NT": (_CARBON, "gross primary production, nighttime partitioning"),
    "GPP_DT": (_CARBON, "gross primary production, daytime partitioning"),
    "RECO_NT": (_CARBON, "ecosystem respiration, nighttime partitioning"),
    "RECO_DT": (_CARBON, "ecosystem respiration, daytime partitioning"),
    "RECO_SR": (_CARBON, "ecosystem respiration, sundown partitioning"),
}
_WAYS = {
    "F_MDS": "gaps filled by MDS",
    "F": "gaps filled by MDS or ERA",
    "ERA": "downscaled from ERA",
    "JSB": "computed",
    "CORR": "corrected for energy balance closure",
    "VUT": "variable u* threshold",
    "CUT": "constant u* threshold",
}
_PARTITIONED = re.compile(r"(?:GPP|RECO)_(?:NT|DT)_([CV]UT_(?:REF|USTAR50|MEAN|SE|\d\d))")


def description(name: str, step: str) -> dict[str, str]:
    """`units` and `long_name` of a column; a column that is not known has no units."""
    if name.endswith("_QC"):
        kind = (
            "flag: 0 measured, 1 good filling, 2 medium, or ERA, 3 poor"
            if step in FINE
            else "share of measured and well filled values"
        )
        return described("1", f"quality of {name.removesuffix('_QC')}, {kind}")
    start = max((key for key in QUANTITIES if name == key or name.startswith(f"{key}_")), key=len, default=None)
    if start is None or name.endswith(("_N", "_METHOD", "_CF")):
        return {"long_name": name}
    unit, meaning = QUANTITIES[start]
    rest = name[len(start) :].strip("_")
    ways = [text for way, text in _WAYS.items() if f"_{rest}_".startswith(f"_{way}_")][:1]
    if level := re.search(r"_(\d+)$", name) if start in ("TS", "SWC") else None:
        ways.append(f"level {level[1]} from the top")
    parts = {"NIGHT": "at night", "DAY": "by day", "SD": "standard deviation", "RANDUNC": "random uncertainty"}
    ways += [text for part, text in parts.items() if part in rest.split("_")]
    if unit == _CARBON:
        unit = _carbon(rest, step)
    elif start == "P":
        unit = "mm" if step in FINE else "mm/year" if step == "YY" else "mm/day"
        ways.append("sum of the step") if step in FINE else None
    return described(unit, ", ".join([meaning, *ways]))


def quality_of(name: str, columns: set[str]) -> str | None:
    """The column with the quality of another, by its own name or that of the flux it is computed from."""
    lower = name == name.lower()
    tried = [f"{name}_qc" if lower else f"{name}_QC"]
    if match := _PARTITIONED.match(name):
        tried.append(f"NEE_{match[1]}_QC")
    if lower and name.startswith(("gpp", "reco")):
        tried.append("nee_qc")
    tried += [f"{flux}_F_MDS_QC" for flux in ("LE", "H") if name.startswith(f"{flux}_CORR")]
    return next((one for one in tried if one in columns), None)


def is_quality(name: str) -> bool:
    """Whether a column tells the quality of another."""
    return name.casefold().endswith("_qc")


def check_limit(limit: float, flags: bool) -> None:
    """Check that a limit of quality is one.

    Args:
        limit: the largest flag, or the smallest share of good values.
        flags: whether the data have flags, 0 to 3.

    Raises:
        MPTTError: it is not.
    """
    if flags and limit not in (0, 1, 2, 3):
        raise MPTTError(f"The quality of half-hours is the largest flag that is kept, 0 to 3; found {limit!r}.")
    if not flags and not 0 <= limit <= 1:
        raise MPTTError(
            f"The quality of days and longer is the smallest share of good values that is kept, 0 to 1; found"
            f" {limit!r}."
        )


def _carbon(rest: str, step: str) -> str:
    if step in FINE or {"NIGHT", "DAY"} & set(rest.split("_")):
        return "umolCO2 m-2 s-1"
    return "gC m-2 y-1" if step == "YY" else "gC m-2 d-1"
