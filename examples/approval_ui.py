"""Runs a command behind the proxy, and asks the person at the terminal about each host that no list names.

python examples/approval_ui.py curl -s https://example.com/
"""

import asyncio
import sys

from codex_network_proxy import NetworkDecision, NetworkPolicyRequest, NetworkProxy

terminal = asyncio.Lock()
answers: dict[str, bool] = {}


async def ask(request: NetworkPolicyRequest) -> NetworkDecision:
    """One question at a time, and each host once. Who does not answer within a minute has said no."""
    async with terminal:
        if request.host not in answers:
            question = f"May {request.command} reach {request.host}:{request.port}? [y/N] "
            answers[request.host] = (await asyncio.to_thread(input, question)).strip().lower() == "y"
    return NetworkDecision.allow() if answers[request.host] else NetworkDecision.deny("not approved")


async def main(command: list[str]) -> int:
    builder = NetworkProxy.builder().http_addr("127.0.0.1:0").socks_addr("127.0.0.1:0").policy_decider(ask)
    async with builder.start() as proxy, proxy.scope(command=command[0]) as env:
        child = await asyncio.create_subprocess_exec(*command, env=env, stdin=asyncio.subprocess.DEVNULL)
        code = await child.wait()
        for block in proxy.blocked_snapshot():
            print(f"{block.host} was blocked: {block.reason}")
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
