"""The cluster is away: one asks for all, and nobody is tried in vain."""

from __future__ import annotations

from pathlib import Path

from receiver.journal.schema import DEAD, STARTED, WAITING, jobs
from tests.support.api_server import Fault
from tests.support.dispatching import Bench, trigger
from tests.support.journals import delivery, rows, take
from tests.support.waiting import wait_until


def test_a_job_that_dies_without_asking_does_not_close_the_circuit(bench: Bench) -> None:
    take(bench.engine, delivery())
    dispatcher = bench.dispatcher(trigger("other"))
    bench.lose_cluster(dispatcher, seconds_ago=60)
    dispatcher.step()
    dispatcher.close()
    assert bench.job()["state"] == DEAD
    assert dispatcher.availability.is_away


def test_without_a_job_to_try_the_cluster_is_asked_by_a_call_that_changes_nothing(bench: Bench) -> None:
    dispatcher = bench.dispatcher(concurrency=1)
    bench.lose_cluster(dispatcher, seconds_ago=60)
    bench.server.away = True
    # To look again at once would be a loop without a pause.
    assert 0.5 <= dispatcher.step() <= 1.0
    bench.wait_idle()
    assert 0 < dispatcher.step() <= 1.0
    assert (dispatcher.availability.is_away, bench.server.listed) == (True, 1)
    bench.server.away = False
    bench.now += 2
    bench.rung.clear()
    assert dispatcher.step() <= 1.0
    assert bench.rung.wait(10)
    assert dispatcher.availability.seconds_to_probe() is None
    assert (bench.server.listed, bench.server.made) == (2, [])


def test_while_one_job_asks_the_plane_does_not_look_again_and_again(bench: Bench) -> None:
    take(bench.engine, delivery())
    inside, go_on = bench.held_post()
    dispatcher = bench.dispatcher()
    bench.lose_cluster(dispatcher, seconds_ago=60)
    assert 0.5 <= dispatcher.step() <= 1.0
    assert inside.wait(10)
    assert 0.5 <= dispatcher.step() <= 1.0
    bench.now += 2
    # Now it may ask once more, and there is no other job.
    assert 0.5 <= dispatcher.step() <= 1.0
    go_on.set()
    dispatcher.close()
    assert bench.job()["state"] == STARTED


def test_during_an_outage_one_job_asks_for_all_and_its_answer_lets_all_go(bench: Bench) -> None:
    take(bench.engine, *(delivery(str(number)) for number in range(5)))
    dispatcher = bench.dispatcher()
    bench.lose_cluster(dispatcher, seconds_ago=0)
    assert 0 < dispatcher.step() <= 1.0
    assert [row["lease"] for row in rows(bench.engine, jobs)] == [0] * 5
    bench.now += 2
    bench.rung.clear()
    dispatcher.step()
    assert bench.rung.wait(10)
    dispatcher.close()
    assert [row["lease"] for row in rows(bench.engine, jobs)] == [1, 0, 0, 0, 0]
    bench.run()
    assert len(bench.server.made) == 5


def test_jobs_that_were_claimed_before_the_cluster_went_away_are_given_back_untried(bench: Bench) -> None:
    for number in range(4):
        take(bench.engine, delivery(str(number)))
    bench.server.faults.append(Fault())
    bench.dispatcher(concurrency=1).step()
    wait_until(lambda: all(job["message"] for job in rows(bench.engine, jobs)), what="all to be given back")
    assert bench.server.made == []
    assert {(job["state"], job["attempts"]) for job in rows(bench.engine, jobs)} == {(WAITING, 0)}


def test_credentials_that_cannot_be_read_for_a_while_stop_nobody(bench: Bench, tmp_path: Path) -> None:
    take(bench.engine, delivery())
    kubeconfig = tmp_path / "kubeconfig"
    content = kubeconfig.read_text()
    kubeconfig.write_text("")
    bench.cluster.reconnect()
    kubeconfig.write_text(content)
    assert bench.run()["state"] == STARTED
