"""A backfill on real worker processes, the operating system's and Dask's, some of which are killed."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace

import pytest

from indexer.demo.world import manifest_text
from indexer.errors import GaplessError
from indexer.settings import Settings
from indexer.sync.history import workers
from indexer.sync.history.backfill import Selection
from tests.integration.sync.rig import rig
from tests.processes import spawned_by

PIECE = 17


@pytest.fixture
def one(shared_history, migrated_url, tmp_path):
    url = shared_history.world.w3.provider.endpoint_uri
    with rig(manifest_text(shared_history.world), tmp_path, url, migrated_url) as made:
        follower = made.follower()
        assert follower.prepare()
        follower.close()
        yield made


@pytest.fixture
def job(one, migrated_url):
    return workers.WorkerJob(migrated_url, one.chain, Settings(), Selection())


@pytest.fixture
def alone(one, job, make_database, shared_history, tmp_path):
    """The rows that a backfill in one process makes."""
    url = shared_history.world.w3.provider.endpoint_uri
    text = manifest_text(shared_history.world)
    with make_database() as database, rig(text, tmp_path, url, database) as other:
        follower = other.follower()
        follower.prepare()
        follower.close()
        other.backfill().run()
        return other.rows()


def remaining(one):
    return one.backfill().remaining()


@pytest.mark.promise("R-02")
def test_processes_fill_it_and_one_that_is_killed_loses_nothing(one, job, alone):
    killed = []

    def kill_one(_progress):
        if not killed:
            child = spawned_by()[0]
            killed.append(child.pid)
            child.kill()

    work = one.backfill(on_progress=kill_one)
    workers.run_in_processes(work, job, 2, piece=PIECE)
    assert killed
    assert remaining(one) == 0
    assert one.rows() == alone


def test_dask_workers_fill_it_and_one_that_is_killed_loses_nothing(one, job, alone):
    distributed = pytest.importorskip("distributed")
    killed = []
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as cluster:

        def kill_one(_progress):
            if not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        work = one.backfill(on_progress=kill_one)
        with workers.dask_executor(cluster.scheduler_address) as (executor, threads):
            assert threads == 2
            workers.run_with(executor, work, job, workers=threads, piece=PIECE)
            if sys.version_info < (3, 11, 9):  # there it would lock the interpreter now and then
                with distributed.Client(cluster.scheduler_address) as client:
                    profiled = client.run(lambda dask_worker: "profile" in dask_worker.periodic_callbacks)
                assert set(profiled.values()) == {False}
    assert killed
    assert remaining(one) == 0
    assert one.rows() == alone


@pytest.mark.long
def test_a_stop_ends_it_and_it_goes_on_later(one, job, alone):
    work = one.backfill()
    work.on_progress = lambda _: work.stop.set()
    workers.run_in_processes(work, job, 2, piece=PIECE)
    assert remaining(one) > 0
    workers.run_in_processes(one.backfill(), job, 2)
    assert remaining(one) == 0
    assert one.rows() == alone


def test_a_cluster_that_is_not_there_is_told():
    pytest.importorskip("distributed")
    with (
        pytest.raises(GaplessError, match=r"no Dask scheduler at tcp://127"),
        workers.dask_executor("tcp://127.0.0.1:9"),
    ):
        pass


def test_a_job_shows_no_secret(job):
    assert job.database_url not in repr(job)


def test_a_worker_of_another_version_is_told(job):
    with pytest.raises(GaplessError, match=r"has Gapless .+, the backfill is of 0\.0\.1") as caught:
        workers.fill(replace(job, version="0.0.1"))
    assert "install the same version" in caught.value.hint


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("tcp://10.0.0.5:8786", True),
        ("10.0.0.5:8786", True),
        ("scheduler:8786", True),
        ("ws://scheduler:8786", True),
        ("tls://10.0.0.5:8786", False),
        ("tcp://127.0.0.1:8786", False),
        ("localhost:8786", False),
    ],
)
def test_secrets_that_would_leave_the_machine_in_clear_are_warned_of(address, shown):
    assert workers.shows_secrets(address) is shown
