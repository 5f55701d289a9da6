"""The extra `cluster`: a kernel on Dask workers, and a job script for SLURM."""

from __future__ import annotations

import numpy as np
from dask_jobqueue import SLURMCluster
from distributed import Client, LocalCluster

import finitewidth as fw

if __name__ == "__main__":
    train, test = fw.data.digits(classes=(6, 9), n_train=40, n_test=30)
    network = fw.FullyConnected(widths=(20,))
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        solver = fw.Solver("krylov", client=client)
        remote = fw.learning_curve(network, train, test, widths=[20], temperature=0.05, method=fw.Saddle(solver=solver))
    local = fw.learning_curve(network, train, test, widths=[20], temperature=0.05, method=fw.Saddle(solver="krylov"))
    np.testing.assert_allclose(remote.column("test_error"), local.column("test_error"), rtol=1e-9)
    with SLURMCluster(cores=1, memory="1GB", scheduler_options={"dashboard_address": None, "port": 0}) as slurm:
        assert "#SBATCH" in slurm.job_script()
