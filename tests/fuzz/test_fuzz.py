"""A small fixed number of the cases of ``python -m tests.fuzz``, and that an escape would be seen."""

from __future__ import annotations

import random
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import finitewidth as fw
from fuzz.case import ESCAPED, REFUSED, Runner, Target
from fuzz.functions import FUNCTIONS
from fuzz.readers import READERS

SECONDS = 0.35  # a target, about: most of the cases that follow are cheap


def count(target: Target) -> int:
    most = 150 if target.kind == "reader" else 60
    return max(8, min(most, int(SECONDS / target.cost)))


@pytest.mark.parametrize("target", [*READERS, *FUNCTIONS], ids=lambda target: target.name)
def test_no_case_escapes(target, tmp_path):
    runner = Runner(target, tmp_path / "cases")
    outcomes = [runner.run(index) for index in range(count(target))]
    escaped = [(index, told) for index, (outcome, told) in enumerate(outcomes) if outcome == ESCAPED]
    assert escaped == []
    assert REFUSED in {outcome for outcome, _ in outcomes}, "cases that are never refused are no hostile ones"


@pytest.mark.parametrize("target", [t for t in FUNCTIONS if t.cost <= 0.005], ids=lambda target: target.name)
def test_no_case_that_hypothesis_finds_escapes(target, tmp_path):
    runner = Runner(target, tmp_path / "cases")

    @settings(max_examples=8, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def search(rng):
        outcome, told = runner.judged(rng)
        assert outcome != ESCAPED, told

    search()


# --- negative controls: what must be counted as an escape -------------------------------------------------------------


def refusing(error):
    def run(rng, folder, valid):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("x"), "KeyError"),
        (ValueError("not one of ours"), "ValueError"),
        (fw.InputError("", "something", "do it"), "no three parts"),
        (RecursionError(), "RecursionError"),
    ],
)
def test_other_errors_are_escapes(error, told, tmp_path):
    outcome, where = Runner(Target("x", refusing(error)), tmp_path / "x").run(0)
    assert outcome == ESCAPED
    assert told in where


def test_hanging_and_partial_files_are_escapes(tmp_path):
    def hang(rng, folder, valid):
        while True:
            pass

    def leave(rng, folder, valid):
        (folder / "x.part").write_text("half")

    assert Runner(Target("x", hang), tmp_path / "x").run(0, seconds=1)[0] == ESCAPED
    assert "x.part" in Runner(Target("x", leave), tmp_path / "x").run(0)[1]


def test_a_case_is_made_from_its_number_alone(tmp_path):
    made = []
    target = Target("x", lambda rng, folder, valid: made.append(rng.random()))
    for _ in range(2):
        Runner(target, tmp_path / "x").run(7)
    assert made[0] == made[1] == random.Random("x:7").random()


# --- single tricks, by name -------------------------------------------------------------------------------------------


def test_a_header_that_decompresses_to_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            file.writestr(f"{name}.npy", b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + bytes(2**20))
    with pytest.raises(fw.InputError, match="expected 2147483648 bytes got"):
        fw.data.npz(path)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_write_are_refused(tmp_path, kind):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", kind) as file:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            file.writestr(f"{name}.npy", b"")
    with pytest.raises(fw.InputError, match="compression"):
        fw.data.npz(path)


def test_one_long_class_name_does_not_take_room_in_every_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "1,a\n2,b\n" * 1000 + f"3,{'c' * 100_000}\n")
    with pytest.raises(fw.InputError, match="a class name of 100000 characters"):
        fw.data.csv(path, "y")


def test_a_message_cannot_drive_the_terminal(tmp_path):
    with pytest.raises(fw.InputError) as caught:
        fw.data.load("\x1b[2J\x1b]0;title\x07.npz")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("order", "<>")
def test_text_of_what_are_no_characters_is_refused(tmp_path, order):
    x = np.ones((2, 1))
    text = np.array(["ab", "cd"]).astype(f"{order}U2")
    for bits, refused in ((0x10FFFF, False), (0x110000, True)):
        names = text.copy()
        names.view(f"{order}u4")[0] = bits
        np.savez(tmp_path / "a.npz", x_train=x, y_train=names, x_test=x, y_test=names)
        if refused:
            with pytest.raises(fw.InputError, match="y_train holds text that is none"):
                fw.data.npz(tmp_path / "a.npz")
        else:
            with pytest.raises(fw.InputError, match="text"):  # labels by name; but read they were
                fw.data.npz(tmp_path / "a.npz")


def test_draws_from_elsewhere_are_not_followed(tmp_path):
    import sqlite3

    from fuzz.readers import database

    valid = database(tmp_path)
    db = sqlite3.connect(tmp_path / valid["name"])
    with db:
        db.execute("UPDATE points SET draws_path = '../elsewhere.npz' WHERE point_id = ?", (valid["id"],))
    db.close()
    with pytest.raises(fw.InputError, match="draws at"):
        fw.sweeps.draws(tmp_path, valid["id"])


def test_results_behind_a_link_are_refused(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "draws").symlink_to(elsewhere)
    plan = {"data": "digits", "n_train": 5, "n_test": 2, "classes": [0, 1], "grid": {"width": [3]}}
    with pytest.raises(fw.InputError, match="symbolic link"):
        fw.sweeps.run(plan, out)
    assert list(elsewhere.iterdir()) == []
