"""What goes wrong at the public boundary, said in three parts: what was given, what is wanted, what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_LONGEST = 1000  # characters of a part of a message; files may hold names of any length


class InputError(ValueError):
    """An input that cannot be used.

    The message is one line of three parts, so that a user can mend it without a traceback:
    ``given``; wanted: ``wanted``; ``remedy``.
    """

    def __init__(self, given: str, wanted: str, remedy: str) -> None:
        self.given, self.wanted, self.remedy = given, wanted, remedy
        super().__init__(f"{_legible(given)}; wanted: {_legible(wanted)}; {_legible(remedy)}")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), (self.given, self.wanted, self.remedy)  # so that workers can raise it in their parent


def _legible(text: str) -> str:
    """One line of bounded length that a terminal may be shown: names in files can hold its control sequences."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 200]} ... {text[-150:]}"
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def unexpected(error: Exception) -> str:
    """What an error says that was not written for people, and where it was raised."""
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:300]} ({os.path.basename(last.filename)}, line {last.lineno})"


class KeywordError(InputError, TypeError):
    """A keyword that a constructor does not have; a TypeError too, as for any other call with one."""


class MemoryCapError(InputError):
    """A computation whose estimated memory is above the cap; raised before anything is allocated."""


class TimeCapError(InputError):
    """A computation whose estimated duration is above the limit; raised before it is begun in earnest."""


class MissingExtraError(ImportError):
    """An optional library that this feature needs is not installed."""

    def __init__(self, library: str, extra: str, feature: str) -> None:
        super().__init__(
            f"{feature} needs {library}, which is not installed; wanted: the extra '{extra}'; "
            f"run: pip install 'finitewidth[{extra}]'"
        )


@contextmanager
def needed(library: str, extra: str, feature: str) -> Iterator[None]:
    """MissingExtraError where what is imported here is not installed."""
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(library, extra, feature) from error


class ScaleWarning(UserWarning):
    """Inputs, targets or order parameters far outside the range in which predictions were checked."""


class ConvergenceWarning(UserWarning):
    """A result that did not reach its stated tolerance; the result carries ``converged=False``."""
