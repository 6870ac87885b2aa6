"""The doctor's judgement: from what was seen to one line, and to what should be done."""

from __future__ import annotations

import pytest

from codex_network_proxy.scripts.doctor_findings import (
    SHOWN,
    Advice,
    Concern,
    OwnSetting,
    State,
    Trial,
    Way,
    judge,
    read_settings,
    shown,
    telling,
    version_of,
)

PROXY, DIRECT, NONE = Way.PROXY, Way.DIRECT, Way.NONE
ADVICE = Advice(route="the way", trust="the trust")
ROUTE = OwnSetting("~/.curlrc:2", "noproxy", Concern.ROUTE)
TRUST = OwnSetting("~/.curlrc:3", "cacert", Concern.TRUST)
OURS = OwnSetting("~/.curlrc:3", "cacert", Concern.TRUST, ours=True)

OK = "proxied, trusts the certificate authority"
PAST = "goes past the proxy"
UNTRUSTED = "proxied, but does not trust the certificate authority"


@pytest.mark.parametrize(
    ("trial", "settings", "state", "text", "fix"),
    [
        pytest.param(Trial(PROXY, PROXY, True), [], State.OK, OK, None, id="both came through"),
        pytest.param(Trial(PROXY, PROXY, True), [ROUTE, TRUST], State.OK, OK, None, id="settings that do no harm"),
        pytest.param(Trial(PROXY, PROXY, True, said="404"), [], State.OK, OK, None, id="it may complain of the answer"),
        pytest.param(
            Trial(DIRECT, DIRECT, True), [], State.FAULT, f"{PAST} (HTTP and HTTPS)", "the way", id="both direct"
        ),
        pytest.param(Trial(DIRECT, PROXY, True), [], State.FAULT, f"{PAST} (HTTP)", "the way", id="HTTP direct"),
        pytest.param(Trial(PROXY, DIRECT, False), [], State.FAULT, f"{PAST} (HTTPS)", "the way", id="HTTPS direct"),
        pytest.param(
            Trial(DIRECT, NONE, False),
            [TRUST, ROUTE],
            State.FAULT,
            f"{PAST} (HTTP)",
            "remove `noproxy` in ~/.curlrc:2, which wins over the variables",
            id="its own configuration leads it past",
        ),
        pytest.param(
            Trial(PROXY, PROXY, False), [ROUTE], State.FAULT, UNTRUSTED, "the trust", id="hung up on the certificate"
        ),
        pytest.param(
            Trial(PROXY, PROXY, False, said="SSL certificate problem"),
            [TRUST],
            State.FAULT,
            f"{UNTRUSTED}: SSL certificate problem",
            "remove `cacert` in ~/.curlrc:3, which wins over the variables for certificates",
            id="its own configuration trusts another",
        ),
        pytest.param(
            Trial(PROXY, PROXY, False, said="SSL certificate problem"),
            [OURS],
            State.NOTE,
            "proxied; told by `cacert` in ~/.curlrc:3 to trust this proxy, which is not tried",
            None,
            id="its own configuration trusts the real proxy",
        ),
        pytest.param(Trial(NONE, NONE, False), [], State.FAULT, "did not come to the proxy", "the way", id="nothing"),
        pytest.param(
            Trial(NONE, NONE, False, late=True),
            [],
            State.FAULT,
            "did not come to the proxy within 10 s",
            "the way",
            id="it hangs",
        ),
        pytest.param(
            Trial(NONE, NONE, False, said="UnknownHostException: it"),
            [ROUTE],
            State.FAULT,
            "did not come to the proxy: UnknownHostException: it",
            "remove `noproxy` in ~/.curlrc:2, which wins over the variables",
            id="it says why",
        ),
        pytest.param(
            Trial(PROXY, NONE, False), [], State.FAULT, "did not ask for HTTPS", "the way", id="no HTTPS at all"
        ),
        pytest.param(Trial(NONE, PROXY, True), [], State.FAULT, "did not ask for HTTP", "the way", id="no HTTP at all"),
    ],
)
def test_one_line_on_each_program(
    trial: Trial, settings: list[OwnSetting], state: State, text: str, fix: str | None
) -> None:
    found = judge("curl 8.5.0", trial, settings, ADVICE)
    assert (found.subject, found.state, found.text, found.fix) == ("curl 8.5.0", state, text, fix)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        pytest.param("noproxy = *", ("noproxy", False), id="key = value"),
        pytest.param("noproxy: *", ("noproxy", False), id="key: value"),
        pytest.param("  --noproxy *", ("noproxy", False), id="an option"),
        pytest.param('NoProxy "*"', ("NoProxy", False), id="key value, in other letters"),
        pytest.param("cacert=/home/u/.codex/proxy/ca.pem", ("cacert", True), id="a file of this proxy"),
        pytest.param("cacert=~/.codex/proxy/ca.pem", ("cacert", True), id="the same, shortened"),
        pytest.param("cacert", ("cacert", False), id="a switch"),
        pytest.param("# noproxy = *", None, id="a comment"),
        pytest.param("noproxying = *", None, id="a longer word"),
        pytest.param("url = http://noproxy.test", None, id="in a value"),
    ],
)
def test_settings_are_found_and_their_values_are_not_kept(line: str, found: tuple[str, bool] | None) -> None:
    keys = {"noproxy": Concern.ROUTE, "cacert": Concern.TRUST}
    settings = list(read_settings("~/.curlrc", f"\n{line}\n", keys, "/home/u/.codex/proxy"))
    assert [(one.key, one.ours) for one in settings] == ([found] if found else [])
    assert {one.place for one in settings} <= {"~/.curlrc:2"}


def test_what_a_program_says_is_fit_for_a_terminal() -> None:
    assert shown("cannot reach\thttp://user:secret@proxy.test/\x1b[31m") == "cannot reach http://…@proxy.test/ [31m"
    assert len(shown("x" * 1000)) == SHOWN


@pytest.mark.parametrize(
    ("complaints", "line"),
    [
        pytest.param("first\nlast\n\n", "last", id="the last line"),
        pytest.param("one\nself-signed certificate\nsee the log\n", "self-signed certificate", id="on certificates"),
        pytest.param(
            "Picked up JAVA_TOOL_OPTIONS: -Dhttp.proxyHost=x\nIt failed\n\tat sun.ssl.X", "It failed", id="Java"
        ),
        pytest.param("", "", id="nothing"),
    ],
)
def test_the_telling_line_is_picked(complaints: str, line: str) -> None:
    assert telling(complaints) == line


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("curl 8.5.0 (x86_64) libcurl/8.4.0", "8.5.0"),
        ("v24.1.0\n", "24.1.0"),
        ("go version go1.24 linux/amd64", "1.24"),
        ('Picked up JAVA_TOOL_OPTIONS: -Dhost=1.2.3\nopenjdk version "17.0.15"', "17.0.15"),
        ("no number", ""),
    ],
)
def test_the_version_is_read(printed: str, version: str) -> None:
    assert version_of(printed) == version
