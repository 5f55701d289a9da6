"""The columns of a table: which are inputs, and how texts and missing values become numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth import checks
from finitewidth.checks import choice, nearest, shown
from finitewidth.checks.exceptions import InputError
from finitewidth.data.dataset import Dataset
from finitewidth.data.files import refuse_above
from finitewidth.data.tables import TEXT, option, some

STRATEGIES = ("mean", "median", "most_frequent")
FEW_TEXTS = 10  # more different texts than this, and than half the rows, are names of single rows


@dataclass(frozen=True)
class Selection:
    """What a user says about the columns; ``targets`` and ``columns`` may be None: those of the source, all others.

    encode: names of columns, or "text"; impute: one of STRATEGIES.
    """

    targets: tuple[str, ...] | None
    columns: tuple[str, ...] | None
    drop: tuple[str, ...]
    encode: tuple[str, ...] | None
    impute: str | None

    @classmethod
    def of(cls, target: Any, columns: Any, drop: Any, encode: Any, impute: Any) -> Selection:
        """From the arguments of a reader, each a name or several; raises InputError."""
        targets, wanted, dropped, encoded = (
            None if value is None else _names(name, value)
            for name, value in (("target", target), ("columns", columns), ("drop", drop), ("encode", encode))
        )
        if impute is not None:
            choice("impute", impute, STRATEGIES)
        return cls(targets, wanted, dropped or (), encoded, impute)

    def inputs(self, known: Sequence[str]) -> list[str]:
        """The input columns among all columns of the table; raises InputError for names that it does not have."""
        encode = () if self.encode == (TEXT,) else self.encode
        given = {"target": self.targets, "columns": self.columns, "drop": self.drop, "encode": encode}
        for argument, names in given.items():
            _refuse_unknown(argument, names or (), known)
        targets = self.targets or ()
        _refuse_both("target", targets, "columns", self.columns or ())
        _refuse_both("drop", self.drop, "target", targets)
        _refuse_both("drop", self.drop, "columns", self.columns or ())
        others = {*targets, *self.drop}
        inputs = [name for name in self.columns or known if name not in others]
        if not inputs:
            raise InputError(
                f"no input among the columns {some(known)}", "at least one", "name fewer targets, drop less"
            )
        _refuse_unknown("encode", encode or (), inputs)
        return inputs

    def is_encoded(self, name: str) -> bool:
        """Whether a column that holds texts is one-hot encoded."""
        return self.encode is not None and (self.encode == (TEXT,) or name in self.encode)

    def is_named_text(self, name: str) -> bool:
        """Whether a column is one-hot encoded whatever it holds."""
        return self.encode is not None and self.encode != (TEXT,) and name in self.encode


@dataclass(frozen=True)
class Columns:
    """Input columns as a table has them.

    x: (rows, columns), NaN where a value is missing; in a column of texts the place of the text among ``texts``.
    texts: the different texts of such a column, sorted, by its place.
    """

    names: list[str]
    x: np.ndarray
    texts: dict[int, list[str]]
    impute: str | None

    def rows(self) -> np.ndarray:
        """Row numbers (rows, 1), to stand for the inputs while a data set is split."""
        return np.arange(len(self.x), dtype=np.float64)[:, None]

    def prepare(self, train: Dataset, test: Dataset, max_bytes: float) -> tuple[Dataset, Dataset]:
        """Two data sets of row numbers, with the inputs of these rows in their place.

        Missing values are filled and texts one-hot encoded by what scikit-learn's SimpleImputer and OneHotEncoder learn
        from the training part: a text that occurs in the test part alone is zero in every column of its encoding.
        Raises InputError for a column without any value in the training part, and for texts that name single rows.
        """
        first, second = (self.x[part.flat[:, 0].astype(np.intp)] for part in (train, test))
        if self.impute is not None:
            first, second = self._filled(first, second)
        names, first, second = self._encoded(first, second, max_bytes)
        inputs = tuple(names)
        return train.with_inputs(first, input_names=inputs), test.with_inputs(second, input_names=inputs)

    def _filled(self, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.impute import SimpleImputer  # scikit-learn takes a second to import

        empty = [name for name, column in zip(self.names, train.T, strict=True) if np.isnan(column).all()]
        if empty:
            given = f"columns without any value in the training part: {some(empty)}"
            raise InputError(given, "a value to learn from", f"leave them out with {option('drop', empty[0])}")
        texts, numbers = sorted(self.texts), [i for i in range(len(self.names)) if i not in self.texts]
        for places, strategy in ((texts, "most_frequent"), (numbers, self.impute)):
            if places:
                imputer = SimpleImputer(strategy=strategy)
                with np.errstate(all="ignore"):  # of values too large to average: refused as infinite afterwards
                    train[:, places] = imputer.fit_transform(train[:, places])
                test[:, places] = imputer.transform(test[:, places])
        return train, test

    def _encoded(
        self, train: np.ndarray, test: np.ndarray, max_bytes: float
    ) -> tuple[list[str], np.ndarray, np.ndarray]:
        if not self.texts:
            return self.names, train, test
        from sklearn.preprocessing import OneHotEncoder

        self._refuse_many(train, len(train) + len(test), max_bytes)
        names, firsts, seconds = list[str](), list[np.ndarray](), list[np.ndarray]()
        for place, name in enumerate(self.names):
            first, second = train[:, [place]], test[:, [place]]
            if place in self.texts:
                encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
                first, second = encoder.fit_transform(first), encoder.transform(second)
                names += [f"{name}={self.texts[place][int(code)]}" for code in encoder.categories_[0]]
            else:
                names.append(name)
            firsts.append(first)
            seconds.append(second)
        return names, np.hstack(firsts), np.hstack(seconds)

    def _refuse_many(self, train: np.ndarray, n_rows: int, max_bytes: float) -> None:
        counts = {place: len(np.unique(train[:, place])) for place in self.texts}
        most = max(counts, key=lambda place: counts[place])
        remedy = f"leave it out with {option('drop', self.names[most])}"
        what = f"the column {self.names[most]!r} with {counts[most]} different texts in {len(train)} training rows"
        if counts[most] > max(FEW_TEXTS, len(train) / 2):
            raise InputError(what, "texts that repeat, to be one-hot encoded", remedy)
        n_columns = len(self.names) + sum(counts.values())
        refuse_above(8.0 * n_rows * n_columns, max_bytes, f"one-hot encoding of {what}", remedy)


def sorted_texts(codes: np.ndarray, texts: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Places in ``texts`` (NaN: missing) as places in the sorted texts, and these."""
    order = sorted(range(len(texts)), key=texts.__getitem__)
    place = np.empty(len(texts) + 1)
    place[order], place[-1] = np.arange(len(texts)), np.nan
    found = np.where(np.isnan(codes), len(texts), codes).astype(np.intp)
    return place[found], [texts[i] for i in order]


def _names(argument: str, value: Any) -> tuple[str, ...]:
    names = tuple(checks.one_or_more(argument, value))
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"{argument} = {shown(value)}", "names of columns", f"write {argument}=('a', 'b'), say")
    if len(set(names)) < len(names):
        raise InputError(f"{argument} = {shown(value)}", "every column once", "name it once")
    return names


def _refuse_unknown(argument: str, names: Iterable[str], known: Sequence[str]) -> None:
    there = set(known)
    for name in names:
        if name not in there:
            near = nearest(name, known)
            raise InputError(
                f"{argument} = {shown(name)}",
                "one of the columns " + some(known),
                f"did you mean {near!r}?" if near else "check the name and the delimiter",
            )


def _refuse_both(one: str, names: Sequence[str], other: str, others: Sequence[str]) -> None:
    for name in names:
        if name in others:
            raise InputError(f"column {shown(name)} in {one} and in {other}", "one of them", f"take it out of {other}")
