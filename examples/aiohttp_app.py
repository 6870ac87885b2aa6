"""A web application with the proxy inside: it shows what was blocked, and lets its operator allow a host.

python examples/aiohttp_app.py 8080
curl -x http://$(curl -s localhost:8080/proxy) http://example.com/     # blocked
curl -X POST localhost:8080/allow/example.com                          # from now on it passes
"""

import socket
import sys
from collections.abc import AsyncIterator

from aiohttp import web

from codex_network_proxy import NetworkProxy, PolicyChangeRefused

PROXY = web.AppKey("proxy", NetworkProxy)


async def network_proxy(app: web.Application) -> AsyncIterator[None]:
    """The proxy starts and ends with the application, in its event loop."""
    builder = NetworkProxy.builder().config({"enabled": True}).http_addr("127.0.0.1:0").socks_addr("127.0.0.1:0")
    async with builder.start() as proxy:
        app[PROXY] = proxy
        yield


async def address(request: web.Request) -> web.Response:
    return web.Response(text=request.app[PROXY].http_address)


async def blocked(request: web.Request) -> web.Response:
    return web.json_response([entry.fields() for entry in request.app[PROXY].blocked_snapshot()])


async def allow(request: web.Request) -> web.Response:
    try:
        request.app[PROXY].add_allowed_domain(request.match_info["host"])
    except PolicyChangeRefused as refused:
        raise web.HTTPBadRequest(text=str(refused)) from refused
    return web.json_response(request.app[PROXY].current_patterns[0])


def make_app() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(network_proxy)
    app.add_routes([web.get("/proxy", address), web.get("/blocked", blocked), web.post("/allow/{host}", allow)])
    return app


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    print("listening on http://{}:{}".format(*listener.getsockname()), flush=True)
    web.run_app(make_app(), sock=listener, print=None)
