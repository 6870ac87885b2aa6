"""The library as an embedding program uses it: run, asked and changed inside its own event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import pytest

from codex_network_proxy import (
    ConfigError,
    Constraints,
    ManagedPolicy,
    NetworkDecision,
    NetworkMode,
    NetworkPolicyRequest,
    NetworkProtocol,
    NetworkProxy,
    NetworkRequirements,
    NetworkRule,
    PolicyChangeRefused,
)
from tests.kit.origins import HttpOrigin

from .library_kit import builder, get, reasons, tunnel


def test_the_example_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an embedding program would write it: nothing but the address and the decider is said."""
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    asked: list[NetworkPolicyRequest] = []

    async def decider(request: NetworkPolicyRequest) -> NetworkDecision:
        asked.append(request)
        # Example: auto-allow when exec policy already approved a command prefix.
        if request.command and request.command.startswith("curl "):
            return NetworkDecision.allow()
        return NetworkDecision.deny("policy_denied")

    async def main() -> None:
        proxy = await NetworkProxy.builder().http_addr("127.0.0.1:0").policy_decider(decider).build()
        handle = await proxy.run()
        answer = await tunnel(proxy, "unlisted.test", 443)
        assert (answer.status, "blocked-by-policy" in answer.head) == (403, True)
        await handle.shutdown()

    asyncio.run(main())
    assert [(one.protocol, one.host, one.port, one.command) for one in asked] == [
        (NetworkProtocol.HTTPS_CONNECT, "unlisted.test", 443, None)
    ]


def test_plain_requests_and_tunnels_are_served_and_judged(tmp_path: Path, origin: HttpOrigin) -> None:
    async def main() -> None:
        async with builder(tmp_path).start() as proxy:
            assert (await get(proxy, "allowed.test", origin.port)).status == 200
            assert (await tunnel(proxy, "allowed.test", origin.port)).status == 200
            assert (await get(proxy, "other.test", origin.port)).status == 403
            assert (await tunnel(proxy, "denied.test", origin.port)).status == 403
            assert reasons(proxy) == [("other.test", "not_allowed"), ("denied.test", "denied")]
            assert len(proxy.drain_blocked()) == 2
            assert reasons(proxy) == []

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_the_decider_runs_in_the_loop_that_started_the_proxy(kind: str, tmp_path: Path, origin: HttpOrigin) -> None:
    where: list[tuple[threading.Thread, asyncio.AbstractEventLoop]] = []

    def note() -> NetworkDecision:
        where.append((threading.current_thread(), asyncio.get_running_loop()))
        return NetworkDecision.allow()

    async def decider(request: NetworkPolicyRequest) -> NetworkDecision:
        return note()

    async def main() -> None:
        async with builder(tmp_path).policy_decider(decider if kind == "async" else lambda _: note()).start() as proxy:
            assert (await tunnel(proxy, "other.test", origin.port)).status == 200
        assert where == [(threading.current_thread(), asyncio.get_running_loop())]

    asyncio.run(main())


def test_without_a_loop_the_decider_has_one_of_its_own(tmp_path: Path) -> None:
    where: list[str] = []
    before = set(threading.enumerate())

    async def decider(request: NetworkPolicyRequest) -> NetworkDecision:
        where.append(threading.current_thread().name)
        return NetworkDecision.deny()

    with builder(tmp_path).policy_decider(decider).start_sync() as proxy:
        assert asyncio.run(tunnel(proxy, "other.test", 1)).status == 403
        assert reasons(proxy) == [("other.test", "policy_denied")]
    assert where == ["codex-network-proxy-callbacks"]
    new = set(threading.enumerate()) - before
    assert [thread.name for thread in new if thread.name.startswith("codex")] == []


async def raising(request: NetworkPolicyRequest) -> NetworkDecision:
    raise ValueError("canary")


async def rubbish(request: NetworkPolicyRequest) -> NetworkDecision:
    return "allow"  # type: ignore[return-value]  # what a program may get wrong


async def silent(request: NetworkPolicyRequest) -> NetworkDecision:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def asking(request: NetworkPolicyRequest) -> NetworkDecision:
    return NetworkDecision.ask("not_allowed")


@pytest.mark.parametrize(
    ("decider", "reason"),
    [
        pytest.param(raising, "policy_denied", id="that raises"),
        pytest.param(rubbish, "policy_denied", id="that talks nonsense"),
        pytest.param(silent, "policy_denied", id="that never answers"),
        pytest.param(asking, "not_allowed", id="that asks"),
    ],
)
def test_a_decider_denies(decider: object, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        made = builder(tmp_path).policy_decider(decider).decider_timeout(0.01)  # type: ignore[arg-type]  # rows
        async with made.start() as proxy:
            assert (await tunnel(proxy, "other.test", 443)).status == 403
            assert reasons(proxy) == [("other.test", reason)]

    asyncio.run(main())
    assert "canary" not in caplog.text


def test_a_decider_that_wants_to_exit_denies_and_no_proxy_ends(tmp_path: Path) -> None:
    def leave(request: NetworkPolicyRequest) -> NetworkDecision:
        sys.exit(3)

    with (
        builder(tmp_path / "one").policy_decider(leave).start_sync() as one,
        builder(tmp_path / "two").start_sync() as two,
    ):
        for proxy in (one, two, one):
            assert asyncio.run(tunnel(proxy, "other.test", 443)).status == 403
    assert reasons(one) == [("other.test", "policy_denied")] * 2


def test_a_decider_whose_loop_is_gone_denies(tmp_path: Path) -> None:
    async def allow(request: NetworkPolicyRequest) -> NetworkDecision:
        return NetworkDecision.allow()

    async def start() -> NetworkProxy:
        return await builder(tmp_path).policy_decider(allow).start()

    proxy = asyncio.run(start())
    assert asyncio.run(tunnel(proxy, "other.test", 443)).status == 403
    assert reasons(proxy) == [("other.test", "policy_denied")]
    proxy.shutdown_sync()


def test_the_policy_is_changed_while_it_runs(tmp_path: Path, origin: HttpOrigin) -> None:
    async def main() -> None:
        async with builder(tmp_path).start() as proxy:
            proxy.add_allowed_domain("other.test")
            assert (await get(proxy, "other.test", origin.port)).status == 200
            proxy.add_denied_domain("other.test")
            assert (await get(proxy, "other.test", origin.port)).status == 403
            proxy.set_network_mode("limited")
            assert proxy.network_mode is NetworkMode.LIMITED
            assert (await tunnel(proxy, "allowed.test", origin.port)).status == 403
            assert reasons(proxy) == [("other.test", "denied"), ("allowed.test", "mitm_required")]
            assert str(proxy.current_config.denied[-1]) == "other.test"
            with pytest.raises(PolicyChangeRefused):
                proxy.add_allowed_domain("*")
            with pytest.raises(ValueError, match="wide"):
                proxy.set_network_mode("wide")

    asyncio.run(main())


def test_a_built_proxy_can_be_changed_and_asked_before_and_after_it_runs(tmp_path: Path) -> None:
    async def main() -> None:
        proxy = await builder(tmp_path).build()
        proxy.add_allowed_domain("early.test")
        assert [str(pattern) for pattern in proxy.current_config.allowed] == ["allowed.test", "early.test"]
        assert proxy.blocked_snapshot() == ()
        handle = await proxy.run()
        assert (await tunnel(proxy, "late.test", 443)).status == 403
        await handle.shutdown()
        assert reasons(proxy) == [("late.test", "not_allowed")]

    asyncio.run(main())


def test_a_program_is_told_why_and_what_would_change_that(tmp_path: Path, origin: HttpOrigin) -> None:
    async def main() -> None:
        async with builder(tmp_path).start() as proxy:
            url = f"https://other.test:{origin.port}/x"
            blocked = await proxy.explain(url, method="POST", protocol=NetworkProtocol.SOCKS5_TCP)
            change = f'add "other.test:{origin.port}" to allowed_domains'
            assert (blocked.allowed, blocked.remedy.changes) == (False, (change,))
            assert proxy.blocked_total == 0
            proxy.add_allowed_domain("other.test")
            assert (await proxy.explain(url)).allowed
            with pytest.raises(ValueError, match="is not HTTP"):
                await proxy.explain("ftp://other.test/")

    asyncio.run(main())


def test_a_program_reads_what_is_in_force(tmp_path: Path) -> None:
    async def main() -> None:
        async with builder(tmp_path).start() as proxy:
            proxy.add_denied_domain("evil.test")
            assert proxy.current_patterns == (("allowed.test",), ("denied.test", "evil.test"))
            hosts = ("allowed.test", "evil.test", "other.test")
            assert [await proxy.host_blocked(host, 443) for host in hosts] == [None, "denied", "not_allowed"]
            proxy.set_network_mode("limited")
            assert [proxy.method_allowed(method) for method in ("GET", "POST")] == [True, False]
            assert (await tunnel(proxy, "other.test", 443)).status == 403
            proxy.drain_blocked()
            assert proxy.blocked_total == 1

    asyncio.run(main())


def test_what_an_organisation_requires_is_laid_over_the_configuration(tmp_path: Path) -> None:
    async def main() -> None:
        managed = ManagedPolicy(
            requirements=NetworkRequirements(denied_domains=("evil.test",)),
            rules=(NetworkRule("other.test", "allow"),),
            constraints=Constraints(mode=NetworkMode.LIMITED, allowed_domains=("*.test",)),
        )
        with pytest.raises(ConfigError, match=r"Full \(allowed Limited or more restrictive\)"):
            await builder(tmp_path).managed(managed).build()
        async with builder(tmp_path, mode="limited").managed(managed).start() as proxy:
            assert proxy.current_patterns == (("allowed.test", "other.test"), ("evil.test", "denied.test"))
            with pytest.raises(PolicyChangeRefused, match=r"network\.mode constrained by managed config"):
                proxy.set_network_mode("full")
            with pytest.raises(PolicyChangeRefused, match=r"network\.allowed_domains constrained by managed config"):
                proxy.add_allowed_domain("other.com")

    asyncio.run(main())
