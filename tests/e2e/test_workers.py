"""Workers that are killed, crash or hang: replaced, with their configuration and their part of the queue."""

import asyncio
import os
import signal
import time

import aiohttp
from e2e.harness import HOST, Hub, backend, config, get, ok, proxy, queued, running, until


async def test_worker_killed_loses_no_waiting_connection_and_is_replaced_within_a_second(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port))
        await one.ready()
        (worker,) = one.workers()
        os.kill(worker, signal.SIGSTOP)
        waiting = [asyncio.create_task(get(one.http)) for _ in range(30)]
        await until(lambda: queued(one.http) == 30)
        os.kill(worker, signal.SIGKILL)
        async with asyncio.timeout(1):
            answers = await asyncio.gather(*waiting)
        (successor,) = one.workers()
        _, metrics = await one.ask("/metrics")

    assert all(ok(answer) for answer in answers)
    assert successor != worker
    assert "sluice_worker_restarts_total 1.0" in metrics
    assert "sluice_workers 1.0" in metrics


async def test_worker_killed_while_the_controller_is_away_comes_back_with_its_configuration(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "2") as one:
        hub.publish(config(port))
        await one.ready()
        await hub.stop()
        before = one.workers()
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        await until(lambda: len(set(one.workers()) - set(before)) == 2)
        answers = await asyncio.gather(*(get(one.http) for _ in range(10)))
        await hub.start()
        hub.publish(config(port, host="other.example.com"))
        await hub.acknowledged()
        moved = await get(one.http, host="other.example.com")

    assert all(ok(answer) for answer in answers)
    assert ok(moved)


async def test_worker_that_hangs_over_a_configuration_is_replaced(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "2") as one:
        hub.publish(config(port))
        await one.ready()
        hanging, steady = one.workers()
        os.kill(hanging, signal.SIGSTOP)
        hub.publish(config(port, host="other.example.com"))
        await hub.acknowledged(20)
        after = one.workers()
        answers = await asyncio.gather(*(get(one.http, host="other.example.com") for _ in range(10)))

    assert steady in after
    assert hanging not in after
    assert all(ok(answer) for answer in answers)


async def test_worker_that_hangs_without_a_reason_is_replaced(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "2") as one:
        hub.publish(config(port))
        await one.ready()
        hanging, steady = one.workers()
        os.kill(hanging, signal.SIGSTOP)
        await until(lambda: hanging not in one.workers() and len(one.workers()) == 2, 20)
        after = one.workers()
        answers = await asyncio.gather(*(get(one.http) for _ in range(20)))

    assert steady in after
    assert all(ok(answer) for answer in answers)


async def test_worker_killed_resets_no_counter_and_drops_its_gauges(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port))
        await one.ready()
        for _ in range(3):
            await get(one.http)
        await one.ask("/metrics")
        (worker,) = one.workers()
        os.kill(worker, signal.SIGKILL)
        await until(lambda: one.workers() not in ([], [worker]))
        await get(one.http)
        _, metrics = await one.ask("/metrics")

    line = 'sluice_http_requests_total{code="200",method="GET",route="wsroute/default/shop/all",service="default/shop:80"} 4.0'
    assert line in metrics


async def test_sockets_of_a_killed_worker_are_counted_and_those_of_an_orderly_end_are_not(hub: Hub) -> None:
    """The worker cannot say it: the supervisor knows what it had."""
    by = 'sluice_ws_closes_total{by="proxy:worker_lost",code="1006",route="wsroute/default/shop/all"}'
    async with (
        backend() as port,
        proxy(hub, "--workers", "1", "--drain-time", "0", stderr=asyncio.subprocess.PIPE) as one,
        aiohttp.ClientSession() as session,
    ):
        hub.publish(config(port))
        await one.ready()
        (worker,) = one.workers()
        url, headers = f"http://127.0.0.1:{one.http}/ws", {"Host": HOST}
        sockets = [await session.ws_connect(url, headers=headers) for _ in range(3)]
        _, before = await one.ask("/metrics")
        os.kill(worker, signal.SIGKILL)
        await until(lambda: one.workers() not in ([], [worker]))
        sockets.append(await session.ws_connect(url, headers=headers))
        _, after = await one.ask("/metrics")
        one.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            _, said = await one.process.communicate()

    assert by not in before
    assert f"{by} 3.0\n" in after
    assert said.count(b"sockets=3 replaced in 0 s") == 1
    assert said.count(b"replaced in") == 1


async def test_crashing_worker_has_its_queue_served_by_a_neighbour(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "2") as one:
        hub.publish(config(port))
        await one.ready()
        steady, victim = one.workers()
        for _ in range(4):  # from the fourth on, successors are half a second away
            os.kill(victim, signal.SIGKILL)
            await until(lambda gone=victim: gone not in one.workers())
            await until(lambda: len(one.workers()) == 2)
            (victim,) = set(one.workers()) - {steady}
        for _ in range(5):
            os.kill(victim, signal.SIGKILL)
            async with asyncio.timeout(5):
                answers = await asyncio.gather(*(get(one.http) for _ in range(20)))
            alone = one.workers()
            if alone == [steady]:
                break
            (victim,) = set(alone) - {steady}  # the machine was slow: the successor was there before the last answer

    assert all(ok(answer) for answer in answers)
    assert alone == [steady]


async def test_supervisor_killed_takes_its_workers_along(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "3") as one:
        hub.publish(config(port))
        await one.ready()
        workers = one.workers()
        one.process.kill()
        await until(lambda: not running(workers), 5)

    assert len(workers) == 3


async def test_worker_killed_again_and_again_is_back_within_a_second_each_time(hub: Hub) -> None:
    async with backend() as port, proxy(hub, "--workers", "1") as one:
        hub.publish(config(port))
        await one.ready()
        waits = []
        for _ in range(6):
            (worker,) = one.workers()
            os.kill(worker, signal.SIGKILL)
            start = time.monotonic()
            assert ok(await get(one.http))
            waits.append(time.monotonic() - start)
            await until(lambda: len(one.workers()) == 1)

    assert max(waits) < 1.0
