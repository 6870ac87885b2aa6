"""Documentation cannot go stale: what the README names exists, and what exists is named in it."""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_network_proxy.addons.engine_options import WEB_PORT
from codex_network_proxy.addons.guard import LOCKED_OPTIONS
from codex_network_proxy.policy import config_tables
from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.config import load_config
from codex_network_proxy.policy.decision import (
    Blocked,
    BlockReason,
    Decision,
    DecisionSource,
    NetworkPolicyRequest,
    NetworkProtocol,
    PolicyScope,
    Ruling,
)
from codex_network_proxy.policy.errors import ConfigError
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.listeners import ParsedAddress
from codex_network_proxy.policy.responses import block_message, error_code, plain_response
from codex_network_proxy.scripts import cli
from codex_network_proxy.scripts.help_pages import EXIT_CODES
from codex_network_proxy.scripts.manual_page import manual

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/codex-proxy.1.md")

FENCES = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROSE = FENCES.sub("", README)
ROWS = [line for line in PROSE.splitlines() if line.startswith("| ")]
CODE = " ".join([*re.findall(r"`([^`\n]+)`", PROSE), *(block for _, block in FENCES.findall(README))])

FIRST_SCREEN = 25
LARGEST_IMAGE = 250_000


def blocks(language: str) -> list[str]:
    return [block for name, block in FENCES.findall(README) if name == language]


def words(text: str) -> set[str]:
    """Everything in the README's code that could be the name of something."""
    return set(re.findall(r"[A-Za-z0-9_-]+", text))


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


# -- the command line --------------------------------------------------------------------------------------------------


def commands() -> dict[str, argparse.ArgumentParser]:
    (subparsers,) = (part for part in cli.command_parser()._actions if isinstance(part, argparse._SubParsersAction))
    return dict(subparsers.choices)


def options() -> Iterator[str]:
    for parser in (cli.command_parser(), *commands().values()):
        for action in parser._actions:
            yield from (option for option in action.option_strings if option != "-h")


@pytest.mark.parametrize("option", sorted(set(options())))
def test_every_option_is_in_the_readme(option: str) -> None:
    assert re.search(rf"(?<![\w-]){option}(?![\w-])", CODE), option


@pytest.mark.parametrize("command", commands())
def test_every_command_is_in_the_readme(command: str) -> None:
    assert re.search(rf"`{command}\b", README), command


def test_the_readme_calls_no_command_that_does_not_exist() -> None:
    called = set(re.findall(r"codex-proxy ([a-z]+)", CODE))
    assert called <= commands().keys()


def test_the_manual_is_the_one_that_the_parser_gives() -> None:
    """`scripts/manual` writes it anew."""
    assert (ROOT / "docs" / "codex-proxy.1.md").read_text() == manual(cli.command_parser())


def test_the_readme_has_every_exit_code() -> None:
    rows = PROSE[PROSE.index("| exit code | meaning |") :].splitlines()[2 : 2 + len(EXIT_CODES)]
    assert [cells(row) for row in rows] == [[code, meaning] for code, meaning in EXIT_CODES.items()]


@pytest.mark.parametrize("program", sorted(set(re.findall(r"(?:\./)?((?:scripts|\.ci)/[\w-]+)", CODE))))
def test_every_program_in_the_readme_can_be_run(program: str) -> None:
    assert os.access(ROOT / program, os.X_OK), program


@pytest.mark.parametrize("script", sorted(set(re.findall(r"\baddons/\w+\.py", CODE))))
def test_every_script_in_the_readme_exists(script: str) -> None:
    assert (ROOT / script).is_file()


# -- the configuration -------------------------------------------------------------------------------------------------


def tables() -> Iterator[type[config_tables.Table]]:
    for value in vars(config_tables).values():
        if isinstance(value, type) and issubclass(value, config_tables.Table):
            yield value


@pytest.mark.parametrize(
    "key", sorted({"default_permissions", "extends", *(k for t in tables() for k in t.model_fields)})
)
def test_every_configuration_key_is_in_the_readme(key: str) -> None:
    assert key in words(CODE)


def shown_default(value: object) -> str:
    match value:
        case ParsedAddress():
            return f'"http://{value.address}"'
        case dict():
            return ""
        case tuple():
            return "[]"
        case _:
            return json.dumps(value)


@pytest.mark.parametrize("key", config_tables.NetworkTable.model_fields)
def test_every_key_of_the_network_table_has_a_row_with_its_default(key: str) -> None:
    (row,) = (cells(row) for row in ROWS if cells(row)[0] == f"`{key}`")
    default = config_tables.NetworkTable.model_fields[key].default
    assert row[1].strip("`") == shown_default(default)


def test_the_readme_has_no_row_for_a_key_that_does_not_exist() -> None:
    rows = ROWS[ROWS.index("| key | default | meaning |") + 2 :]
    listed = [cells(row)[0].strip("`") for row in rows[: len(config_tables.NetworkTable.model_fields)]]
    assert sorted(listed) == sorted(config_tables.NetworkTable.model_fields)


@pytest.mark.parametrize("text", blocks("toml"), ids=lambda text: f"{len(text.splitlines())} lines")
def test_every_configuration_in_the_readme_loads(text: str) -> None:
    loaded = load_config(text, file="config.toml")
    assert loaded.settings.enabled
    places = [(warning.place, warning.line) for warning in loaded.warnings]
    if "evil.example" in text:
        # The sample with everything in it is legal, and two things in it are doubtful.
        assert places == [
            ("permissions.workspace.network.mitm", 19),
            ("permissions.workspace.network.mitm_hooks[0].host", 37),
        ]
    else:
        assert places == []


def test_the_error_messages_in_the_readme_are_the_ones_that_are_printed() -> None:
    shown = [line for block in blocks("console") for line in block.splitlines() if line.startswith("config.toml:")]
    wrong = 'enabled = true\nmode = "ful"\nallowed_domians = ["api.example.com"]\n'
    with pytest.raises(ConfigError) as caught:
        load_config(
            f'default_permissions = "workspace"\n\n[permissions.workspace.network]\n{wrong}', file="config.toml"
        )
    assert shown == [str(problem) for problem in caught.value.problems]


# -- answers -----------------------------------------------------------------------------------------------------------


def blocked(reason: str, source: DecisionSource = DecisionSource.BASELINE_POLICY) -> Blocked:
    request = NetworkPolicyRequest(
        NetworkProtocol.HTTP, parse_endpoint("example.com:80"), method="GET", client_address="127.0.0.1:59128"
    )
    return Blocked("72f5b865-2", request, (Ruling(Decision.DENY, reason, source, PolicyScope.DOMAIN),))


# The first has an answer without a code, the second a status of its own, the third is every other reason.
WITHOUT_ROW = {BlockReason.PROXY_DISABLED, BlockReason.UNIX_SOCKET_UNSUPPORTED, BlockReason.POLICY_DENIED}


@pytest.mark.parametrize("reason", [reason for reason in BlockReason if reason not in WITHOUT_ROW])
def test_every_reason_has_a_row_with_its_code(reason: BlockReason) -> None:
    assert [f"`{error_code(blocked(reason))}`", f"`{reason}`"] in [cells(row)[:2] for row in ROWS]


def test_every_other_reason_has_a_row() -> None:
    assert ["`blocked-by-policy`", "anything else"] in [cells(row)[:2] for row in ROWS]


def test_the_answers_in_the_readme_are_the_ones_that_are_given() -> None:
    shown = "\n".join(blocks("console"))
    assert plain_response(blocked(BlockReason.NOT_ALLOWED)).body.decode() in shown
    assert block_message(blocked(BlockReason.MITM_HOOK_DENIED)) in shown


def test_the_explanation_in_the_readme_is_the_one_that_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(next(text for text in blocks("toml") if "gist.github.com" in text))
    pin = "gist.github.com=140.82.112.3"
    cli.main(["explain", "https://gist.github.com/acme", "--config", "config.toml", "--resolve", pin])
    assert capsys.readouterr().out in "\n".join(blocks("console"))


def literal_answers() -> Iterator[tuple[int, str]]:
    """Status and text of every answer that stands in the code as such."""
    for file in sorted(path for folder in ("addons", "policy") for path in (ROOT / folder).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name(id="error_response" | "BadHead" | "BadRequest"),
                    args=[ast.Constant(value=int(status)), ast.Constant(value=str(text)), *_],
                ):
                    yield status, text


@pytest.mark.parametrize(("status", "text"), sorted(set(literal_answers())))
def test_every_answer_is_explained(status: int, text: str) -> None:
    rows = [row for row in ROWS if row.startswith(f"| `{status}`")]
    # The texts of most 400s name the very field; one row stands for them. A 403 is a block.
    assert status == 403 or any(f"`{text}`" in row or (status == 400 and "any other text" in row) for row in rows)


def test_the_audit_event_in_the_readme_is_one() -> None:
    (shown,) = (json.loads(block) for block in blocks("json"))
    verdict = blocked(BlockReason.NOT_ALLOWED)
    event = PolicyDecisionEvent.of(verdict.ruling, verdict.request, verdict.request_id, 0.0).fields()
    assert list(shown) == list(event)


# -- inside mitmproxy --------------------------------------------------------------------------------------------------


def engine_options() -> list[str]:
    return re.findall(r'add_option\(\s*"(codex_\w+)"', (ROOT / "addons" / "settings.py").read_text())


@pytest.mark.parametrize("option", [*engine_options(), *LOCKED_OPTIONS])
def test_every_engine_option_of_ours_is_in_the_readme(option: str) -> None:
    assert f"`{option}`" in README


def test_the_readme_has_no_engine_option_that_does_not_exist() -> None:
    assert set(re.findall(r"`(codex_\w+)`", README)) == set(engine_options())


def test_the_readme_names_the_engine_and_the_port_that_are_used() -> None:
    (pinned,) = re.findall(r'"mitmproxy==([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert f"mitmproxy {pinned}" in README
    assert f"port {WEB_PORT}" in README


# -- the document itself -----------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """The names that headings get on the web."""
    headings = re.findall(r"^#+ (.+)$", FENCES.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> Iterator[tuple[str, str]]:
    for name in DOCUMENTS:
        for target in re.findall(r"\]\(([^)\s]+)\)", FENCES.sub("", (ROOT / name).read_text())):
            if not target.startswith("https://"):
                yield name, target


@pytest.mark.parametrize(("document", "target"), sorted(set(links())))
def test_links_lead_somewhere(document: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (ROOT / document).parent / path if path else ROOT / document
    assert file.exists(), target
    assert not anchor or anchor in anchors(file.read_text())


def test_the_first_screen_shows_what_the_product_does() -> None:
    screen = "\n".join(README.splitlines()[:FIRST_SCREEN])
    for needed in ("# allowed", "# blocked", '"reason":"not_allowed"', "./scripts/codex-proxy", "./scripts/test"):
        assert needed in screen


def test_images_are_small_enough_to_clone() -> None:
    for image in (ROOT / "docs").glob("*.png"):
        assert image.stat().st_size <= LARGEST_IMAGE, image.name


def test_the_package_shows_the_readme() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["readme"] == "README.md"


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
