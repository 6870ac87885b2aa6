"""What `init` writes: every preset loads without a doubt, and lets pass what its work needs and nothing that writes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import combinations

import pytest

from codex_network_proxy.policy.config import default_config_text, load_config
from codex_network_proxy.policy.decision import Allowed, IPAddress
from codex_network_proxy.policy.engine import World
from codex_network_proxy.policy.explain import explain
from codex_network_proxy.policy.inquiry import questions
from codex_network_proxy.policy.origins import NO_ORIGINS
from codex_network_proxy.scripts.first_config import PRESETS, first_config

CHOICES = [(), *((name,) for name in PRESETS), *combinations(PRESETS, 2), tuple(PRESETS)]


class Public:
    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        return (ip_address("93.184.216.34"),)


def passes(names: Sequence[str], url: str, method: str = "GET") -> bool:
    settings = load_config(first_config(names), file="config.toml").settings
    world = World(Public(), lambda: "", lambda address, port: False)
    found = asyncio.run(explain(questions(url, method=method), settings, world, NO_ORIGINS))
    return isinstance(found.verdict, Allowed)


@pytest.mark.parametrize("names", CHOICES, ids=" ".join)
def test_every_choice_loads_and_leaves_no_doubt(names: tuple[str, ...]) -> None:
    loaded = load_config(first_config(names), file="config.toml")
    assert loaded.settings.enabled
    assert loaded.warnings == ()
    said = " ".join(f"--preset {name}" for name in names)
    assert f"`codex-proxy init{' ' * bool(said)}{said}`" in first_config(names)


def test_without_a_preset_it_is_the_built_in_list() -> None:
    written, built_in = (load_config(text, file="") for text in (first_config([]), default_config_text()))
    assert written.settings == built_in.settings


def test_presets_add_up() -> None:
    both = load_config(first_config(["python", "node"]), file="").settings
    assert [str(pattern) for pattern in both.allowed] == [
        "pypi.org",
        "files.pythonhosted.org",
        "registry.npmjs.org",
        "registry.yarnpkg.com",
        "nodejs.org",
    ]


NEEDS = [
    pytest.param("python", "https://pypi.org/simple/requests/", "GET", True, id="an index"),
    pytest.param("python", "https://files.pythonhosted.org/packages/x.whl", "GET", True, id="a package"),
    pytest.param("python", "https://upload.pypi.org/legacy/", "POST", False, id="publishing"),
    pytest.param("node", "https://registry.npmjs.org/express", "GET", True, id="a package of node"),
    pytest.param("node", "https://example.com/", "GET", False, id="anything else"),
    pytest.param("github-read", "https://github.com/acme/website", "GET", True, id="a page"),
    pytest.param("github-read", "https://github.com/acme/website/info/refs?service=git-upload-pack", "GET", True,
                 id="the beginning of a clone"),
    pytest.param("github-read", "https://github.com/acme/website.git/git-upload-pack", "POST", True, id="a clone"),
    pytest.param("github-read", "https://github.com/acme/website.git/git-receive-pack", "POST", False, id="a push"),
    pytest.param("github-read", "https://github.com/acme/x/y/git-upload-pack", "POST", False, id="another path"),
    pytest.param("github-read", "https://github.com/login", "POST", False, id="a form"),
    pytest.param("github-read", "https://api.github.com/repos/acme/website", "GET", True, id="the API"),
    pytest.param("github-read", "https://api.github.com/repos/acme/website/issues", "POST", False, id="an issue"),
    pytest.param("github-read", "https://raw.githubusercontent.com/a/b/main/c", "GET", True, id="a file"),
    pytest.param("github-read", "https://codeload.github.com/a/b/zip/main", "PUT", False, id="an archive put there"),
    pytest.param("github-read", "https://gist.github.com/", "GET", False, id="a gist"),
    pytest.param("github-read", "http://github.com/acme/website", "GET", False, id="in the clear"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "url", "method", "expected"), NEEDS)
def test_a_preset_lets_pass_what_its_work_needs(name: str, url: str, method: str, expected: bool) -> None:
    assert passes([name], url, method) is expected
