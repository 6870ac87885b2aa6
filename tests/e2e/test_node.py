"""node: `http.request` in absolute form, CONNECT, and `fetch` through a tunnel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kit.clients import need, run
from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess

# The connector of node's own fetch can be replaced, which is how a tunnel gets under it without a package.
SCRIPT = """
const http = require('http');
const [proxyHost, proxyPort, target] = process.argv.slice(2);
const url = new URL(target);
const via = { host: proxyHost, port: proxyPort };

function plain() {
  return new Promise((resolve, reject) => {
    const options = { ...via, path: target, headers: { host: url.host }, agent: false };
    http.get(options, (answer) => {
      let body = '';
      answer.on('data', (data) => { body += data; });
      answer.on('end', () => resolve({
        status: answer.statusCode, phrase: answer.statusMessage, code: answer.headers['x-proxy-error'], body,
      }));
    }).on('error', reject);
  });
}

function tunnel(options, done) {
  const path = `${options.hostname}:${options.port}`;
  const request = http.request({ ...via, method: 'CONNECT', path, agent: false });
  request.on('connect', (answer, socket) => {
    if (answer.statusCode === 200) return done(null, socket);
    socket.destroy();
    done(Object.assign(new Error(answer.statusMessage), { code: answer.headers['x-proxy-error'] }));
  });
  request.on('error', done);
  request.end();
}

async function fetched() {
  await fetch('http://127.0.0.1:1').catch(() => {});
  const Agent = globalThis[Symbol.for('undici.globalDispatcher.1')].constructor;
  const dispatcher = new Agent({ connect: tunnel });
  try {
    const answer = await fetch(target, { dispatcher });
    return { status: answer.status, body: await answer.text() };
  } catch (error) {
    return { error: error.cause.message, code: error.cause.code };
  } finally {
    await dispatcher.close();
  }
}

(async () => console.log(JSON.stringify({ plain: await plain(), fetched: await fetched() })))();
"""


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


def node(proxy: ProxyProcess, target: str, folder: Path) -> Any:
    script = folder / "client.js"
    script.write_text(SCRIPT)
    done = run([need("node"), script, *proxy.http.split(":"), target], folder)
    assert done.code == 0, done
    return json.loads(done.out)


def test_allowed(proxy: ProxyProcess, origin: HttpOrigin, tmp_path: Path) -> None:
    seen = node(proxy, f"http://allowed.test:{origin.port}/t", tmp_path)
    assert (seen["plain"]["status"], seen["plain"]["body"]) == (200, "ok from shared\n")
    assert seen["fetched"] == {"status": 200, "body": "ok from shared\n"}


def test_blocked(proxy: ProxyProcess, origin: HttpOrigin, tmp_path: Path) -> None:
    seen = node(proxy, f"http://denied.test:{origin.port}/t", tmp_path)
    phrase = "Blocked by network policy (blocked-by-denylist)"
    assert (seen["plain"]["status"], seen["plain"]["phrase"]) == (403, phrase)
    assert seen["plain"]["code"] == "blocked-by-denylist"
    assert seen["fetched"] == {"error": phrase, "code": "blocked-by-denylist"}
