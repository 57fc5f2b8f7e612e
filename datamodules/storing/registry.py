"""Official archives of data sets: where they are, what they hold, under which terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_CARAVAN = (
    "Kratzert et al. (2023), Caravan - A global community dataset for large-sample hydrology, Scientific Data, 10, 61,"
    " doi:10.1038/s41597-023-01975-w; and the data sets inside, which its folder licenses names"
)
_CAMELS_US = (
    "Newman et al. (2015), Hydrol. Earth Syst. Sci., 19, 209-223, doi:10.5194/hess-19-209-2015; Addor et al. (2017),"
    " Hydrol. Earth Syst. Sci., 21, 5293-5313, doi:10.5194/hess-21-5293-2017"
)


@dataclass(frozen=True)
class Archive:
    """A data set as its authors publish it.

    Attributes:
        title: what it is.
        doi: of the data.
        license: terms of use.
        references: whom to cite.
        size: about, in words.
        record: number of the record at Zenodo that has the files; None where they cannot be had without a login.
        files: names in the record; archives are unpacked, other files put into the folder given.
        root: folder inside the archives whose content is put into the data set's own; by default the only one there is.
        by_hand: where to get it and what to do with it, where there is no record.
    """

    title: str
    doi: str
    license: str
    references: str
    size: str
    record: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    root: str = ""
    by_hand: str = ""


ARCHIVES: Mapping[str, Archive] = {
    "camels_ch": Archive(
        title="CAMELS-CH: daily series and attributes of 331 basins of hydrologic Switzerland",
        doi="10.5281/zenodo.7784632",
        license="CC BY 4.0",
        references="Höge et al. (2023), Earth Syst. Sci. Data, 15, 5755-5784, doi:10.5194/essd-15-5755-2023",
        size="0.26 GB",
        record=15025258,
        files={"camels_ch.zip": ""},
    ),
    "camels_gb": Archive(
        title="CAMELS-GB: daily series and attributes of 671 basins of Great Britain",
        doi="10.5285/8344e4f3-d2ea-44f5-8afa-86d2987543a9",
        license="Open Government Licence v3",
        references="Coxon et al. (2020), Earth Syst. Sci. Data, 12, 2459-2483, doi:10.5194/essd-12-2459-2020",
        size="0.3 GB",
        by_hand="The Environmental Information Data Centre asks for a login before it gives the archive out",
    ),
    "camels_us": Archive(
        title="CAMELS-US: daily weather, streamflow and attributes of 671 basins of the contiguous United States",
        doi="10.5065/D6MW2F4D",
        license="as its record states; the authors ask for both papers to be cited",
        references=_CAMELS_US,
        size="3.4 GB",
        record=15529996,
        files={
            "basin_timeseries_v1p2_metForcing_obsFlow.zip": "",
            **{
                f"camels_{table}.txt": "camels_attributes_v2.0"
                for table in ("clim", "geol", "hydro", "name", "soil", "topo", "vege")
            },
        },
        root="basin_dataset_public_v1p2",
    ),
    "caravan": Archive(
        title="Caravan 1.6, NetCDF: daily ERA5-Land weather, streamflow and attributes of basins around the world",
        doi="10.5281/zenodo.7540792",
        license="CC BY 4.0; of the data sets inside, as its folder licenses says",
        references=_CARAVAN,
        size="25 GB",
        record=15529786,
        files={"Caravan-nc.tar.gz": ""},
    ),
    "caravan_csv": Archive(
        title="Caravan 1.6, CSV: the same series as text",
        doi="10.5281/zenodo.7540792",
        license="CC BY 4.0; of the data sets inside, as its folder licenses says",
        references=_CARAVAN,
        size="29 GB",
        record=15530022,
        files={"Caravan-csv.tar.gz": ""},
    ),
    "fluxnet": Archive(
        title="FLUXNET2015: fluxes between land and air at towers",
        doi="10.1038/s41597-020-0534-3",
        license="CC BY 4.0",
        references="Pastorello et al. (2020), Scientific Data, 7, 225, doi:10.1038/s41597-020-0534-3",
        size="by site",
        by_hand="FLUXNET asks for a login, and for the intended use, before it gives files out (fluxnet.org)",
    ),
}
