"""The extra `sweep`: a plan, in this process and in others. Its results stay in the folder `out`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import finitewidth as fw

if __name__ == "__main__":
    Path("plan.yaml").write_text(
        "data: digits\nclasses: [6, 9]\nn_train: 40\nn_test: 30\ngrid:\n  width: [10, 20]\n  temperature: [0.05, 0.5]\n"
    )
    status = fw.sweeps.run("plan.yaml", "out")
    assert (status.done, status.failed) == (4, 0)
    assert fw.sweeps.run("plan.yaml", "other", client="local", workers=2).done == 4
    assert len(list(fw.sweeps.rows("out"))) == 4
    if find_spec("xarray") is None:
        try:
            fw.sweeps.run({"data": "digits", "method": "sample", "grid": {"width": [5]}}, "draws")
        except fw.MissingExtraError as error:
            if "finitewidth[sample]" not in str(error):
                raise
        else:
            raise AssertionError("draws without the extra sample, and nothing was said")
