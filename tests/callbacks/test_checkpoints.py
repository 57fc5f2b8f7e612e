from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from faults import Touch, no_file_over
from pytorch_lightning.demos.boring_classes import BoringModel

from mptt import MPTTError
from mptt.callbacks import WholeCheckpointIO, read_checkpoint
from mptt.callbacks.checkpoints import in_our_form

GOOD: dict[str, Any] = {
    **{"state_dict": {"w": torch.arange(5000.0)}, "epoch": 3, "global_step": 7, "pytorch-lightning_version": "2.6.0"},
    "optimizer_states": [{"lr": 0.1}],
}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    WholeCheckpointIO().save_checkpoint(GOOD, tmp_path / "deep" / "a.ckpt")
    return tmp_path / "deep" / "a.ckpt"


def test_a_checkpoint_comes_back_as_it_was(whole: Path) -> None:
    for read in (read_checkpoint(whole), WholeCheckpointIO().load_checkpoint(str(whole)), torch.load(whole)):
        assert torch.equal(read["state_dict"]["w"], GOOD["state_dict"]["w"])
        assert {**read, "state_dict": 0} == {**GOOD, "state_dict": 0}
    assert [path.name for path in whole.parent.iterdir()] == ["a.ckpt"]


def test_a_file_cut_short_anywhere_is_refused(whole: Path) -> None:
    content = whole.read_bytes()
    for length in [*range(1, 200, 37), *range(200, len(content), 997), len(content) - 1]:
        whole.write_bytes(content[:length])
        with pytest.raises(MPTTError, match=r"a\.ckpt (is no checkpoint|is cut short or damaged)"):
            read_checkpoint(whole)


def test_a_single_flipped_bit_of_the_weights_is_refused(whole: Path) -> None:
    content = bytearray(whole.read_bytes())
    at = content.index(np.arange(2000, 2010, dtype=np.float32).tobytes())
    content[at] ^= 1
    whole.write_bytes(content)
    changed = torch.load(whole, weights_only=True)["state_dict"]["w"]
    assert not torch.equal(changed, GOOD["state_dict"]["w"]), "torch does not see it"
    with pytest.raises(MPTTError, match=r"damaged \(the checksum"):
        read_checkpoint(whole)


def test_empty_absent_and_folder_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").touch()
    with pytest.raises(MPTTError, match=r"a\.ckpt is empty"):
        read_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(MPTTError, match=r"b\.ckpt cannot be read: No such file"):
        read_checkpoint(tmp_path / "b.ckpt")
    with pytest.raises(MPTTError, match="cannot be read: Is a directory"):
        read_checkpoint(tmp_path)


def _zip(content: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", how) as archive:
        for name, one in content.items():
            archive.writestr(name, one)
    return made.getvalue()


def _saved(value: Any, **settings: Any) -> bytes:
    made = io.BytesIO()
    torch.save(value, made, **settings)
    return made.getvalue()


def _npz(value: Any) -> bytes:
    made = io.BytesIO()
    np.savez(made, a=np.array([value], dtype=object))
    return made.getvalue()


@pytest.mark.parametrize(
    "written",
    [
        pickle.dumps,
        lambda evil: _saved({**GOOD, "hyper_parameters": evil}),
        lambda evil: _saved({**GOOD, "state_dict": {"w": evil}}),
        lambda evil: _saved({**GOOD, "more": evil}, _use_new_zipfile_serialization=False),
        _npz,
        lambda evil: _zip({"a/data.pkl": pickle.dumps(evil), "a/version": b"3\n"}),
        lambda evil: _zip({"a/data.pkl": pickle.dumps(evil), "a/constants.pkl": pickle.dumps(evil)}),
        lambda evil: _zip({"a/data.pkl": pickle.dumps(evil)}, zipfile.ZIP_DEFLATED),
    ],
    ids=["pickle", "hyperparameters", "weights", "old-format", "npz", "zip", "torchscript", "packed"],
)
def test_nothing_in_a_file_is_run(written: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As told to some, to get old files read again.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, made = tmp_path / "a.ckpt", tmp_path / "made"
    path.write_bytes(written(Touch(made)))
    with pytest.raises(MPTTError, match=r"Nothing in it was run|nothing in it was run|damaged|another kind"):
        read_checkpoint(path)
    trainer = pl.Trainer(plugins=[WholeCheckpointIO()], logger=False, accelerator="cpu", enable_progress_bar=False)
    with pytest.raises(MPTTError):
        trainer.fit(BoringModel(), ckpt_path=path)
    assert not made.exists()
    torch.load(io.BytesIO(_saved(Touch(made))), weights_only=False)
    assert made.exists(), "it would have been"


def test_all_that_a_file_holds_is_not_to_be_had(whole: Path) -> None:
    with pytest.raises(MPTTError, match="weights_only=False"):
        WholeCheckpointIO().load_checkpoint(whole, weights_only=False)


@pytest.mark.parametrize("value", [{"w": torch.ones(2)}, [1, 2], torch.ones(3), {**GOOD, "epoch": 1} | {}])
def test_files_of_another_program_are_refused(value: Any, tmp_path: Path) -> None:
    if isinstance(value, dict):
        value = {key: one for key, one in value.items() if key != "pytorch-lightning_version"}
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(MPTTError, match=r"no checkpoint of Lightning: it lacks .*pytorch-lightning_version"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_disk_that_ends_leaves_the_checkpoint_of_before(whole: Path) -> None:
    with no_file_over(4000), pytest.raises(MPTTError, match=r"a\.ckpt cannot be written: .*before is kept"):
        WholeCheckpointIO().save_checkpoint({**GOOD, "epoch": 4}, whole)
    assert read_checkpoint(whole)["epoch"] == 3
    assert [path.name for path in whole.parent.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("saved", [{}, {"maps": {}}, [], {"maps": {"rnn": {"mu": 3}}}])
def test_a_memory_in_another_form_says_so(saved: Any) -> None:
    with (
        pytest.raises(MPTTError, match=r"memory of MPTT in the checkpoint is not in the form in which mptt "),
        in_our_form("memory of MPTT"),
    ):
        saved["maps"]["rnn"]["mu"].shape  # noqa: B018


def test_an_address_is_written_and_read_as_a_path(whole: Path) -> None:
    WholeCheckpointIO().save_checkpoint(GOOD, "memory://runs/a.ckpt")
    read = read_checkpoint("memory://runs/a.ckpt")
    assert torch.equal(read["state_dict"]["w"], GOOD["state_dict"]["w"])
    assert {**read, "state_dict": 0} == {**GOOD, "state_dict": 0}
    with pytest.raises(MPTTError, match=r"memory://runs/b\.ckpt cannot be read"):
        read_checkpoint("memory://runs/b.ckpt")


def test_an_intact_archive_that_lacks_the_numbers_is_refused(tmp_path: Path) -> None:
    pickled = zipfile.ZipFile(io.BytesIO(_saved(GOOD))).read("archive/data.pkl")
    (tmp_path / "a.ckpt").write_bytes(_zip({"archive/data.pkl": pickled, "archive/version": b"3\n"}))
    with pytest.raises(MPTTError, match=r"a\.ckpt is cut short or damaged \(RuntimeError: .*data/0"):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize(("free", "said"), [(0, "No space left on device"), (1 << 30, "unexpected pos 64 vs 0")])
def test_where_torch_forgot_why_it_cannot_write_the_room_tells(
    free: int, said: str, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> None:
        raise RuntimeError("unexpected pos 64 vs 0\nin some line of C++")

    monkeypatch.setattr(torch, "save", fails)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    with pytest.raises(MPTTError, match=rf"a\.ckpt cannot be written: .*{said}"):
        WholeCheckpointIO().save_checkpoint(GOOD, whole)
    monkeypatch.undo()
    assert read_checkpoint(whole)["epoch"] == 3
