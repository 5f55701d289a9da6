"""Runs in one process: what is stored, what goes on, what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.linalg import Spectrum
from finitewidth.report.sweep_page import write_page
from finitewidth.sweeps import Plan, lock
from finitewidth.sweeps.store import Outcome, Store
from finitewidth.sweeps.worker import StopSweepError, Worker
from finitewidth.theory.rows import without_validity

pytest.importorskip("yaml")

QUICK = {"data": "digits", "classes": [0, 1], "n_train": 30, "n_test": 20}
PLAN = QUICK | {"grid": {"seed": [0, 1], "temperature": [0.1, 0.5], "width": [20, 40]}}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def table(folder: str = "out") -> list[dict]:
    with sqlite3.connect(Path(folder) / "results.sqlite") as db:
        db.row_factory = sqlite3.Row
        rows = [dict(row) for row in db.execute("SELECT * FROM points ORDER BY finished_at, rowid")]
    db.close()
    return rows


@pytest.fixture
def npz():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((30, 6))
    np.savez("data.npz", x_train=x[:20], y_train=np.sign(x[:20, 0]), x_test=x[20:], y_test=np.sign(x[20:, 0]))
    return "data.npz"


@pytest.mark.filterwarnings("default")
def test_raw_and_standardised_targets():
    r = np.random.default_rng(0)
    x = r.standard_normal((30, 6))
    y = 70.0 * np.sin(x[:, 0]) + 150.0
    np.savez("raw.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    plan = {"data": "raw.npz", "width": 20, "grid": {"standardise_target": [True, False], "temperature": [0.1, 0.2]}}
    with pytest.warns(fw.ScaleWarning, match=r"^targets .+; standardise .+concerned: 2\)$") as caught:
        fw.sweeps.run(plan, "out")
    assert len(caught) == 1
    standardised, _, raw, _ = table()
    data = fw.data.npz("raw.npz", standardise_target=True)
    wanted = fw.learning_curve(fw.FullyConnected(widths=20), *data, temperature=0.1)[0].test_error
    assert json.loads(standardised["result"])["test_error"] == wanted
    assert standardised["reason"] == ""
    assert raw["reason"].startswith("targets of mean square 2")


def test_rows_are_those_of_predict_in_the_order_of_the_plan():
    status = fw.sweeps.run(PLAN, "out")
    assert (status.state, status.planned, status.done, status.failed, status.left) == ("finished", 8, 8, 0, 0)
    rows = table()
    assert [list(json.loads(row["config"])[key] for key in ("seed", "width", "temperature")) for row in rows] == [
        [seed, width, temperature] for seed in (0, 1) for width in (20, 40) for temperature in (0.1, 0.5)
    ]
    for seed in (0, 1):
        train, test = fw.data.digits(classes=(0, 1), n_train=30, n_test=20, seed=seed)
        curve = fw.learning_curve(fw.FullyConnected(widths=20), train, test, [20, 40], [0.1, 0.5])
        of_seed = [row for row in rows if row["seed"] == seed]
        for row, expected in zip(of_seed, sorted(curve, key=lambda row: (row.width, row.temperature)), strict=True):
            result = json.loads(row["result"])
            assert result.pop("seconds") > 0.0
            wanted = json.loads(json.dumps(without_validity(expected).to_dict()))  # a sweep looks at no validity
            del wanted["seconds"]
            assert result == wanted
            assert row["status"] == "done"
            assert row["data_fingerprint"].split() == [train.fingerprint(), test.fingerprint()]
    for row in rows:
        assert row["started_at"] < row["finished_at"] or row["seconds"] < 1e-3
        assert json.loads(row["versions"])["finitewidth"] == fw.__version__
        assert row["peak_memory"] > 1e6
        assert row["converged"] == 1


def test_one_factorisation_for_all_points_that_share_it(monkeypatch):
    seen: list[int] = []
    computed = Spectrum.of
    monkeypatch.setattr(Spectrum, "of", lambda gram, overwrite=False: (seen.append(1), computed(gram, overwrite))[1])
    fw.sweeps.run(QUICK | {"grid": {"seed": [0, 1], "method": ["infinite", "integrate"], "width": [7, 20]}}, "out")
    assert len(seen) == 2
    assert len(table()) == 8


def test_krylov_points_do_not_depend_on_their_neighbours():
    base = QUICK | {"n_train": 60, "method": "infinite", "n_test": 40, "solver": "krylov:0.001"}
    fw.sweeps.run(base | {"grid": {"temperature": [10.0, 0.02]}}, "both")
    fw.sweeps.run(base | {"temperature": 0.02}, "alone")
    both, alone = ([json.loads(row["result"]) for row in table(name)] for name in ("both", "alone"))
    for result in (*both, *alone):
        assert result.pop("seconds") > 0.0
        assert result["solver"] == "krylov"
    assert both[1] == alone[0]


def test_the_same_call_goes_on_and_a_changed_plan_adds(monkeypatch):
    outcomes = Worker.outcome
    left = [3]

    def interrupted(self, task):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return outcomes(self, task)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "outcome", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fw.sweeps.run(PLAN, "out")
    before = table()
    assert len(before) == 3
    status = fw.sweeps.status("out")
    assert (status.state, status.outcome, status.done, status.left) == ("stopped", "interrupted", 3, 5)
    assert fw.sweeps.run(PLAN, str(Path("out").absolute())).done == 8
    assert table()[:3] == before
    assert fw.sweeps.run(PLAN, "out").rate is None
    changed = fw.sweeps.run(QUICK | {"grid": {"seed": [0, 2], "temperature": [0.1], "width": [20, 40]}}, "out")
    assert (changed.planned, changed.done, changed.stored) == (4, 4, 10)


def test_a_point_that_fails_is_recorded_and_the_sweep_goes_on(monkeypatch):
    plan = {"data": "digits", "classes": [0, 1], "grid": {"n_train": [30, 5000], "width": [20]}}
    status = fw.sweeps.run(plan, "out")
    assert (status.state, status.done, status.failed, status.left) == ("finished", 1, 1, 0)
    assert list(status.failures.values()) == [1]
    (bad,) = [row for row in table() if row["status"] == "failed"]
    assert (bad["result"], bad["converged"]) == (None, None)
    assert "n_train = 5000" in bad["reason"]
    assert fw.sweeps.run(plan, "out").failed == 1
    assert [row for row in table() if row["status"] == "failed"] == [bad]
    assert fw.sweeps.run(plan, "out", retry_failed=True).failed == 1
    (again,) = [row for row in table() if row["status"] == "failed"]
    assert again["started_at"] > bad["started_at"]
    monkeypatch.setattr(Worker, "_result", lambda self, task: 1 / 0)
    fw.sweeps.run(PLAN, "other")
    assert {row["reason"].split(" (")[0] for row in table("other")} == {"ZeroDivisionError: division by zero"}


def test_what_did_not_converge_is_recorded_as_such(monkeypatch):
    from finitewidth.theory import rows

    row_of = rows.row_of

    def doubtful(solution, test, started):
        object.__setattr__(solution, "converged", False)
        object.__setattr__(solution, "message", "gradient too large")
        return row_of(solution, test, started)

    monkeypatch.setattr(rows, "row_of", doubtful)
    status = fw.sweeps.run(QUICK | {"grid": {"width": [20]}}, "out")
    assert (status.done, status.not_converged) == (1, 1)
    (row,) = table()
    assert (row["status"], row["converged"], row["reason"]) == ("done", 0, "gradient too large")
    assert json.loads(row["result"])["test_error"] is None


def test_data_that_changed_are_refused_with_both_fingerprints(npz):
    plan = {"data": npz, "grid": {"width": [20, 40]}}
    fw.sweeps.run(plan, "out")
    before, first = table(), fw.data.npz(npz)[1].fingerprint()
    arrays = dict(np.load(npz))
    np.savez(npz, **arrays | {"x_test": 2.0 * arrays["x_test"]})
    for width in (40, 80):  # with points that are done, and with one that is left
        with pytest.raises(fw.InputError, match="which have changed") as error:
            fw.sweeps.run(plan | {"grid": {"width": [width]}}, "out")
        assert first in str(error.value)
        assert fw.data.npz(npz)[1].fingerprint() in str(error.value)
        assert table() == before
    assert fw.sweeps.run(plan, "elsewhere").done == 2


def test_a_worker_that_sees_other_data_ends_the_sweep(monkeypatch):
    fw.sweeps.run(PLAN, "out")
    monkeypatch.setattr(fw.Dataset, "fingerprint", lambda self: "0" * 64)
    with pytest.raises(fw.InputError, match="as when this sweep began"):
        fw.sweeps.run(PLAN | {"grid": PLAN["grid"] | {"width": [80]}}, "out")
    assert len(table()) == 8


def test_relative_data_lie_beside_the_plan(npz):
    Path("inner").mkdir()
    shutil.move(npz, "inner/data.npz")
    Path("inner/plan.yaml").write_text("data: data.npz\ngrid:\n  width: [20]\n")
    assert fw.sweeps.run("inner/plan.yaml", "out").done == 1
    assert json.loads(table()[0]["config"])["data"] == "data.npz"


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"data": "none.npz", "grid": {"width": [2]}}, "does not exist"),
        ({"data": "digts", "grid": {"width": [2]}}, "digits"),
        (QUICK | {"n_train": 5000, "grid": {"width": [2]}}, "n_train = 5000"),
        (QUICK | {"grid": {"seed": list(range(1001)), "width": list(range(1, 1001))}}, "1,001,000 points"),
    ],
)
def test_refused_before_the_first_point(plan, words):
    with pytest.raises(fw.InputError, match=words):
        fw.sweeps.run(plan, "out")
    assert not Path("out/results.sqlite").exists() or table() == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"client": "dask"}, "serial, local or tcp"),
        ({"workers": 2}, "--client local"),
        ({"memory": "1kB"}, "which needs about"),
        ({"memory": "lots"}, "8GB"),
    ],
)
def test_refused_options(options, words):
    if options == {"memory": "1kB"}:
        assert fw.sweeps.run(PLAN, "out", **options).failed == 8
        assert words in table()[0]["reason"]
        return
    with pytest.raises(fw.InputError, match=words):
        fw.sweeps.run(PLAN, "out", **options)


def test_two_sweeps_in_one_folder():
    Path("out").mkdir()
    with lock.locked(Path("out")):
        assert lock.is_locked(Path("out"))
        with pytest.raises(fw.InputError, match="in which another process is working"):
            fw.sweeps.run(PLAN, "out")
    assert not lock.is_locked(Path("out"))
    fw.sweeps.run(PLAN, "out")
    with lock.locked(Path("out")), pytest.raises(fw.InputError, match=f"in which process {os.getpid()} on"):
        fw.sweeps.run(PLAN, "out")
    Path("out/lock.sqlite").write_text("no database" * 100)
    with pytest.raises(fw.InputError, match=r"lock\.sqlite"):
        fw.sweeps.run(PLAN, "out")


def test_damaged_and_foreign_databases():
    fw.sweeps.run(PLAN, "out")
    path = Path("out/results.sqlite")
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\x7f" * 9000 + whole[13096:])
    for use in (lambda: fw.sweeps.run(PLAN, "out"), lambda: list(fw.sweeps.rows("out"))):
        with pytest.raises(fw.InputError, match="damaged"):
            use()
    path.write_bytes(b"no database at all, but long enough to be looked at as one")
    with pytest.raises(fw.InputError, match="damaged"):
        fw.sweeps.run(PLAN, "out")
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE accounts (name TEXT)")
    db.close()
    foreign = path.read_bytes()
    with pytest.raises(fw.InputError, match="no database of this version's sweeps"):
        fw.sweeps.run(PLAN, "out")
    assert path.read_bytes() == foreign


def test_what_a_database_names_is_not_imported(monkeypatch):
    """Import paths are for the user's own command line: whoever wrote the folder runs nothing."""
    monkeypatch.syspath_prepend(".")
    monkeypatch.setattr("finitewidth.report.plots.save", lambda figure, path: path)
    fw.sweeps.run(PLAN, "out")
    Path("evil_of_a_test.py").write_text("open('imported', 'w').close()\n")
    with sqlite3.connect("out/results.sqlite") as db:
        for value in ('"fc"', '"saddle"'):
            db.execute("UPDATE points SET config = replace(config, ?, '\"evil_of_a_test:Class\"')", (value,))
        (changed,) = db.execute("SELECT count(*) FROM points WHERE config LIKE '%evil_of_a_test:Class%'").fetchone()
    db.close()
    assert changed == 8
    for use in (lambda: list(fw.sweeps.rows("out")), lambda: fw.sweeps.run(PLAN, "out"), lambda: write_page("out")):
        with contextlib.suppress(fw.InputError):
            use()
    assert not Path("imported").exists()


@pytest.mark.parametrize(("key", "value"), [("network", "os:system"), ("method", "x:y"), ("likelihood", "os:system")])
def test_a_plan_names_no_code(key, value):
    with pytest.raises(fw.InputError, match=key):
        fw.sweeps.run(PLAN | {key: value}, "out")
    with pytest.raises(fw.InputError, match=key):
        fw.sweeps.run(PLAN | {"grid": PLAN["grid"] | {key: [value]}}, "out")
    assert not Path("out").exists()


def test_a_full_disk_ends_the_sweep_and_the_same_call_goes_on(monkeypatch):
    add, left = Store._transaction, [7]

    def full(self):
        left[0] -= 1
        if left[0] < 0:
            raise sqlite3.OperationalError("database or disk is full")
        return add(self)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_transaction", full)
        with pytest.raises(fw.InputError, match=r"takes no more \(database or disk is full\)"):
            fw.sweeps.run(PLAN, "out")
    assert 0 < len(table()) < 8
    assert fw.sweeps.run(PLAN, "out").done == 8


def test_a_full_disk_on_a_worker_is_no_fault_of_the_point(monkeypatch):
    def full(self, task):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Worker, "_result", full)
    with pytest.raises(fw.InputError, match="No space left"):
        fw.sweeps.run(PLAN, "out")
    assert table() == []


def test_no_sweep_there():
    with pytest.raises(fw.InputError, match="no sweep in it"):
        fw.sweeps.status("nowhere")
    with pytest.raises(fw.InputError, match="no sweep in it"):
        list(fw.sweeps.rows("nowhere"))


def test_a_table_of_results():
    pandas = pytest.importorskip("pandas")
    fw.sweeps.run(PLAN, "out")
    found = fw.sweeps.read("out")
    assert isinstance(found, pandas.DataFrame)
    assert len(found) == 8
    assert set(found.columns) >= {"point_id", "width", "temperature", "seed", "test_error", "status", "peak_memory"}
    assert found.groupby("width").test_error.mean().between(0.0, 1.0).all()
    with pytest.raises(fw.InputError, match="no draws"):
        fw.sweeps.draws("out", found.point_id[0])


def test_a_worker_can_tell_its_parent_what_is_wrong():
    error = pickle.loads(pickle.dumps(StopSweepError("given", "wanted", "remedy")))
    assert (type(error), str(error)) == (StopSweepError, "given; wanted: wanted; remedy")


def test_ranges_and_arrays_in_python():
    plan = Plan.of(
        QUICK | {"grid": {"seed": range(2), "width": np.array([20, 40]), "temperature": np.geomspace(0.1, 1, 2)}}
    )
    assert plan.grids[0] == {"seed": [0, 1], "temperature": [0.1, 1.0], "width": [20, 40]}


def test_an_outcome_without_a_result_says_nothing_of_convergence():
    outcome = Outcome(None, "failed", None, "why", "", "", 0.0, "{}")
    assert outcome.converged is None


@pytest.mark.slow
def test_samples_and_trained_networks_keep_draws_and_leave_no_checkpoints():
    plan = QUICK | {"chains": 2, "draws": 10, "warmup": 10, "steps": 20, "seeds": 2, "width": 4}
    status = fw.sweeps.run(plan | {"grid": {"method": ["sample", "train"]}}, "out")
    assert (status.done, status.not_converged) == (2, 2)
    sampled, trained = table()
    train, test = fw.data.digits(classes=(0, 1), n_train=30, n_test=20)
    draws = fw.sample(fw.FullyConnected(widths=4), train, test, 0.05, chains=2, draws=10, warmup=10)
    assert json.loads(sampled["result"])["test_error"] == draws.errors(test.y).test_error
    assert "R-hat" in sampled["reason"]
    kept = fw.sweeps.draws("out", sampled["point_id"])
    np.testing.assert_array_equal(kept["posterior"]["mean"], draws.mean)
    assert kept.attrs["seed"] == 0
    assert json.loads(trained["result"])["networks"] == 2
    assert json.loads(trained["result"])["test_error"] > 0.0
    assert list(Path("out/checkpoints").iterdir()) == []
    assert trained["draws_path"] is None
