"""Many proxies in one process, one after the other and at once: nothing leaks, nothing of one counts for another."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from codex_network_proxy import NetworkDecision, NetworkPolicyRequest, NetworkProxy
from tests.kit.leaks import holdings
from tests.kit.origins import HttpOrigin, echo
from tests.kit.tls import TestAuthority

from .library_kit import answer, builder, connect, get, reasons, tunnel, until

CYCLES = 100
HOOKED = "hooked.test"
HOOK = {
    "host": HOOKED,
    "match": {"methods": ["GET"], "path_prefixes": ["/"]},
    "actions": {"inject_request_headers": [{"name": "authorization", "secret_env_var": "TOKEN"}]},
}


async def silent(request: NetworkPolicyRequest) -> NetworkDecision:
    return NetworkDecision.deny("no")


def test_a_hundred_starts_and_stops_inside_a_running_loop_leave_nothing(tmp_path: Path, origin: HttpOrigin) -> None:
    """Each of them serves a tunnel; some of them load the engine, and some are ended with a client inside."""

    async def cycle(number: int) -> None:
        async with builder(tmp_path).policy_decider(silent).start() as proxy:
            assert (await tunnel(proxy, "other.test", origin.port)).status == 403
            if number % 10 == 0:
                assert (await get(proxy, "allowed.test", origin.port)).status == 200
            if number % 10 == 5:
                _, writer = await connect(proxy.http_address)
                writer.close()

    async def main() -> None:
        await cycle(0)
        before = holdings()
        for number in range(CYCLES):
            await cycle(number)
        await until(lambda: not holdings().beyond(before))

    asyncio.run(main())


def test_a_hundred_starts_and_stops_without_a_loop_leave_nothing(tmp_path: Path) -> None:
    made = builder(tmp_path).policy_decider(silent)
    with made.start_sync():
        pass
    before = holdings()
    for _ in range(CYCLES):
        with made.start_sync():
            pass
    assert not holdings().beyond(before)


class Neighbour:
    """A proxy with an authority, a secret, an origin and roots of its own."""

    def __init__(self, folder: Path, allowed: str, secret: str) -> None:
        self.home = folder
        folder.mkdir()
        self.trusts = TestAuthority(folder)
        self.secret = secret
        self.asked: list[str] = []
        self.made = builder(folder, allowed_domains=[allowed, HOOKED], mitm=True, mitm_hooks=[HOOK])
        environ = {"HOME": str(folder), "TOKEN": secret, "SSL_CERT_FILE": str(self.trusts.bundle)}
        self.made.environ(environ).policy_decider(self.decide)

    async def decide(self, request: NetworkPolicyRequest) -> NetworkDecision:
        self.asked.append(request.host)
        return NetworkDecision.deny(f"says {self.secret[-1]}")

    def origin(self) -> HttpOrigin:
        return HttpOrigin(f"of {self.home.name}", {"echo": echo}, tls=self.trusts.server_context(HOOKED))

    def client_context(self) -> ssl.SSLContext:
        """What a client of this proxy trusts: its authority and nothing else."""
        return ssl.create_default_context(cafile=str(self.home / "proxy" / "ca.pem"))


async def ask_inside(proxy: NetworkProxy, port: int, trust: ssl.SSLContext) -> tuple[int, str]:
    """A request to the hooked host through an intercepted tunnel: status, and what the origin got."""
    reader, writer = await connect(proxy.http_address)
    target = f"{HOOKED}:{port}"
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert (await answer(reader)).status == 200
    await writer.start_tls(trust, server_hostname=HOOKED)
    writer.write(f"GET /echo HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    got = await answer(reader)
    writer.transport.abort()
    return got.status, got.body.decode()


def both(folder: Path, scenario: Callable[[Neighbour, NetworkProxy, Neighbour, NetworkProxy], Awaitable[None]]) -> None:
    one = Neighbour(folder / "one", "allowed.test", "canary-1")
    two = Neighbour(folder / "two", "other.test", "canary-2")

    async def main() -> None:
        async with one.made.start() as first, two.made.start() as second:
            await scenario(one, first, two, second)

    asyncio.run(main())


def test_two_policies_do_not_mix(tmp_path: Path, origin: HttpOrigin) -> None:
    async def scenario(one: Neighbour, first: NetworkProxy, two: Neighbour, second: NetworkProxy) -> None:
        for ask in (get, tunnel, get, tunnel):
            assert (await ask(first, "allowed.test", origin.port)).status == 200
            assert (await ask(second, "other.test", origin.port)).status == 200
            assert (await ask(first, "other.test", origin.port)).status == 403
            assert (await ask(second, "allowed.test", origin.port)).status == 403
        assert set(reasons(first)) == {("other.test", "says 1")}
        assert set(reasons(second)) == {("allowed.test", "says 2")}
        assert (set(one.asked), set(two.asked)) == ({"other.test"}, {"allowed.test"})

    both(tmp_path, scenario)
    first, second = ((tmp_path / name / "log" / "network-proxy.jsonl").read_text() for name in ("one", "two"))
    assert "says 1" in first
    assert "says 2" not in first
    assert "says 2" in second


def test_two_authorities_secrets_and_sets_of_roots_do_not_mix(tmp_path: Path) -> None:
    async def scenario(one: Neighbour, first: NetworkProxy, two: Neighbour, second: NetworkProxy) -> None:
        with one.origin() as mine, two.origin() as yours:
            for _ in range(2):
                status, seen = await ask_inside(first, mine.port, one.client_context())
                assert (status, "canary-1" in seen, "canary-2" in seen) == (200, True, False)
                status, seen = await ask_inside(second, yours.port, two.client_context())
                assert (status, "canary-1" in seen, "canary-2" in seen) == (200, False, True)
            with pytest.raises(ssl.SSLCertVerificationError):
                await ask_inside(first, mine.port, two.client_context())
            assert (await ask_inside(first, yours.port, one.client_context()))[0] == 502, "not a root of its own"
            assert len(mine.requests) == len(yours.requests) == 2

    both(tmp_path, scenario)


def test_one_ends_and_the_other_goes_on(tmp_path: Path, origin: HttpOrigin) -> None:
    async def scenario(one: Neighbour, first: NetworkProxy, two: Neighbour, second: NetworkProxy) -> None:
        assert (await get(second, "other.test", origin.port)).status == 200
        await first.shutdown()
        with pytest.raises(ConnectionRefusedError):
            await get(first, "allowed.test", origin.port)
        assert (await get(second, "other.test", origin.port)).status == 200
        async with builder(tmp_path / "three").start() as third:
            assert (await get(third, "allowed.test", origin.port)).status == 200
        assert (await get(second, "other.test", origin.port)).status == 200

    both(tmp_path, scenario)


def test_proxies_of_two_event_loops_ask_each_in_its_own(tmp_path: Path) -> None:
    """All of them run in one thread, whoever started them."""
    where: dict[str, set[str]] = {"one": set(), "two": set()}
    together = threading.Barrier(2, timeout=10)
    ours: set[str] = set()

    async def main(name: str) -> None:
        async def decider(request: NetworkPolicyRequest) -> NetworkDecision:
            where[name].add(threading.current_thread().name)
            return NetworkDecision.deny()

        async with builder(tmp_path / name).policy_decider(decider).start() as proxy:
            await asyncio.to_thread(together.wait)
            for _ in range(5):
                assert (await tunnel(proxy, "other.test", 443)).status == 403
            ours.update(one.name for one in threading.enumerate() if one.name.startswith("codex-network"))
            await asyncio.to_thread(together.wait)

    threads = [threading.Thread(target=lambda n=name: asyncio.run(main(n)), name=name) for name in where]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert where == {"one": {"one"}, "two": {"two"}}
    assert ours == {"codex-network-proxy"}


def test_a_proxy_that_starts_while_the_last_one_ends_gets_an_engine_of_its_own(
    tmp_path: Path, origin: HttpOrigin
) -> None:
    async def main() -> None:
        for _ in range(5):
            old = await builder(tmp_path).start()
            assert (await get(old, "allowed.test", origin.port)).status == 200
            ending = asyncio.create_task(old.shutdown())
            new = await builder(tmp_path).start()
            assert (await get(new, "allowed.test", origin.port)).status == 200
            await ending
            assert (await get(new, "allowed.test", origin.port)).status == 200
            await new.shutdown()

    asyncio.run(main())
