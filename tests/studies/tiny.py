"""Plans of the studies that take next to no time."""

from __future__ import annotations

from dataclasses import replace

from finitewidth.studies import Study

TINY = {"n_train": 12, "n_test": 8, "widths": (4, 8), "sampled": (4,), "draws": 8, "warmup": 4, "chains": 2}


def tiny(study: Study) -> Study:
    """The same study, its small plan a tiny one."""
    options = TINY | {"networks": 5, "patch": 4, "stride": 4, "depths": study.small.depths[:2], "temperatures": (0.1,)}
    options |= {"n_target": 4, "correlations": (0.0,), "sampled_correlations": (0.5,)}
    return replace(study, small=replace(study.small, **options))
