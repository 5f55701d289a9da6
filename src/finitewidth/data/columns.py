"""The columns of a table: which are inputs, and how texts and missing values become numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finitewidth import checks
from finitewidth.checks import choice, nearest, shown
from finitewidth.checks.exceptions import InputError
from finitewidth.data.cells import TEXT, InputColumn, option, targets
from finitewidth.data.dataset import Dataset
from finitewidth.data.encoding import Label
from finitewidth.data.files import of_classes, refuse_above

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
        given = {"target": target, "columns": columns, "drop": drop, "encode": encode}
        names = {argument: None if value is None else _names(argument, value) for argument, value in given.items()}
        if impute is not None:
            choice("impute", impute, STRATEGIES)
        return cls(names["target"], names["columns"], names["drop"] or (), names["encode"], impute)

    def inputs(self, known: Sequence[str]) -> list[str]:
        """The input columns among all columns of the table; raises InputError for names that it does not have."""
        encode = () if self.encode in (None, (TEXT,)) else self.encode
        for argument, names in (("target", self.targets), ("columns", self.columns), ("drop", self.drop)):
            _refuse_unknown(argument, names or (), known)
        targets = self.targets or ()
        _refuse_both("target", targets, "columns", self.columns or ())
        _refuse_both("drop", self.drop, "target", targets)
        _refuse_both("drop", self.drop, "columns", self.columns or ())
        inputs = [name for name in self.columns or known if name not in {*targets, *self.drop}]
        if not inputs:
            raise InputError(
                f"no input among the columns {some(known)}", "at least one", "name fewer targets, drop less"
            )
        _refuse_unknown("encode", encode or (), inputs)
        return inputs

    def column(self, name: str, known: dict[str, str], max_bytes: float, all_text: bool = False) -> InputColumn:
        """An input column of that name, still empty; ``known`` holds the texts of all columns."""
        named = self.encode is not None and name in self.encode and self.encode != (TEXT,)
        encoded = named or self.encode == (TEXT,)
        return InputColumn(name, encoded, named or all_text, self.impute is not None, known, max_bytes)


@dataclass(frozen=True)
class Table:
    """Columns of inputs, and the cells of every target.

    place: what stands for a target and a row in messages.
    """

    inputs: list[InputColumn]
    targets: list[list[str]]
    place: Callable[[int, int], str]
    impute: str | None
    max_bytes: float

    def rows(self, task: str, classes: Sequence[Label] | None) -> Dataset:
        """The targets, with row numbers (rows, 1) to stand for the inputs while the data set is split."""
        y = targets(self.targets, task, self.place)
        x = np.arange(len(y), dtype=np.float64)[:, None]
        if y.dtype.kind != "f":
            return of_classes(x, y, classes)
        dataset = Dataset(x, y, classes=() if task == "regression" else None)
        if classes is None:
            return dataset
        if dataset.labels is None:
            raise InputError(
                f"classes = {shown(tuple(classes))} for a target of real numbers",
                "a target of class labels",
                "leave classes out, or say task='classification'",
            )
        return of_classes(x, dataset.labels, classes)

    def prepare(self, train: Dataset, test: Dataset) -> tuple[Dataset, Dataset]:
        """Two data sets of row numbers, with the inputs of these rows in their place.

        Missing values are filled and texts one-hot encoded by what scikit-learn's SimpleImputer and OneHotEncoder learn
        from the training part: a text that occurs in the test part alone is zero in every column of its encoding.
        Raises InputError for a column without any value in the training part, and for texts that name single rows.
        """
        columns, texts = zip(*[column.values() for column in self.inputs], strict=True)
        x = np.column_stack(columns)
        first, second = (x[part.flat[:, 0].astype(np.intp)] for part in (train, test))
        if self.impute is not None:
            self._fill(first, second, [found is not None for found in texts])
        names, first, second = self._encoded(first, second, texts)
        return train.with_inputs(first, input_names=names), test.with_inputs(second, input_names=names)

    def _fill(self, train: np.ndarray, test: np.ndarray, is_text: list[bool]) -> None:
        from sklearn.impute import SimpleImputer  # scikit-learn takes a second to import

        empty = [column.name for column, values in zip(self.inputs, train.T, strict=True) if np.isnan(values).all()]
        if empty:
            given = f"columns without any value in the training part: {some(empty)}"
            raise InputError(given, "a value to learn from", f"leave them out with {option('drop', empty[0])}")
        for places, strategy in ((np.flatnonzero(is_text), "most_frequent"), (~np.array(is_text), self.impute)):
            if train[:, places].size:
                imputer = SimpleImputer(strategy=strategy)
                with np.errstate(all="ignore"):  # of values too large to average: refused as infinite afterwards
                    train[:, places] = imputer.fit_transform(train[:, places])
                test[:, places] = imputer.transform(test[:, places])

    def _encoded(
        self, train: np.ndarray, test: np.ndarray, texts: Sequence[list[str] | None]
    ) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Names and values of the inputs, (rows, inputs) of each part."""
        names = [column.name for column in self.inputs]
        if not any(texts):
            return names, train, test
        from sklearn.preprocessing import OneHotEncoder

        counts = {place: len(np.unique(train[:, place])) for place, found in enumerate(texts) if found is not None}
        self._refuse_many(counts, len(train), len(test))
        every, firsts, seconds = list[str](), list[np.ndarray](), list[np.ndarray]()
        for place, (name, found) in enumerate(zip(names, texts, strict=True)):
            first, second = train[:, [place]], test[:, [place]]
            if found is None:
                every.append(name)
            else:
                encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
                first, second = encoder.fit_transform(first), encoder.transform(second)
                every += [f"{name}={found[int(code)]}" for code in encoder.categories_[0]]
            firsts.append(first)
            seconds.append(second)
        return every, np.hstack(firsts), np.hstack(seconds)

    def _refuse_many(self, counts: dict[int, int], n_train: int, n_test: int) -> None:
        most = max(counts, key=lambda place: counts[place])
        name = self.inputs[most].name
        remedy = f"leave it out with {option('drop', name)}"
        what = f"the column {name!r} with {counts[most]} different texts in {n_train} training rows"
        if counts[most] > max(FEW_TEXTS, n_train / 2):
            raise InputError(what, "texts that repeat, to be one-hot encoded", remedy)
        n_bytes = 8.0 * (n_train + n_test) * (len(self.inputs) + sum(counts.values()))
        refuse_above(n_bytes, self.max_bytes, f"one-hot encoding of {what}", remedy)


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


def some(names: Sequence[str]) -> str:
    """The first ten."""
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
