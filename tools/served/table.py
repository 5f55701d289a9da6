"""The extra `table`: the results of a sweep as a pandas DataFrame. The folder of the sweep is the argument."""

from __future__ import annotations

import sys

import finitewidth as fw

table = fw.sweeps.read(sys.argv[1])
assert len(table) == 4
assert table.groupby("width").test_error.mean().gt(0.0).all()
