"""Every reader of files, given damaged, forged and invented ones."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import random
import sqlite3
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import finitewidth as fw
from finitewidth.data import images

from . import mutate
from .case import Target, command

SMALL = 2**22  # bytes and pixels: a reader that goes beyond has not looked


def chosen(rng: random.Random, options: dict[str, tuple[Any, ...]], share: float = 0.1) -> dict[str, Any]:
    """Some of the options, each with one of its values."""
    return {name: rng.choice(values) for name, values in options.items() if rng.random() < share}


def encoded(text: str) -> bytes:
    """UTF-8, and what is not: lone surrogates too."""
    return text.encode("utf-8", "surrogatepass")


# --- npz --------------------------------------------------------------------------------------------------------------


def npy_bytes(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npz_files(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3)), np.array([0, 1, 1, 0, 1, 0])
    arrays = {"x_train": x, "y_train": y, "x_test": x[:3], "y_test": y[:3]}
    np.savez(folder / "a.npz", **arrays)
    np.savez_compressed(folder / "b.npz", **arrays | {"x_train": x.reshape(6, 3, 1), "x_test": x[:3].reshape(3, 3, 1)})
    odd = [x.astype(complex), x.astype(object), x.astype(str), x[:0], x[0], np.full_like(x, np.nan), 1e300 * x]
    odd += [y.astype("M8[s]"), y.astype("S3"), np.array({}), x.astype("f2"), x > 0, np.zeros((3, 0)), y.reshape(6, 1)]
    return {
        "files": [(folder / name).read_bytes() for name in ("a.npz", "b.npz")],
        "members": {f"{name}.npy": npy_bytes(array) for name, array in arrays.items()},
        "odd": [npy_bytes(array) for array in odd],
    }


def read_npz(rng: random.Random, folder: Path, valid: Any) -> None:
    path = folder / "case.npz"
    kind = rng.randrange(5)
    if kind == 0:
        path.write_bytes(mutate.damaged(rng, rng.choice(valid["files"])))
    elif kind == 1:
        path.write_bytes(mutate.tail_damaged(rng, rng.choice(valid["files"])))
    elif kind == 2:
        path.write_bytes(rng.randbytes(rng.randrange(200)))
    else:
        members = dict(valid["members"])
        if kind == 3:
            members[rng.choice(list(members))] = rng.choice(valid["odd"])
        mutate.archive(rng, path, members)
    options = chosen(rng, {"n_train": (1, 3, 7, 0, -1, 2.5, "3"), "n_test": (1, 4, None)})
    fw.data.load(path, max_bytes=100.0 if rng.random() < 0.1 else SMALL, **options)


# --- csv --------------------------------------------------------------------------------------------------------------


def csv_texts(folder: Path) -> list[str]:
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{i % 2}.0,{i % 3},{c:.4f}" for i, (a, b, c) in enumerate(rng.random((12, 3)))]
    plain = "a,b,name,kind,y\n" + "\n".join(rows) + "\n"
    return [
        plain,
        plain.replace(",", ";"),
        plain.replace(",", "\t"),
        plain.replace("\n", "\r\n"),
        '"a","y"\n1,"2"\n3,4\n',
    ]


def read_csv(rng: random.Random, folder: Path, valid: Any) -> None:
    packed = rng.random() < 0.1
    path = folder / ("case.csv.gz" if packed else "case.csv")
    number = rng.randrange(len(valid))
    text = valid[number]
    kind = rng.randrange(7)
    if kind == 0:
        data = mutate.damaged(rng, text.encode(rng.choice(("utf-8", "utf-8-sig", "utf-16", "latin-1"))))
    elif kind == 6:
        data = text.replace(rng.choice("0123456789"), rng.choice("0123456789.,-e x")).encode()
    elif kind == 1:
        cells = [rng.choice((*mutate.WORDS, "1", "2.5", "y")) for _ in range(rng.randrange(40))]
        data = ("y,a\n" + rng.choice(",\n;").join(cells)).encode("utf-8", "surrogatepass")
    elif kind == 2:
        count = rng.choice((3, 300, 3000))
        data = (",".join([*(f"c{i}" for i in range(count)), "c0", "y"]) + "\n" + "1," * count + "1,1\n").encode()
    else:
        data = mutate.text_damaged(rng, text).encode("utf-8", "surrogatepass")
    if packed:
        data = mutate.damaged(rng, gzip.compress(data, 1)) if rng.random() < 0.5 else gzip.compress(data, 1)
    path.write_bytes(data)
    named = ("a", "kind", ("a", "b"), ["b", "kind", "name"], ("a", "a"), "zzz", "Unnamed: 0", (), 3, ("a", 1))
    options = {
        "columns": named,
        "drop": named,
        "encode": ("text",) * 10 + named,
        "impute": ("mean", "median", "most_frequent", "x", 1),
        "n_train": (1, 4, 11, 0),
        "n_test": (1, 3),
        "seed": (0, 1, -1, 2**70),
        "delimiter": (";", "\t", "tab", "", ",,", '"', "\x00", 3),
        "task": ("auto", "regression", "classification", "x"),
        "classes": (("a", "b"), (0, 1), ("0", "2"), ("a",), ()),
        "standardise": ("none", "global", "feature"),
        "max_bytes": (SMALL, 10.0),
    }
    given = {"n_train": 5, "max_bytes": SMALL}
    given |= {"delimiter": ",;\t,,"[number]} if rng.random() < 0.3 else {}
    given |= chosen(rng, options) if rng.random() < 0.5 else {}
    fw.data.csv(path, rng.choice(("y",) * 12 + ("name", "kind") * 3 + ("Y", "a" * 9000, "\x1b[2J")), **given)


# --- a folder of images -----------------------------------------------------------------------------------------------


def pictures(folder: Path) -> list[tuple[str, bytes]]:
    from PIL import Image

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    found = []
    for kind, mode in (
        *(("PNG", mode) for mode in ("RGB", "L", "P", "1", "LA", "RGBA", "I;16")),
        *(
            ("JPEG", "RGB"),
            ("BMP", "RGB"),
            ("GIF", "P"),
            ("TIFF", "RGB"),
            ("PPM", "RGB"),
            ("WEBP", "RGB"),
            ("EPS", "RGB"),
        ),
    ):
        stream = io.BytesIO()
        picture = Image.fromarray(pixels)
        picture = picture.convert(mode) if mode != "I;16" else Image.fromarray(pixels[..., 0].astype(np.uint16))
        picture.save(stream, kind, **({"progressive": True} if kind == "JPEG" else {}))
        found.append((kind.lower(), stream.getvalue()))
    return found


def read_images(rng: random.Random, folder: Path, valid: Any) -> None:
    root = folder / "pictures"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(2):
            (root / name / f"{number}.png").write_bytes(valid[0][1])
    kind, data = rng.choice(valid)
    victim = root / rng.choice("ab") / f"1.{rng.choice((kind, 'png', 'txt'))}"
    trick = rng.randrange(14)
    if trick < 9:
        victim.write_bytes(mutate.damaged(rng, data) if trick else data)
    elif trick == 9:
        victim.write_bytes(data[:16] + rng.randbytes(8) + data[24:])  # where a PNG has its size
    elif trick == 10:
        victim.unlink(missing_ok=True)
        os.mkfifo(victim)
    elif trick == 11:
        victim.unlink(missing_ok=True)
        victim.symlink_to(rng.choice(("/dev/zero", str(root), "nowhere", "/etc", victim.name)))
    elif trick == 12:
        victim.unlink(missing_ok=True)
        victim.mkdir()
    else:
        victim.write_bytes(b"\xff\xd8\xff" + b"\xff\xda" * 2000)
    options = {
        "side": (1, 3, 4, 0, 10**6),
        "grey": (True, False),
        "n_test": (1,),
        "classes": (("a", "b"), ("a", "c"), ()),
        "standardise": ("none", "feature"),
    }
    with mock.patch.object(images, "MAX_PIXELS", rng.choice((2**16, 2**16, 10))):
        fw.data.image_folder(root, **{"n_train": 3, "max_bytes": SMALL} | chosen(rng, options))


# --- YAML plans -------------------------------------------------------------------------------------------------------

PLANS = (
    "data: digits\nclasses: [0, 1]\nn_train: 30\nseed: 0\nnetwork: fc\ndepth: 2\nactivation: erf\nmethod: saddle\n"
    "closure: nested\nprecision: 1.0\ngrid:\n  width: [20, 40, 80]\n  temperature: [0.02, 5e-2, 0.1]\n",
    "data: x.npz\nkeep_draws: false\ngrid:\n  - method: [sample]\n    draws: [10, 20]\n"
    "  - widths: [[20, 30], [5, 6, 7]]\n    method: [saddle, infinite]\n",
    "data: digits\nnetwork: cnn\npatch: 2\nstride: 2x2\ninput_shape: [8, 8, 1]\n"
    "grid: {width: [3, 4], pool: [none, average]}\n",
    "data: a.csv\ntarget: y\ntask: regression\nmethod: train\noptimiser: sgd\nmomentum: 0.9\n"
    "grid: {seeds: [2], steps: [5, 6]}\n",
)
TRICKS = (
    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "data: !!python/object/apply:os.system [true]\n",
    "data: !!binary aGVsbG8=\n",
    "<<: {data: digits}\n",
    "data: digits\ngrid: {seed: [" + "[" * 3000 + "]}\n",
    "data: digits\nseed: 1" + ":1" * 5000 + "\ngrid: {width: [1]}\n",
    "data: digits\nseed: 0x" + "f" * 5000 + "\ngrid: {width: [1]}\n",
    "data: digits\ngrid: {seed: [" + "1," * 300 + "1], width: [" + "2," * 300 + "2], method: [saddle]}\n",
    "data: ~nobody-here/a.npz\ngrid: {width: [2]}\n",
    "%YAML 9.9\n---\ndata: digits\n...\n---\nx\n",
    "? [a]\n: b\n",
    "data: 2020-13-45\n",
    "\ufeffdata: digits\ngrid: {width: [1, 1.5, .inf, .nan, -3, 1e400, true, null, '2']}\n",
)


def read_plan(rng: random.Random, folder: Path, valid: Any) -> None:
    path = folder / "plan.yaml"
    kind = rng.randrange(8)
    text = rng.choice(PLANS)
    if kind == 0:
        data = mutate.damaged(rng, text.encode())
    elif kind == 1:
        data = mutate.text_damaged(rng, rng.choice(TRICKS)).encode("utf-8", "surrogatepass")
    elif kind == 2:
        data = mutate.json_text(rng, {"data": "digits", "grid": {"width": [2, 3], "temperature": [0.1]}})
        data = encoded(data)
    elif kind == 3:  # keys and values that may not go together
        from finitewidth.sweeps.plan_keys import KINDS

        keys = rng.sample(sorted(KINDS), rng.randrange(1, 6))
        lines = [f"{key}: {json.dumps(mutate.value(rng))}" for key in keys[1:]]
        data = "\n".join(["data: digits", *lines, f"grid: {{{keys[0]}: [{json.dumps(mutate.value(rng))}]}}"]).encode()
    else:
        data = mutate.text_damaged(rng, text).encode("utf-8", "surrogatepass")
    path.write_bytes(data)
    plan = fw.sweeps.Plan.of(path)
    for point in itertools.islice(plan.points(), 5):
        assert len(point.id) == 24


# --- the SQLite database of a sweep -----------------------------------------------------------------------------------


def database(folder: Path) -> dict[str, Any]:
    from finitewidth.sweeps.point import Point
    from finitewidth.sweeps.store import DATABASE, Outcome, Store

    store = Store(folder)
    store.begin("data: digits", "serial", 12, 0, 0)
    points = [Point.of({"data": "digits", "width": 10 * (i + 1), "temperature": 0.1}) for i in range(12)]
    now = "2026-01-01T00:00:00.000+00:00"
    for i, point in enumerate(points):
        result = {"width": 10, "test_error": 0.5, "converged": True, "message": "x" * 200} if i % 4 else None
        outcome = Outcome(point, "done" if result else "failed", result, "why", now, now, 0.1, "{}", "f", 1000)
        store.add(outcome)
    store.end("finished")
    store.close()
    return {"bytes": (folder / DATABASE).read_bytes(), "id": points[1].id, "name": DATABASE}


_COLUMNS = ("point_id", "config", "status", "result", "started_at", "finished_at", "seconds", "reason", "converged")
_COLUMNS += ("seed", "versions", "data_fingerprint", "peak_memory", "draws_path", "run")
_OF_RUNS = ("plan", "client", "planned", "before", "failed_before", "started_at", "finished_at", "outcome", "pid")
_SQL = (
    "DROP TABLE runs",
    "ALTER TABLE points ADD COLUMN more",
    "CREATE TRIGGER t AFTER INSERT ON points BEGIN DELETE FROM points; END",
    "ALTER TABLE points RENAME TO others; CREATE VIEW points AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL "
    "SELECT x + 1 FROM c) SELECT x FROM c",
    "PRAGMA user_version=7",
    "PRAGMA application_id=1",
    "DELETE FROM points",
    "DELETE FROM runs",
    "CREATE INDEX i ON points (abs(seconds))",
    "PRAGMA writable_schema=ON; UPDATE sqlite_master SET sql = 'CREATE TABLE points (x)' WHERE name = 'points'",
)


def odd_sql(rng: random.Random, path: Path, point: str) -> None:
    values = (None, 1, -1.5, "x", "{}", "[]", "null", '{"a": NaN}', "[" * 5000, b"\xff\xfe", "../../../etc", "\x1b[2J")
    values += (f"draws/{point}.npz", f"draws/../{point}", f"/tmp/{point}", 2**62, "2020-13-01", "2020-01-01T00:00:00")
    values += ('{"test_error": "x", "width": [1, [2]], "accuracy": 1e300}', '{"test_error": 1, "test_error_se": true}')
    db = sqlite3.connect(path, isolation_level=None)
    try:
        for _ in range(rng.choice((1, 1, 2, 4))):
            if rng.random() < 0.2:
                db.executescript(rng.choice(_SQL))
            elif rng.random() < 0.7:
                column = rng.choice(_COLUMNS)
                db.execute(
                    f"UPDATE points SET {column} = ? WHERE rowid = ?", (rng.choice(values), rng.randrange(1, 13))
                )
            else:
                db.execute(f"UPDATE runs SET {rng.choice(_OF_RUNS)} = ?", (rng.choice(values),))
    except sqlite3.Error:  # a constraint; what was changed before stays
        pass
    finally:
        db.close()


def read_database(rng: random.Random, folder: Path, valid: Any) -> None:
    from finitewidth.sweeps.store import Store

    path, data = folder / valid["name"], valid["bytes"]
    kind = rng.randrange(6)
    if kind < 2:
        path.write_bytes(data)
        odd_sql(rng, path, valid["id"])
    elif kind == 2:  # inside one page: its header and cell pointers
        page = 4096 * rng.randrange(len(data) // 4096)
        path.write_bytes(data[:page] + mutate.damaged(rng, data[page : page + 200])[:200] + data[page + 200 :])
    else:
        path.write_bytes(mutate.damaged(rng, data) if kind < 5 else mutate.damaged(rng, data[:200]) + data[200:])
    if rng.random() < 0.1:
        (folder / f"{path.name}{rng.choice(('-wal', '-journal', '-shm'))}").write_bytes(rng.randbytes(200))
    what = rng.randrange(5)
    if what == 0:
        fw.sweeps.status(folder).lines()
    elif what == 1:
        fw.sweeps.draws(folder, rng.choice((valid["id"], "x", "../x")))
    elif what == 2:
        store = Store(folder)
        store.statuses()
        store.close()
    elif what == 3 and rng.random() < 0.1:
        fw.sweeps.read(folder)
    else:
        list(fw.sweeps.rows(folder))


# --- draws ------------------------------------------------------------------------------------------------------------


def drawn(folder: Path) -> Path:
    import xarray

    from finitewidth.sweeps.draws_file import write_draws

    rng = np.random.default_rng(0)
    axes = ("chain", "draw", "point")
    groups = {
        "posterior": xarray.Dataset({"mean": (axes, rng.random((2, 6, 3))), "lp": (axes[:2], rng.random((2, 6)))}),
        "sample_stats": xarray.Dataset({"diverging": (axes[:2], np.zeros((2, 6), bool))}),
    }
    tree = xarray.DataTree.from_dict(groups)
    tree.attrs = {"network": "FullyConnected(3)", "seed": 0, "complete": 1}
    place = folder / "draws.npz"
    write_draws(place, tree)
    return place


def read_drawn(rng: random.Random, folder: Path, valid: Path) -> None:
    from finitewidth.sweeps.draws_file import read_draws

    place = folder / "draws.npz"
    kind = rng.randrange(4)
    if kind == 0:
        place.write_bytes(mutate.damaged(rng, valid.read_bytes()))
    else:
        with np.load(valid) as found:
            arrays = {f"{name}.npy": npy_bytes(array) for name, array in found.items()}
            meta = json.loads(str(found["meta"]))
        if kind == 1:
            arrays["meta.npy"] = npy_bytes(np.array(mutate.json_text(rng, meta)))
        elif kind == 2:
            name = rng.choice([name for name in arrays if name != "meta.npy"])
            other = rng.choice(("../a", "/", "a/b/c", "posterior", "posterior/mean/x", "", "chain", "meta"))
            arrays[f"{other}.npy"] = arrays.pop(name)
            meta["dims"][other] = rng.choice((["chain"], [], ["x", "x", "x"], "chain", [["a"]], None))
            arrays["meta.npy"] = npy_bytes(np.array(json.dumps(meta)))
        mutate.archive(rng, place, arrays)
    read_draws(place, max_bytes=SMALL)


# --- checkpoints ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def long_runs() -> Any:
    """A sampler's and a training's, neither gone on with."""
    from finitewidth.sampling.method import SamplingRun
    from finitewidth.training.method import TrainingRun

    rng = np.random.default_rng(0)
    train = fw.Dataset(rng.standard_normal((5, 2)), rng.standard_normal(5), classes=())
    network = fw.FullyConnected(widths=(3,))
    parts = {"network": network, "train": train, "test": train}
    sampling = SamplingRun(settings=fw.Sample(chains=2, draws=20, warmup=40), temperature=0.1, **parts)
    training = TrainingRun(settings=fw.Train(steps=20, seeds=2), **parts)
    return sampling, training


def checkpoints(folder: Path) -> list[dict[str, Any]]:
    """Whole checkpoints of both kinds: their meta data and arrays."""
    import jax

    from finitewidth.runs.checkpoints import RunFile, arrays_of
    from finitewidth.sampling.engine import BLOCKS

    sampling, training = long_runs()
    sampler, trainer = sampling.engine, training.engine

    def filled(tree: Any, *sizes: int, skip: int = 0) -> Any:
        return jax.tree.map(lambda leaf: np.ones((*sizes, *leaf.shape[skip:]), leaf.dtype), tree)

    states, tuners, records, sums = sampler.shapes
    parts = {"states": filled(states, 2), "tuners": filled(tuners, 2), "records": filled(records, 2, 20, skip=1)}
    arrays = arrays_of(parts | {"sums": filled(sums, 2, BLOCKS), "counts": np.ones(BLOCKS), "positions": ()})
    iterations = 10 * sum(stage.chunks for stage in sampler.stages)
    settings = sampler.sampler.before(sampler.stages[-1], sampler.sampler.settings(), {})
    meta = {"stage": len(sampler.stages), "chunk": 0, "iterations": iterations, "settings": settings, "scores": {}}
    found = [{"fingerprint": sampling.fingerprint(), "meta": meta, "arrays": arrays}]
    first = trainer.start()
    records = {name: np.ones((2, 21)) for name in first.records}
    arrays = arrays_of({"states": first.states, "records": records})
    found.append({"fingerprint": training.fingerprint(), "meta": {"steps": 20}, "arrays": arrays})
    for number, one in enumerate(found):
        file = RunFile(folder / f"{number}.npz", one["fingerprint"])
        file.write(one["meta"], one["arrays"])
        one["bytes"] = file.path.read_bytes()
    return found


def read_run(run: Any, path: Path) -> None:
    """What is done with the checkpoint of a run before it goes on."""
    from finitewidth.runs.checkpoints import RunFile

    file = RunFile(path, run.fingerprint())
    saved = file.read()
    if saved is not None:
        run.engine.from_file(file, *saved)


def read_checkpoint(rng: random.Random, folder: Path, valid: Any) -> None:
    from finitewidth.runs.checkpoints import RunFile, read_arrays

    which = rng.randrange(2)
    one, path = valid[which], folder / "run.npz"
    kind = rng.randrange(6)
    if kind == 0:
        path.write_bytes(mutate.damaged(rng, one["bytes"]))
    elif kind == 1:
        path.write_bytes(mutate.tail_damaged(rng, one["bytes"]))
    elif kind == 2:  # sound, but of another content
        arrays = dict(one["arrays"])
        name = rng.choice(list(arrays))
        array = arrays[name]
        arrays[name] = rng.choice(
            (array[:1], array.astype("f4"), array.astype(str), array[None], array * np.nan, np.zeros(0), array)
        )
        if rng.random() < 0.3:
            del arrays[rng.choice(list(arrays))]
        RunFile(path, one["fingerprint"]).write(mutate.other_json(rng, one["meta"]), arrays)
    elif kind == 3:  # meta data that are no JSON, or of another kind
        meta = {"fingerprint": one["fingerprint"], **one["meta"]}
        text = mutate.json_text(rng, meta)
        odd = rng.choice((np.array(text), np.array(text), np.array([text]), np.array(3.0), np.array(encoded(text))))
        np.savez(path, meta=odd, **one["arrays"])
    elif kind == 4:
        path.write_bytes(npy_bytes(np.ones(3)) if rng.random() < 0.5 else rng.randbytes(60))
    else:
        members = {f"{name}.npy": npy_bytes(array) for name, array in one["arrays"].items()}
        meta = json.dumps({"fingerprint": one["fingerprint"], **one["meta"]})
        mutate.archive(rng, path, members | {"meta.npy": npy_bytes(np.array(meta))})
    read_run(long_runs()[which], path)
    read_arrays(path)


# --- studies ----------------------------------------------------------------------------------------------------------


def study(folder: Path) -> dict[str, Any]:
    return {
        "format": 2,
        "study": "fully-connected",
        "scale": "small",
        "plan": {"classes": [6, 9], "n_train": 60},
        "train": "f" * 64,
        "test": "f" * 64,
        "question": "Does width matter?",
        "findings": {"claims": [{"statement": "wider is better", "verdict": "supported", "evidence": "5"}]},
        "seconds": 1.0,
    }


def read_study(rng: random.Random, folder: Path, valid: Any) -> None:
    from finitewidth.studies.study import FILE, held

    path = folder / FILE
    if rng.randrange(4) == 0:
        path.write_bytes(mutate.damaged(rng, json.dumps(valid).encode()))
    else:
        path.write_bytes(encoded(mutate.json_text(rng, valid)))
    assert isinstance(held(folder), dict)


# --- the command line -------------------------------------------------------------------------------------------------

_OPTIONS: dict[str, tuple[str, ...]] = {
    "--data": (
        "a.npz",
        "a.csv",
        "digits",
        "digts",
        "~nobody-here/x.npz",
        "",
        "openml:",
        "x.npz",
        "/dev/zero",
        "a" * 5000,
    ),
    "--network": ("fc", "cnn", "lcn", "FC", "", "os:system", "x:", ":", ".x:y", "a.b:c"),
    "--depth": ("1", "2", "0", "-1", "1e400", "9" * 5000, "1.5"),
    "--width": ("3", "3,50", "1e12", "0", "9" * 400, "x", "3,,4", ""),
    "--widths": ("3,4", "5", "x"),
    "--activation": ("erf", "relu", "tanh", "linear", "eval", "__import__('os')"),
    "--precision": ("1", "1,2", "1,2,3", "0", "inf", "1e-300", "nan"),
    "--temperature": ("0.1", "1e-12", "1e6", "0", "-1", "nan", "1e999", "0.1,0.2"),
    "--method": ("saddle", "integrate", "infinite", "sadle", "os:system", "json:JSONDecoder"),
    "--likelihood": ("os:system", "x", "", "..:"),
    "--draws": ("3", "0", "x"),
    "--closure": ("nested", "product", "x"),
    "--solver": ("auto", "exact", "krylov", "krylov:0.1", "krylov:", "auto:x", ":"),
    "--patch": ("1", "2x1", "1x", "9" * 5000, "0"),
    "--stride": ("1", "2", "x"),
    "--pool": ("none", "average", "max"),
    "--input-shape": ("3x1x1", "3x1", "2", "0x0"),
    "--offset-precision": ("1", "0", "x"),
    "--readout": ("standard", "mean-field", "x"),
    "--classes": ("0,1", "1", ",", "a,b"),
    "--target": ("y", "Y", "\x1b[2J"),
    "--task": ("regression", "classification", "x"),
    "--n-train": ("2", "3", "10", "0", "-1", "9" * 5000),
    "--n-test": ("1", "2"),
    "--seed": ("0", "9" * 5000, "-1", "1" * 18),
    "--standardise": ("none", "global", "x"),
    "--memory": ("1GB", "1kB", "8 parsecs", "-1", "nan", "1e400"),
    "--figure": ("x.exe", "nowhere/x.png", "~nobody-here/x.png"),
}


def command_files(folder: Path) -> dict[str, str]:
    x, y = np.random.default_rng(0).standard_normal((6, 3)), np.array([0, 1, 1, 0, 1, 0])
    np.savez(folder / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (folder / "a.csv").write_text("a,b,y\n" + "".join(f"{a},{b},{c}\n" for a, b, c in x))
    return {name: str(folder / name) for name in ("a.npz", "a.csv")}


def run_command(rng: random.Random, folder: Path, valid: Any) -> None:
    given = {"--data": "a.npz", "--width": "4"}
    given |= {name: rng.choice(values) for name, values in _OPTIONS.items() if rng.random() < 0.08}
    given["--data"] = valid.get(given["--data"], given["--data"])
    arguments = [part for pair in given.items() for part in pair] + (["--json"] if rng.random() < 0.5 else [])
    first = rng.choices(
        ("predict", "status", "report", "sweep", "study", "sample", "compare", "train", "x"), (20, *(1,) * 8)
    )[0]
    if first in ("status", "report"):
        arguments = [rng.choice((str(folder), "nowhere", "\x1b[2J", "~nobody-here", "a" * 5000, ""))]
    elif first == "sweep":
        arguments = [
            rng.choice(("nowhere.yaml", str(folder))),
            "--out",
            rng.choice((str(folder), "/proc/x", "a" * 5000)),
        ]
    elif first == "study":
        arguments = [rng.choice(("list", "fc-witdh", "../x")), "--scale", rng.choice(("small", "huge"))]
    elif first in ("sample", "compare"):  # a run would compile for seconds: one of its options cannot be
        arguments += rng.choice((["--chains", "0"], ["--sampler", "x"], ["--draws", "9" * 400], ["--warmup", "-1"]))
    elif first == "train":
        arguments += rng.choice((["--steps", "0"], ["--optimiser", "x"], ["--seeds", "9" * 400], ["--momentum", "2"]))
    if rng.random() < 0.1:
        arguments.insert(
            rng.randrange(len(arguments) + 1), rng.choice(("--", "--data", "--nonsense", "\x00", "-h" * 50))
        )
    command([first, *arguments])


READERS = (
    Target("npz", read_npz, npz_files),
    Target("csv", read_csv, csv_texts),
    Target("images", read_images, pictures),
    Target("plan", read_plan, cost=0.02),
    Target("database", read_database, database, cost=0.008),
    Target("draws", read_drawn, drawn, cost=0.02),
    Target("checkpoint", read_checkpoint, checkpoints),
    Target("study", read_study, study),
    Target("command line", run_command, command_files, kind="function", cost=0.06),
)
