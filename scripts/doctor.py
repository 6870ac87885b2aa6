"""`codex-proxy doctor`: whether this machine is in order, and which programs here use a proxy and trust it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from codex_network_proxy.addons.config_file import find_config
from codex_network_proxy.policy.errors import ConfigError

from .doctor_checks import check_machine
from .doctor_findings import TIME_LIMIT, Finding, State, judge, version_of
from .doctor_range import Range, run_bounded
from .doctor_tools import TOOLS, Tool


def doctor(options: argparse.Namespace) -> int:
    """Prints a line for each thing it looked at. 1 when one of them is faulty."""
    findings: list[Finding] = []
    for finding in examine(os.environ, options.config, options.profile):
        findings.append(finding)
        if not options.json:
            print("\n".join(lines(finding)), flush=True)
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings]))
    return 1 if any(finding.state is State.FAULT for finding in findings) else 0


def lines(finding: Finding) -> Iterator[str]:
    """As a person reads it: the fix below what it is for."""
    yield f"{finding.subject:16} {finding.state:5}  {finding.text}"
    if finding.fix:
        yield f"{'':24}{finding.fix}"


def examine(environ: Mapping[str, str], file: Path | None, profile: str | None) -> Iterator[Finding]:
    """One finding after the other, as they are made; each program takes ten seconds at most."""
    yield from check_machine(environ, file, profile)
    found = [(tool, program) for tool in TOOLS if (program := tool.find(environ.get("PATH")))]
    # What the proxy of the trials has to say is in the findings.
    logging.disable(logging.CRITICAL)
    try:
        with Range.open() as place:
            for tool, program in found:
                yield try_out(place, tool, program, environ, _files_of_ours(environ))
    finally:
        logging.disable(logging.NOTSET)
    missing = [tool.name for tool in TOOLS if tool not in [one for one, _ in found]]
    if missing:
        yield Finding("not installed", State.OK, ", ".join(missing))


def _files_of_ours(environ: Mapping[str, str]) -> str:
    try:
        return str(find_config(environ).home / "proxy")
    except ConfigError:  # it is among the findings
        return "~/.codex/proxy/"


def try_out(place: Range, tool: Tool, program: str, environ: Mapping[str, str], ours: str) -> Finding:
    """The finding about one program; `ours` is the folder with the files of this proxy."""
    until = time.monotonic() + TIME_LIMIT
    version = version_of(run_bounded([program, tool.version], environ, place.folder, until).printed)
    trial = place.trial(tool, program, environ)
    return judge(f"{tool.name} {version}".strip(), trial, tool.settings(environ, ours), tool.advice)
