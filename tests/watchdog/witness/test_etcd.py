"""The turn at a real etcd of three members: won by one, kept in time, whatever happens to one member."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from base.clock import now_ns
from base.core import NS_PER_MS
from base.secrets import Secret
from tests.watchdog.witness.etcd_cluster import EtcdCluster, SlowMember, make_certificates
from watchdog.witness.engine import TurnLostError, TurnTakenError, WitnessSilentError
from watchdog.witness.etcd import EtcdWitness
from watchdog.witness.etcd_client import EtcdClient, EtcdLogin, tls_context

LEASE_MS = 2_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    made = EtcdCluster(tmp_path_factory.mktemp("etcd"))
    yield made
    made.close()


Work = Callable[[EtcdWitness, EtcdWitness], Awaitable[None]]


def pair(endpoints: list[str], name: str, work: Work) -> None:
    """Run ``work`` with the witness of each node; ``name`` makes a cluster of its own (a key that no other test has)."""

    async def run() -> None:
        clients = [EtcdClient(endpoints), EtcdClient(endpoints)]
        a, b = (EtcdWitness(client, name, node, now_ns) for client, node in zip(clients, "ab", strict=True))
        try:
            await work(a, b)
        finally:
            await a.close()
            await b.close()

    asyncio.run(run())


async def taken(witness: EtcdWitness, lease_ms: int = 60_000) -> str:
    with pytest.raises(TurnTakenError) as error:
        await witness.take(1, lease_ms)
    return error.value.holder


def test_one_wins_the_other_is_told_who_and_gets_it_when_it_was_given_back(cluster: EtcdCluster) -> None:
    async def work(a: EtcdWitness, b: EtcdWitness) -> None:
        assert await a.look() == ""
        before = now_ns()
        until_ns = await a.take(1, 60_000)
        assert before + 59_000 * NS_PER_MS < until_ns < now_ns() + 60_000 * NS_PER_MS
        assert await taken(b) == "a"
        assert await b.look() == "a"
        later_ns = await a.take(1, 60_000)
        assert later_ns > until_ns
        assert await taken(b) == "a"
        await a.give_back(1)
        assert await b.look() == ""
        assert await b.take(2, 60_000) > now_ns()
        assert await taken(a) == "b"

    pair(cluster.endpoints, "plain", work)


def test_of_two_that_ask_at_the_same_moment_exactly_one_wins_every_time(cluster: EtcdCluster) -> None:
    async def work(a: EtcdWitness, b: EtcdWitness) -> None:
        for request in range(1, 16):
            results = await asyncio.gather(a.take(request, 60_000), b.take(request, 60_000), return_exceptions=True)
            won = [r for r in results if isinstance(r, int)]
            assert len(won) == 1, results
            assert all(isinstance(r, int | TurnTakenError) for r in results), results
            await a.give_back(request)
            await b.give_back(request)

    pair(cluster.endpoints, "race", work)


def test_a_turn_runs_out_by_itself_and_never_two_have_it(cluster: EtcdCluster) -> None:
    async def work(a: EtcdWitness, b: EtcdWitness) -> None:
        until_ns = await a.take(1, LEASE_MS)
        for request in range(1, 400):
            asked_ns = now_ns()
            try:
                await b.take(request, LEASE_MS)
            except TurnTakenError:
                await asyncio.sleep(0.02)
                continue
            assert until_ns < now_ns()
            assert asked_ns - until_ns < 3_000 * NS_PER_MS
            break
        else:
            raise AssertionError("it never ran out")
        with pytest.raises(TurnLostError):
            await a.take(1, LEASE_MS)

    pair(cluster.endpoints, "runs-out", work)


def test_an_earlier_run_of_the_same_node_keeps_its_turn_until_its_time(cluster: EtcdCluster) -> None:
    async def work(a: EtcdWitness, b: EtcdWitness) -> None:
        await a.take(1, 60_000)
        again = EtcdWitness(a._client, "restarted", "a", now_ns)
        assert await taken(again) == "a"

    pair(cluster.endpoints, "restarted", work)


@pytest.mark.parametrize("how", ["killed", "stopped", "slow"])
def test_one_bad_member_costs_no_turn(cluster: EtcdCluster, how: str) -> None:
    async def work(a: EtcdWitness, b: EtcdWitness) -> None:
        start_ns = now_ns()
        await a.take(1, 60_000)
        took_ms = (now_ns() - start_ns) // NS_PER_MS
        assert took_ms < 2_500  # the leader may be the one that is gone: an election takes 0.5 to 1 s here
        assert await taken(b) == "a"
        await a.give_back(1)

    async def slow(a: EtcdWitness, b: EtcdWitness) -> None:
        member = SlowMember(cluster.clients[0], 0.4)
        endpoint = await member.open()
        clients = [EtcdClient([endpoint, *cluster.endpoints[1:]]) for _ in "ab"]
        try:
            await work(*(EtcdWitness(c, "slow", node, now_ns) for c, node in zip(clients, "ab", strict=True)))
        finally:
            for client in clients:
                await client.close()
            await member.close()

    if how == "killed":
        cluster.kill(0)
    elif how == "stopped":
        cluster.stop(0)
    try:
        pair(cluster.endpoints, f"bad-{how}", slow if how == "slow" else work)
    finally:
        if how == "killed":
            cluster.start(0)
            cluster.await_health(0)
        elif how == "stopped":
            cluster.go_on(0)
            cluster.await_health(0)


def test_without_a_majority_the_witness_is_silent_and_says_why(cluster: EtcdCluster) -> None:
    async def work(a: EtcdWitness, b: EtcdWitness) -> None:
        until_ns = await a.take(1, 60_000)
        cluster.stop(0)
        cluster.stop(1)
        try:
            with pytest.raises(WitnessSilentError, match=r"127\.0\.0\.1"):
                await b.look()
            with pytest.raises(WitnessSilentError):
                await a.take(1, 60_000)
            assert until_ns > now_ns()
        finally:
            cluster.go_on(0)
            cluster.go_on(1)
        cluster.await_health(2)
        await a.take(1, 60_000)
        assert await taken(b) == "a"

    pair(cluster.endpoints, "no-majority", work)


def test_nobody_listens_there() -> None:
    async def work(a: EtcdWitness, b: EtcdWitness) -> None:
        with pytest.raises(WitnessSilentError, match=r"127\.0\.0\.1:9"):
            await a.look()

    pair(["http://127.0.0.1:9"], "nobody", work)


def test_something_else_listens_there() -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n[[[[[")
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(web, "127.0.0.1", 0)
        client = EtcdClient([f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"])
        with pytest.raises(WitnessSilentError, match="is this an etcd member"):
            await EtcdWitness(client, "web", "a", now_ns).look()
        await client.close()
        server.close()

    asyncio.run(run())


def test_tls_and_password(tmp_path: Path) -> None:
    tls = make_certificates(tmp_path / "tls")
    cluster = EtcdCluster(tmp_path, members=1, tls=tls)

    async def look(ca: str, login: EtcdLogin | None) -> str:
        client = EtcdClient(cluster.endpoints, tls_context(str(tls / ca), "", ""), login)
        try:
            witness = EtcdWitness(client, "secure", "a", now_ns)
            await witness.take(1, 60_000)
            cluster.kill(0)
            cluster.start(0)  # it has forgotten our token
            await asyncio.to_thread(cluster.await_health_with, 0, "brainctl:pass word")
            await witness.take(1, 60_000)
            await witness.give_back(1)
            return await witness.look()
        finally:
            await client.close()

    try:
        for args in (
            "user add root:r00t",
            "user add brainctl --new-user-password=pass~word",
            "role add turns",
            "role grant-permission turns readwrite /brainctl/secure/ --prefix",
            "user grant-role brainctl turns",
            "user grant-role root root",
            "auth enable",
        ):
            done = cluster.ctl(*(a.replace("~", " ") for a in args.split()))
            assert done.returncode == 0, done.stderr
        assert asyncio.run(look("ca.pem", EtcdLogin("brainctl", Secret("pass word")))) == ""
        for ca, login, words in (
            ("ca.pem", EtcdLogin("brainctl", Secret("wrong")), "authentication failed"),
            ("ca.pem", None, "user name is empty"),
            ("other.pem", EtcdLogin("brainctl", Secret("pass word")), "certificate verify failed"),
        ):
            with pytest.raises(WitnessSilentError, match=words) as error:
                asyncio.run(look(ca, login))
            assert "pass word" not in str(error.value)
    finally:
        cluster.close()


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(WitnessSilentError, match=r"nothing\.pem"):
        tls_context(str(tmp_path / "nothing.pem"), "", "")
