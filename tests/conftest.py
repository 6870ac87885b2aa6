"""What every end-to-end and conformance test shares: one origin, and proxies that are started once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.kit.dishonest import dishonest_websocket
from tests.kit.fleet import Fleet
from tests.kit.hooks import CANARY, ORIGIN_NAMES, SECRET_VARIABLE
from tests.kit.origins import HttpOrigin, echo
from tests.kit.tls import TestAuthority
from tests.kit.websocket import websocket_echo

# Under load it takes long to think of examples, which says nothing about the code. CI tries the same ones each time.
settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def own_log_level() -> Iterator[None]:
    """A command that runs inside a test sets how much is logged."""
    logger = logging.getLogger("codex_network_proxy")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(scope="session")
def origin() -> Iterator[HttpOrigin]:
    """The origin behind every name that tests are allowed to reach."""
    with HttpOrigin("shared", {"ws": websocket_echo}) as running:
        yield running


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("origin-ca"))


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory, origin: HttpOrigin) -> Iterator[Fleet]:
    running = Fleet(tmp_path_factory.mktemp("fleet"), origin)
    yield running
    running.close()


@pytest.fixture(params=[True, False], ids=["fast path", "engine only"], scope="session")
def fast_path(request: pytest.FixtureRequest) -> bool:
    """Both ways through the proxy must decide alike."""
    return bool(request.param)


@pytest.fixture(scope="session")
def tls_origin(authority: TestAuthority) -> Iterator[HttpOrigin]:
    """The HTTPS origin behind every name whose requests are read."""
    routes = {"ws": websocket_echo, "bad-ws": dishonest_websocket, "repos": echo, "a": echo, "b": echo}
    with HttpOrigin("tls", routes, tls=authority.server_context(*ORIGIN_NAMES)) as running:
        yield running


@pytest.fixture(scope="session")
def inspected(
    tmp_path_factory: pytest.TempPathFactory, tls_origin: HttpOrigin, authority: TestAuthority
) -> Iterator[Fleet]:
    """Proxies that trust the tests' HTTPS origins and know one secret."""
    environment = {"SSL_CERT_FILE": str(authority.bundle), SECRET_VARIABLE: CANARY}
    running = Fleet(tmp_path_factory.mktemp("inspected"), tls_origin, environment)
    yield running
    running.close()
