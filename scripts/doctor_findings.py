"""What the doctor makes of what it saw: from observations to one line each, with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

TIME_LIMIT = 10.0
"""Seconds that one program gets."""

SHOWN = 160
"""Characters of what a program says that are passed on."""

_TELLING = re.compile(r"certificate|\bcert|ssl|tls|proxy", re.IGNORECASE)
_IDLE = re.compile(r"\s+at |Picked up |NOTE: Picked up ")
"""What Java says beside its failures."""

_LOGIN = re.compile(r"//[^/\s@]+@")


class State(StrEnum):
    OK = "ok"
    NOTE = "note"
    FAULT = "FAULT"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. Only a fault makes the doctor fail; `fix` says what to do about it."""

    subject: str
    state: State
    text: str
    fix: str | None = None


class Way(Enum):
    """How a request left the program."""

    PROXY = auto()
    DIRECT = auto()
    """The origin saw a connection that the proxy knows nothing of."""
    NONE = auto()


class Concern(Enum):
    """What a line in a program's own configuration is about."""

    ROUTE = auto()
    TRUST = auto()


@dataclass(frozen=True, slots=True)
class OwnSetting:
    """A line in a program's own configuration; its value may be a secret and is not kept.

    `ours`: it names the files of this proxy, as the README has it.
    """

    place: str
    key: str
    concern: Concern
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """What was seen of one program: a request in clear, and one over HTTPS that was intercepted.

    `trusted`: the second one arrived, so the program took the certificate. `late`: time ran out. `said`: the last
    line of its complaints.
    """

    plain: Way
    secure: Way
    trusted: bool
    late: bool = False
    said: str = ""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about a program when its own configuration is not the cause."""

    route: str = "it does not read the proxy variables; tell it in its own configuration where the proxy is"
    trust: str = "it does not read the variables for certificates; make it trust ca.pem in its own configuration"


def judge(name: str, trial: Trial, settings: Sequence[OwnSetting], advice: Advice) -> Finding:
    """The line about one program."""
    ways = (trial.plain, trial.secure)
    if Way.DIRECT in ways:
        return Finding(name, State.FAULT, f"goes past the proxy ({_which(trial)})", _route(settings, advice))
    if ways == (Way.NONE, Way.NONE):
        text = f"did not come to the proxy{_why(trial)}"
        return Finding(name, State.FAULT, text, _route(settings, advice))
    if Way.NONE in ways:
        text = f"did not ask for {'HTTP' if trial.plain is Way.NONE else 'HTTPS'}{_why(trial)}"
        return Finding(name, State.FAULT, text, _route(settings, advice))
    if not trial.trusted and (trusting := [one for one in settings if one.ours and one.concern is Concern.TRUST]):
        # The trial has an authority of its own, so that the key of the real one stays where it is.
        text = f"proxied; told by `{trusting[0].key}` in {trusting[0].place} to trust this proxy, which is not tried"
        return Finding(name, State.NOTE, text)
    if not trial.trusted:
        text = f"proxied, but does not trust the certificate authority{_why(trial)}"
        return Finding(name, State.FAULT, text, _trust(settings, advice))
    return Finding(name, State.OK, "proxied, trusts the certificate authority")


def version_of(printed: str) -> str:
    """The first number in what a program prints about itself, such as `8.5.0`."""
    found = re.search(r"\d+(?:\.\d+)+", "\n".join(line for line in printed.splitlines() if not _IDLE.match(line)))
    return found[0] if found else ""


def _which(trial: Trial) -> str:
    ways = {"HTTP": trial.plain, "HTTPS": trial.secure}
    return " and ".join(name for name, way in ways.items() if way is Way.DIRECT)


def _why(trial: Trial) -> str:
    if trial.late:
        return f" within {TIME_LIMIT:.0f} s"
    return f": {shown(trial.said)}" if trial.said else ""


def _route(settings: Sequence[OwnSetting], advice: Advice) -> str:
    return _own(settings, Concern.ROUTE, "wins over the variables") or advice.route


def _trust(settings: Sequence[OwnSetting], advice: Advice) -> str:
    return _own(settings, Concern.TRUST, "wins over the variables for certificates") or advice.trust


def _own(settings: Sequence[OwnSetting], concern: Concern, why: str) -> str | None:
    found = [f"`{one.key}` in {one.place}" for one in settings if one.concern is concern]
    return f"remove {', '.join(found)}, which {why}" if found else None


def shown(text: str) -> str:
    """Fit for a terminal: one line, without logins and control characters."""
    plain = "".join(char if char.isprintable() else " " for char in _LOGIN.sub("//…@", text))
    return " ".join(plain.split())[:SHOWN]


def telling(complaints: str) -> str:
    """The line that says most about a failure: one about certificates or proxies, or the last."""
    lines = [line for line in complaints.splitlines() if line.strip() and not _IDLE.match(line)]
    return next((line for line in lines if _TELLING.search(line)), lines[-1] if lines else "")


def read_settings(place: str, text: str, keys: Mapping[str, Concern], ours: str) -> Iterator[OwnSetting]:
    """Lines of a configuration file that set one of `keys`: `key = value`, `key: value`, `--key value`, `key value`.

    `ours` is the folder with the files of this proxy.
    """
    names = "|".join(re.escape(key) for key in sorted(keys, key=len, reverse=True))
    line = re.compile(rf"\s*-{{0,2}}({names})\s*(?:[=:\s].*)?$", re.IGNORECASE)
    for number, one in enumerate(text.splitlines(), 1):
        if found := line.match(one):
            concern = next(keys[name] for name in keys if name.lower() == found[1].lower())
            yield OwnSetting(f"{place}:{number}", found[1], concern, ours in one or "~/.codex/proxy/" in one)
