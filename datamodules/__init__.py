"""Lightning DataModules for series, and the readers of real data sets."""

from mptt.datamodules.camels import CAMELSDataModule, read_camels
from mptt.datamodules.camels_us import CAMELSUSDataModule, read_camels_us
from mptt.datamodules.caravan import CaravanDataModule, read_caravan
from mptt.datamodules.files import FilesDataModule, files_source, read_files
from mptt.datamodules.fluxnet import FLUXNETDataModule, read_fluxnet
from mptt.datamodules.fluxnet_zarr import FLUXNETZarrDataModule, read_fluxnet_zarr
from mptt.datamodules.series import SeriesDataModule
from mptt.datamodules.simulated import SimulatedBasin, simulate_basin
from mptt.datamodules.swat import SWATDataModule, read_swat_csv, write_swat_csv
from mptt.datamodules.swat_output import SWATOutputDataModule, read_swat_output

__all__ = [
    "CAMELSDataModule",
    "CAMELSUSDataModule",
    "CaravanDataModule",
    "FLUXNETDataModule",
    "FLUXNETZarrDataModule",
    "FilesDataModule",
    "SWATDataModule",
    "SWATOutputDataModule",
    "SeriesDataModule",
    "SimulatedBasin",
    "files_source",
    "read_camels",
    "read_camels_us",
    "read_caravan",
    "read_files",
    "read_fluxnet",
    "read_fluxnet_zarr",
    "read_swat_csv",
    "read_swat_output",
    "simulate_basin",
    "write_swat_csv",
]
