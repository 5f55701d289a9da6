# %% [markdown]
# # A sweep on a cluster
#
# The same plan runs in one process, on several, or through any Dask scheduler, and its results are the same digit
# for digit. Here the scheduler and two workers live on this machine; on SLURM only the cell that makes the cluster
# changes. Needs the extras `cluster`, `sweep` and `table`. Run it as `python examples/06_sweep_on_a_cluster.py
# [FOLDER]`.

# %%
import os
import sys
import tempfile
from pathlib import Path

import finitewidth as fw

PLAN = {
    "data": "digits",
    "n_train": 60,
    "n_test": 100,
    "activation": "erf",
    "grid": {
        "classes": [[0, 1], [6, 9]],
        "seed": [0, 1],
        "method": ["saddle", "infinite"],
        "width": [20, 80, 320],
        "temperature": [0.02, 0.1],
    },
}

# %% [markdown]
# On SLURM, with dask-jobqueue (docs/sweeps.md has the whole script and the job that runs it):
#
#     from dask_jobqueue import SLURMCluster
#
#     cluster = SLURMCluster(
#         queue="normal", cores=1, processes=1, memory="8GB", walltime="24:00:00",
#         job_script_prologue=["source $HOME/finitewidth/.venv/bin/activate", "export OMP_NUM_THREADS=1"],
#     )
#     cluster.adapt(minimum_jobs=1, maximum_jobs=50)
#
# Here:


# %%
def local_cluster():
    """A scheduler and two worker processes, of one thread each."""
    from distributed import LocalCluster

    return LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1")


# %% [markdown]
# Workers start as processes that import this file, so what starts them stands behind the usual guard. Killed at any
# moment, the same call goes on with what is missing.


# %%
def main(folder: Path) -> None:
    with local_cluster() as cluster:
        status = fw.sweeps.run(PLAN, folder / "on-a-cluster", client=cluster.scheduler_address)
    print(f"{status.done} of {status.planned} points through {status.client}")

    table = fw.sweeps.read(folder / "on-a-cluster")
    gain = table.pivot_table("test_error", ["temperature", "width"], "method").assign(
        gain=lambda errors: 1.0 - errors["saddle"] / errors["infinite"]
    )
    print(gain.round(4))

    alone = fw.sweeps.run(PLAN, folder / "in-one-process")
    assert alone.done == status.done == status.planned
    here = fw.sweeps.read(folder / "in-one-process").set_index("point_id").sort_index()
    there = table.set_index("point_id").sort_index()
    assert (here["test_error"] == there["test_error"]).all()
    print("in one process: the same, digit for digit")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
