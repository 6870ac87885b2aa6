"""Real clients that trust the proxy's authority, each told in its own way."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import httpx
import requests

from .clients import Done, need, proxy_environment, run
from .proxy import ProxyProcess

# One request through CONNECT, over HTTP/1.1 or HTTP/2 as asked; prints what it got.
NODE = """
const http = require('http');
const https = require('https');
const http2 = require('http2');
const tls = require('tls');
const [proxyHost, proxyPort, version, method, target, headers] = process.argv.slice(2);
const url = new URL(target);
const show = (seen) => console.log(JSON.stringify(seen));
const fail = (error) => show({ error: error.code || error.message });

function overHttp1(socket) {
  const options = { method, path: url.pathname + url.search, createConnection: () => socket };
  options.headers = { host: url.host, ...JSON.parse(headers) };
  https.request(options, (answer) => {
    let body = '';
    answer.on('data', (data) => { body += data; });
    answer.on('end', () => { show({ status: answer.statusCode, body }); socket.destroy(); });
  }).on('error', fail).end();
}

function overHttp2(socket) {
  const session = http2.connect(url.origin, { createConnection: () => socket });
  session.on('error', fail);
  const pseudo = { ':method': method, ':path': url.pathname + url.search, ':authority': url.host };
  const stream = session.request({ ...pseudo, ...JSON.parse(headers) });
  let status;
  let body = '';
  stream.on('response', (fields) => { status = fields[':status']; });
  stream.on('data', (data) => { body += data; });
  stream.on('error', fail);
  stream.on('end', () => { show({ status, body }); session.close(); socket.destroy(); });
  stream.end();
}

const tunnel = http.request({ host: proxyHost, port: proxyPort, method: 'CONNECT', path: url.host, agent: false });
tunnel.on('error', fail);
tunnel.on('connect', (answer, plain) => {
  if (answer.statusCode !== 200) return fail(new Error(answer.statusMessage));
  const socket = tls.connect({ socket: plain, servername: url.hostname, ALPNProtocols: [version] }, () => {
    if (socket.alpnProtocol !== version) return fail(new Error(`agreed on ${socket.alpnProtocol}`));
    if (version === 'h2') overHttp2(socket); else overHttp1(socket);
  });
  socket.on('error', fail);
});
tunnel.end();
"""


def curl(proxy: ProxyProcess, folder: Path, *arguments: str, stdin: bytes = b"", trusting: bool = True) -> Done:
    environment = proxy_environment(proxy)
    if trusting:
        environment["CURL_CA_BUNDLE"] = str(proxy.ca_bundle)
    return run([need("curl"), "-sS", *arguments], folder, environment, stdin)


def node(
    proxy: ProxyProcess,
    folder: Path,
    target: str,
    method: str = "GET",
    version: str = "http/1.1",
    headers: dict[str, str] | None = None,
    trusting: bool = True,
) -> Any:
    script = folder / "client.js"
    script.write_text(NODE)
    command: list[str | Path] = [need("node"), script, *proxy.http.split(":")]
    command += [version, method, target, json.dumps(headers or {})]
    done = run(command, folder, {"NODE_EXTRA_CA_CERTS": str(proxy.ca)} if trusting else {})
    assert done.code == 0, done
    return json.loads(done.out)


def requests_session(proxy: ProxyProcess) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.proxies = {"http": f"http://{proxy.http}", "https": f"http://{proxy.http}"}
    session.verify = str(proxy.ca_bundle)
    return session


def httpx_client(proxy: ProxyProcess, http2: bool) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(proxy.ca_bundle))
    return httpx.Client(proxy=f"http://{proxy.http}", trust_env=False, verify=context, http2=http2, timeout=10)


def openssl_client(proxy: ProxyProcess, folder: Path, at: str, name: str, *options: str) -> Done:
    """A handshake and nothing more."""
    command: list[str | Path] = [need("openssl"), "s_client", "-proxy", proxy.http, "-connect", at, "-servername", name]
    command += ["-CAfile", str(proxy.ca), "-verify_return_error", *options]
    return run(command, folder)
