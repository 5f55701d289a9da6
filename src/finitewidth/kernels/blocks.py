"""Rectangles of pairs of points: what is done at once, so that it stays in cache."""

from __future__ import annotations

Block = tuple[int, int]  # points along rows and columns
Pairs = list[tuple[slice, slice]]


def slices(start: int, stop: int, step: int) -> list[slice]:
    """Consecutive slices of at most ``step``."""
    return [slice(a, min(a + step, stop)) for a in range(start, stop, step)]


def rectangle(rows: int, columns: int, block: Block) -> Pairs:
    """All pairs of two sets of points."""
    return [(i, j) for i in slices(0, rows, block[0]) for j in slices(0, columns, block[1])]


def triangle(count: int, block: Block) -> Pairs:
    """Blocks (i, j) that cover the upper triangle; the first block of each row starts on the diagonal."""
    return [(i, j) for i in slices(0, count, block[0]) for j in slices(i.start, count, block[1])]
