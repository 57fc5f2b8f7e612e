"""The benchmark as a command: what it prints, writes and returns; not how fast anything is."""

import json
import math

import pytest
from rich.console import Console

from mptt.experiments.bench import common, main, report
from mptt.experiments.bench.common import Figure, Settings
from mptt.experiments.bench.drawing import PANELS, draw


def made_up(settings):
    return [Figure("fast enough", [1.0, 3.0, 2.0], "s", target=2.0), Figure("only looked at", [5.0], "x")]


def too_slow(settings):
    return [Figure("too slow", [9.0, 4.0, 5.0], "ms", target=4.5)]


def read(path):
    return json.loads(path.read_text())


def test_smallest_section_gives_table_json_and_figure(tmp_path, capsys):
    out = tmp_path / "runs" / "bench.json"
    assert main.main(["--only", "memory", "--quick", "--repeats", "1", "--out", str(out)]) == 0
    shown, record = capsys.readouterr().out, read(out)
    assert "memory (1 of 1)" in shown
    assert "100,000 windows" in " ".join(shown.replace("│", " ").split())
    assert {one["section"] for one in record["results"]} == {"memory"}
    assert [one["at"] for one in record["results"] if one.get("panel") == "keymap"] == [1000, 10_000, 100_000]
    aimed = [one for one in record["results"] if one["target"] is not None]
    assert all(one["met"] is (one["value"] <= one["target"]) for one in aimed)
    assert (record["repeats"], record["quick"], record["threads"]) == (1, True, 1)
    assert {"date", "processor", "cores", "python", "torch", "pytorch-lightning", "commit"} <= set(record)
    assert (tmp_path / "runs" / "bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("values", "target", "met"),
    [
        ([1.0, 3.0, 2.0], 2.0, True),
        ([1.0, 3.0, 2.0], 1.9, False),
        ([7.0], None, None),
        ([math.nan], 2.0, False),
    ],
    ids=["median at target", "median beyond", "no target", "no number"],
)
def test_met_compares_the_median_with_the_target(values, target, met):
    assert Figure("it", values, "s", target).met is met


def test_json_holds_every_repeat_and_the_verdict(tmp_path):
    out = tmp_path / "bench.json"
    main.main(["--out", str(out)], {"one": made_up, "other": too_slow})
    first, second, third = read(out)["results"]
    assert first == {
        "section": "one", "what": "fast enough", "value": 2.0, "unit": "s", "low": 1.0, "high": 3.0, "target": 2.0,
        "met": True, "values": [1.0, 3.0, 2.0],
    }  # fmt: skip
    assert (second["target"], second["met"]) == (None, None)
    assert (third["section"], third["value"], third["met"]) == ("other", 5.0, False)


def test_table_marks_a_missed_target(capsys):
    machine = {"processor": "it", "threads": 1, "torch": "2"}
    measured = {"a": report.Measured(made_up(None), 1.0), "b": report.Measured(too_slow(None), 1.0)}
    console = Console(width=120)
    console.print(report.table_of(machine, measured))
    rows = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if line.startswith("│")}
    assert "met" in rows["fast enough"]
    assert "missed" in rows["too slow"]
    assert "5.000 ms" in rows["too slow"]
    assert "4.000 to 9.000" in rows["too slow"]
    assert "met" not in rows["only looked at"]


@pytest.mark.parametrize(("words", "code"), [([], 0), (["--strict"], 1), (["--strict", "--only", "one"], 0)])
def test_a_missed_target_fails_only_a_strict_run(tmp_path, words, code):
    assert main.main([*words, "--out", str(tmp_path / "bench.json")], {"one": made_up, "other": too_slow}) == code


def test_an_interrupted_run_keeps_the_sections_before(tmp_path, capsys):
    def interrupted(settings):
        raise KeyboardInterrupt

    out = tmp_path / "bench.json"
    with pytest.raises(KeyboardInterrupt):
        main.main(["--out", str(out)], {"one": made_up, "two": interrupted, "three": too_slow})
    assert [row["what"] for row in read(out)["results"]] == ["fast enough", "only looked at"]
    assert "fast enough" in capsys.readouterr().out


def test_an_unknown_section_is_refused(tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main.main(["--only", "none_such", "--out", str(tmp_path / "bench.json")])
    assert stopped.value.code == 2


def test_repeats_take_turns_and_the_first_round_is_left_out():
    calls = []
    measures = {name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    found = common.interleaved(Settings(2), 2, measures)
    assert "".join(calls) == "ba" + "ab" + "ba"
    assert found == {"a": [3, 6], "b": [4, 5]}


def test_action_clock_adds_up_what_ended_since_it_was_cleared(monkeypatch):
    times = iter([0.0, 1.0, 10.0, 12.0, 20.0, 23.0])
    monkeypatch.setattr(common.time, "perf_counter", lambda: next(times))
    clock = common.ActionClock()
    for name in ("[Callback]A.start", "[Callback]A.start", "[Strategy]B.backward"):
        clock.start(name)
        clock.stop(name)
    assert clock.of(r"^\[Callback\]") == 3.0
    assert clock.of(r"\.(start|backward)$") == 6.0
    clock.clear()
    assert clock.of(".") == 0


def test_figure_has_a_panel_for_each_thing_varied():
    points = [
        *(Figure("a", [1.0, 1.1, 1.2], "x", panel="window", at=at) for at in (14.0, 366.0)),
        *(Figure("b", [at / 1000], "s", panel="scale", curve=curve, at=at) for at in (1e3, 1e4) for curve in "pq"),
    ]
    drawn = draw(points)
    labels = [axes.get_xlabel() for axes in drawn.axes]
    assert labels == [PANELS["window"].x, PANELS["scale"].x]
    assert [text.get_text() for text in drawn.axes[1].get_legend().get_texts()] == ["p", "q", "linear"]
    assert draw([Figure("no point", [1.0], "s")]) is None
