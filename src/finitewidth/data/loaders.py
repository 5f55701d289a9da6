"""One door to all data: a name or a path, as the command line gives it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from finitewidth.checks import choice
from finitewidth.checks import path as path_of
from finitewidth.checks.exceptions import InputError
from finitewidth.data.builtin import digits, mnist
from finitewidth.data.csv_file import csv
from finitewidth.data.files import PathLike, TrainTest, existing
from finitewidth.data.images import image_folder
from finitewidth.data.npz_file import npz
from finitewidth.data.openml_set import openml

__all__ = ["csv", "digits", "image_folder", "load", "mnist", "npz", "openml"]

BUILT_IN: dict[str, Callable[..., TrainTest]] = {"digits": digits, "mnist": mnist}
FILES: dict[str, Callable[..., TrainTest]] = {
    ".npz": npz,
    **dict.fromkeys((".csv", ".tsv", ".csv.gz", ".tsv.gz"), csv),
}
OPENML = "openml:"


def load(source: PathLike, **options: Any) -> TrainTest:
    """Training and test part of "digits", "mnist", "openml:NAME", an .npz, .csv or .tsv file, or an image folder.

    ``options`` go to the loader of that name; an option that is None counts as not given. A name of a
    built-in set goes before a file of that name; write ./digits for the file. Raises InputError for an
    unknown name (with the nearest known one), a missing file, and an option that this kind of data does not
    take.
    """
    given = {name: value for name, value in options.items() if value is not None}
    refuse_unknown(source, given)
    loader, argument = loader_of(source)
    return loader(*argument, **given)


def loader_of(source: PathLike) -> tuple[Callable[..., TrainTest], tuple[PathLike, ...]]:
    """The function that reads such data, and its first argument; raises InputError for data that are not there."""
    name = str(path_of("data", source)) if not isinstance(source, str) else source
    if name in BUILT_IN:
        return BUILT_IN[name], ()
    if name.startswith(OPENML):
        return openml, (name.removeprefix(OPENML),)
    path = path_of("data", name)
    if path.is_dir():
        return image_folder, (name,)
    ending = next((ending for ending in FILES if path.name.lower().endswith(ending)), None)
    if ending is not None:
        existing(path)
        return FILES[ending], (name,)
    if path.suffix or len(path.parts) > 1:
        existing(path)
        endings = ", ".join(FILES)
        raise InputError(f"file {name!r} of a kind that is not read", f"{endings}, or a folder of images", "convert it")
    choice("data", name, [*BUILT_IN, "openml:NAME", "FILE.npz", "FILE.csv", "FOLDER"])
    raise InputError(f"data = {name!r}", "a name or the path of a file", "put a real path in its place")


def refuse_unknown(source: PathLike, given: dict[str, Any]) -> None:
    """Raise InputError for options that such data do not take, and for a csv file without a target."""
    loader, _ = loader_of(source)
    source = str(source)
    parameters = list(inspect.signature(loader).parameters.values())
    wanted = [p.name for p in parameters if p.name not in ("path", "name")]
    for name in given:
        if name not in wanted:
            raise InputError(
                f"the option {name} for data {source!r}, which does not take it",
                "only " + ", ".join(wanted),
                f"leave {name} out",
            )
    if loader is csv and "target" not in given:
        raise InputError(
            f"csv file {source!r} without a target", "the name of its target column", "add target= (--target)"
        )
