"""Output files of SWAT2012, printed as its Fortran formats print them; values are made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

SUB_NAMES = (
    "  PRECIPmm SNOMELTmm     PETmm      ETmm      SWmm    PERCmm    SURQmm    GW_Qmm    WYLDmm  SYLDt/ha ORGNkg/ha"
    " ORGPkg/haNSURQkg/ha SOLPkg/ha SEDPkg/ha LAT Q(mm)LATNO3kg/hGWNO3kg/haCHOLAmic/LCBODU mg/L DOXQ mg/L"
)
RCH_NAMES = "  FLOW_INcms FLOW_OUTcms     EVAPcms SED_OUTtonsSEDCONCmg/kgRESUSP_PSTmg     TOT Nkg    WTMPdegc"
HRU_NAMES = "  PRECIPmm     PETmm  SW_ENDmmSURQ_GENmm       LAISOLARMJ/m2   BACTPct  BACTLPct     SNOmm"

Value = Callable[[int, int, int], float]  # of step, unit and column


def value_of(step: int, unit: int, column: int) -> float:
    """A number that tells where it is from, exact in three decimals."""
    return step + unit / 10 + column / 1000


def fixed(value: float, width: int = 10, decimals: int = 3) -> str:
    """Fortran's F format: asterisks where the number is too wide."""
    text = f"{value:.{decimals}f}"
    return text.rjust(width) if len(text) <= width else "*" * width


def scientific(value: float, width: int, decimals: int) -> str:
    """Fortran's E format: a zero before the point, dropped where there is no room for it."""
    if value == 0:
        mantissa, exponent = 0.0, 0
    else:
        digits = f"{abs(value):.{decimals - 1}e}"
        mantissa, exponent = float(digits.split("e")[0]) / 10, int(digits.split("e")[1]) + 1
    tail = f"E{exponent:+03d}" if abs(exponent) < 100 else f"{exponent:+04d}"
    text = ("-" if value < 0 else "") + f"{mantissa:.{decimals}f}"[1:] + tail
    with_zero = text.replace(".", "0.", 1)
    text = with_zero if len(with_zero) <= width else text
    return text.rjust(width) if len(text) <= width else "*" * width


def sub_row(unit: int, mon: str, area: float, values: Sequence[float], digits: int = 4) -> str:
    """'BIGSUB',i4,1x,i8,1x,i4,e10.5,18f10.3,1x,e10.5,5e10.3."""
    row = f"BIGSUB{unit:{digits}d} {0:8d} {mon:>4}{scientific(area, 10, 5)}"
    row += "".join(fixed(value) for value in values[:18])
    rest = [scientific(value, 10, 5 if nth == 0 else 3) for nth, value in enumerate(values[18:])]
    return row + (" " + "".join(rest) if rest else "")


def rch_row(unit: int, mon: str, area: float, values: Sequence[float]) -> str:
    """'REACH ',i4,1x,i8,1x,i5,47e12.4."""
    return f"REACH {unit:4d} {0:8d} {mon:>5}" + "".join(scientific(value, 12, 4) for value in [area, *values])


def hru_row(unit: int, mon: str, area: float, values: Sequence[float], fused: bool = False) -> str:
    """A4,i5,1x,a5,a4,1x,i4,1x,i4,1x,i4,e10.5,6f10.3,1x,e10.5,1x,e10.5,e10.3; fused: a4,i4,a5,a4,i5,1x,i4,1x,i4."""
    first = f"AGRR{unit:4d}{7:05d}{unit:04d}{7:5d}" if fused else f"AGRR{unit:5d} {7:05d}{unit:04d} {7:4d}"
    row = f"{first} {0:4d} {mon:>4}{scientific(area, 10, 5)}" + "".join(fixed(value) for value in values[:6])
    return row + f" {scientific(values[6], 10, 5)} {scientific(values[7], 10, 5)}{scientific(values[8], 10, 3)}"


ROWS = {"sub": sub_row, "rch": rch_row, "hru": hru_row}
COLUMNS = {"sub": 21, "rch": 8, "hru": 9}
HEADERS = {
    "sub": "       SUB      GIS  MON   AREAkm2" + SUB_NAMES,
    "rch": "       RCH      GIS   MON     AREAkm2" + RCH_NAMES,
    "hru": "LULC  HRU       GIS  SUB  MGT  MON   AREAkm2" + HRU_NAMES,
}
TOP = [
    "1",
    "    SWAT Sep 7    VER 2018/Rev 670",
    "",
    "    General Input/Output section (file.cio):",
    "    a title",
    "",
    "",
    "",
]


def steps_of(step: str, start: date, count: int) -> list[str]:
    """What MON says of each step."""
    if step == "daily":
        return [str((start + timedelta(nth)).timetuple().tm_yday) for nth in range(count)]
    if step == "monthly":
        return [str((start.month - 1 + nth) % 12 + 1) for nth in range(count)]
    return [str(start.year + nth) for nth in range(count)]


def write_output(
    path: Path,
    kind: str,
    step: str = "daily",
    start: date = date(2000, 1, 1),
    count: int = 400,
    units: int = 3,
    value: Value = value_of,
    totals: bool = True,
    ending: str = "\n",
    row: Callable[..., str] | None = None,
) -> list[str]:
    """Write an output file; returns its lines. Monthly output has the totals of whole years and the average of all."""
    lines = [*TOP, HEADERS[kind]]
    row = row or ROWS[kind]

    def print_step(mon: str, nth: int) -> None:
        for unit in range(1, units + 1):
            values = [value(nth, unit, column) for column in range(COLUMNS[kind])]
            lines.append(row(unit, mon, 10.0 * unit, values))

    for nth, mon in enumerate(steps_of(step, start, count)):
        print_step(mon, nth)
        if step == "monthly" and totals and mon == "12":
            print_step(str(start.year + (start.month - 1 + nth) // 12), 900)
    if step != "daily" and totals:
        print_step(f"{count / (12 if step == 'monthly' else 1):.1f}", 950)
    write_lines(path, lines, ending)
    return lines


def write_lines(path: Path, lines: Sequence[str], ending: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + ending for line in lines).encode())


def write_control(
    path: Path, code: int = 1, year: int = 2000, years: int = 2, skipped: int = 0, first: int = 1, last: int = 0
) -> None:
    """file.cio, with its settings in their lines."""
    lines = [f"line {number}" for number in range(1, 80)]
    settings = {8: ("NBYR", years), 9: ("IYR", year), 10: ("IDAF", first), 11: ("IDAL", last)}
    for number, (name, setting) in (settings | {59: ("IPRINT", code), 60: ("NYSKIP", skipped)}).items():
        lines[number - 1] = f"{setting:16d}    | {name} : what it is"
    write_lines(path, lines)
