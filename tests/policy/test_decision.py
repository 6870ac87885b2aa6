"""The words of a decision, as embedding code writes them."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.decision import ClientScope


@pytest.mark.parametrize(
    ("said", "message"),
    [
        pytest.param({"command": ["curl", "a.test"]}, "command is of type list; write a string", id="arguments"),
        pytest.param({"execution_id": 42}, "execution_id is of type int; write a string", id="a number"),
        pytest.param({"environment_id": b"e"}, "environment_id is of type bytes; write a string", id="bytes"),
    ],
)
def test_what_is_said_of_a_client_is_text(said: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClientScope(**said)  # type: ignore[arg-type]  # what a program may get wrong
