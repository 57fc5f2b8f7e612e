"""What the columns of SWAT's output files are, with their units; units are in the header's names.

After Arnold et al. (2012), SWAT input/output documentation, version 2012, chapter 32.
"""

from __future__ import annotations

import re

from mptt.datamodules.reading.tables import described

_MEANING = {  # name without its unit: what it is
    "PRECIP": "precipitation",
    "SNOFALL": "snowfall, water equivalent",
    "SNOMELT": "snow melt, water equivalent",
    "SNO": "snow on the ground, water equivalent",
    "IRR": "irrigation",
    "PET": "potential evapotranspiration",
    "ET": "evapotranspiration",
    "SW": "soil water",
    "SW_INIT": "soil water at the start of the step",
    "SW_END": "soil water at the end of the step",
    "PERC": "percolation out of the soil",
    "GW_RCHG": "recharge of both aquifers",
    "DA_RCHG": "recharge of the deep aquifer",
    "REVAP": "water that goes from the shallow aquifer back to the soil or plants",
    "SA_IRR": "irrigation from the shallow aquifer",
    "DA_IRR": "irrigation from the deep aquifer",
    "SA_ST": "storage of the shallow aquifer",
    "DA_ST": "storage of the deep aquifer",
    "SURQ": "surface runoff to the channel",
    "SURQ_GEN": "surface runoff generated",
    "SURQ_CNT": "surface runoff to the channel",
    "TLOSS": "transmission loss of the channel",
    "LATQ": "lateral flow to the channel",
    "LAT_Q": "lateral flow to the channel",
    "LATQGEN": "lateral flow generated",
    "LATQCNT": "lateral flow to the channel",
    "GW_Q": "groundwater flow to the channel",
    "GW_Q_D": "flow of the deep aquifer to the channel",
    "WYLD": "water yield",
    "QTILE": "tile flow",
    "DAILYCN": "curve number of the day",
    "TMP_AV": "mean air temperature",
    "TMP_MX": "mean of the daily maximum air temperature",
    "TMP_MN": "mean of the daily minimum air temperature",
    "SOL_TMP": "soil temperature",
    "SOLAR": "solar radiation, mean of the days",
    "SYLD": "sediment to the channel",
    "USLE": "soil loss by the universal soil loss equation",
    "ORGN": "organic nitrogen to the channel",
    "ORGP": "organic phosphorus to the channel",
    "SEDP": "mineral phosphorus on sediment to the channel",
    "NSURQ": "nitrate in surface runoff",
    "SOLP": "soluble phosphorus in surface runoff",
    "LAI": "leaf area index",
    "BIOM": "biomass",
    "YLD": "yield",
    "W_STRS": "days of water stress",
    "TMP_STRS": "days of temperature stress",
    "N_STRS": "days of nitrogen stress",
    "P_STRS": "days of phosphorus stress",
    "FLOW_IN": "streamflow into the reach",
    "FLOW_OUT": "streamflow out of the reach",
    "EVAP": "evaporation from the reach",
    "SED_IN": "sediment into the reach",
    "SED_OUT": "sediment out of the reach",
    "SEDCONC": "sediment concentration in the reach",
    "TOT_N": "nitrogen out of the reach",
    "TOT_P": "phosphorus out of the reach",
    "NO3Conc": "nitrate concentration in the reach",
    "WTMP": "water temperature",
}
_STORED = ("SNO", "SW", "SW_INIT", "SW_END", "SA_ST", "DA_ST", "BIOM", "YLD")  # amounts at a time, not per step
_UNITS = (  # ending of a name: (unit, whether it is an amount per step); longer ones first
    ("MJ_m2", "MJ/m2/day", False),
    ("t_ha", "t/ha", True),
    ("kg_ha", "kg/ha", True),
    ("kg_h", "kg/ha", True),  # cut by the width of the column
    ("mg_kg", "mg/kg", False),
    ("mg_L", "mg/L", False),
    ("Mg_l", "mg/L", False),
    ("mic_L", "ug/L", False),
    ("tons", "t", True),
    ("dgC", "degC", False),
    ("degc", "degC", False),
    ("cms", "m3/s", False),
    ("mm", "mm", True),
    ("kg", "kg", True),
    ("mg", "mg", True),
    ("ct", "count", False),
    ("m", "m", False),
)
_PER = {"daily": "day", "monthly": "month", "yearly": "year"}
_ONES = {"DAILYCN": "1", "LAI": "m2/m2", "W_STRS": "day", "TMP_STRS": "day", "N_STRS": "day", "P_STRS": "day"}


def describe(name: str, step: str) -> dict[str, str]:
    """Units and long name of a column.

    Args:
        name: as of `RowLayout.values`.
        step: "daily", "monthly" or "yearly".

    Example:
        >>> describe("PRECIPmm", "monthly")
        {'units': 'mm/month', 'long_name': 'precipitation'}
    """
    if name in _ONES:
        return described(_ONES[name], _MEANING[name])
    if name.startswith("WTAB"):  # the header says m, numbers as 6000 in files of several revisions do not
        return described("", f"water table ({name})")
    for ending, unit, amount in _UNITS:
        if name.endswith(ending):
            stem = re.sub(r"_$", "", name.removesuffix(ending))
            per_step = amount and stem not in _STORED
            return described(f"{unit}/{_PER[step]}" if per_step else unit, _MEANING.get(stem, name))
    return described("", _MEANING.get(name, name))
