"""Upstream proxies: what the environment means, and what goes past them (spec A6)."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.upstream import read_routes

from .upstream_routes import chosen, nobody, on_3128, routes_of

PASSWORD = "pass-canary"


# environment, the proxy of a tunnel, the proxy of a plain request
ORDER = [
    pytest.param({}, None, None, id="nothing set is a direct connection"),
    pytest.param({"HTTPS_PROXY": "s", "HTTP_PROXY": "p", "ALL_PROXY": "a"}, "s", "p", id="each has its own first"),
    pytest.param({"HTTP_PROXY": "p", "ALL_PROXY": "a"}, "p", "p", id="HTTP_PROXY serves tunnels as well"),
    pytest.param({"HTTPS_PROXY": "s", "ALL_PROXY": "a"}, "s", "a", id="HTTPS_PROXY serves no plain request"),
    pytest.param({"HTTPS_PROXY": "s"}, "s", None, id="plain requests go directly when only HTTPS_PROXY is set"),
    pytest.param({"ALL_PROXY": "a"}, "a", "a", id="ALL_PROXY serves what is left"),
    pytest.param({"http_proxy": "l"}, "l", "l", id="small letters count"),
    pytest.param({"HTTP_PROXY": "u", "http_proxy": "l"}, "u", "u", id="capitals count first"),
    pytest.param({"HTTP_PROXY": " ", "http_proxy": "l"}, "l", "l", id="blank capitals are passed over"),
    pytest.param({"HTTP_PROXY": "", "ALL_PROXY": "a"}, "a", "a", id="a blank variable is not set"),
    pytest.param({"https_proxy": "l", "HTTP_PROXY": "p"}, "l", "p", id="the variable comes before its spelling"),
    pytest.param({"Http_Proxy": "m"}, None, None, id="mixed letters do not count"),
]


@pytest.mark.parametrize(("environ", "tunnel", "plain"), ORDER)
def test_the_variables_have_an_order(environ: dict[str, str], tunnel: str | None, plain: str | None) -> None:
    routes = routes_of(**{name: f"{value}.test:8080" if value.strip() else value for name, value in environ.items()})
    expected = [name and f"http://{name}.test:8080" for name in (tunnel, plain)]
    assert [chosen(routes), chosen(routes, secure=False)] == expected


# value, the proxy it means, user and password
VALUES = [
    pytest.param("http://proxy.test:8080", "http://proxy.test:8080", None, id="a URL"),
    pytest.param(" http://proxy.test:8080/\n", "http://proxy.test:8080", None, id="blanks and a slash around it"),
    pytest.param("HTTP://Proxy.Test.:8080", "http://proxy.test:8080", None, id="case and the final dot"),
    pytest.param("https://proxy.test", "https://proxy.test:443", None, id="https has a port of its own"),
    pytest.param("http://proxy.test", "http://proxy.test:80", None, id="http has a port of its own"),
    pytest.param("proxy.test:3128", "http://proxy.test:3128", None, id="no scheme is http"),
    pytest.param("proxy", "http://proxy:80", None, id="one word is a host"),
    pytest.param("http://10.0.0.1:3128", "http://10.0.0.1:3128", None, id="an address"),
    pytest.param("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128", None, id="an IPv6 address"),
    pytest.param("http://u:p@proxy.test:80", "http://proxy.test:80", "u:p", id="credentials"),
    pytest.param("u:p@proxy.test:80", "http://proxy.test:80", "u:p", id="credentials without a scheme"),
    pytest.param("http://u@proxy.test:80", "http://proxy.test:80", "u:", id="a user without a password"),
    pytest.param("http://@proxy.test:80", "http://proxy.test:80", None, id="empty credentials are none"),
    pytest.param("http://u%40x:p%2F%3a%25@proxy.test:80", "http://proxy.test:80", "u@x:p/:%", id="escapes are decoded"),
    pytest.param("http://u:p@q@proxy.test:80", "http://proxy.test:80", "u:p@q", id="the last @ ends the password"),
    pytest.param("http://u:a:b@proxy.test:80", "http://proxy.test:80", "u:a:b", id="the first colon ends the user"),
    pytest.param("http://u:p%0D%0Ax@proxy.test:80", "http://proxy.test:80", "u:p\r\nx", id="line ends stay inside"),
    pytest.param("http://u:ä@proxy.test:80", "http://proxy.test:80", "u:ä", id="credentials are UTF-8"),
    pytest.param("http://u:\udcff@proxy.test:80", "http://proxy.test:80", "u:\udcff", id="or whatever bytes there are"),
]


@pytest.mark.parametrize(("value", "expected", "credentials"), VALUES)
def test_a_proxy_is_read_from_its_variable(value: str, expected: str, credentials: str | None) -> None:
    proxy = routes_of(ALL_PROXY=value).proxies["ALL_PROXY"]
    assert str(proxy) == expected
    basic = credentials and "Basic " + base64.b64encode(credentials.encode(errors="surrogateescape")).decode()
    assert proxy.authorization == basic


UNUSABLE = [
    pytest.param("socks5h://h:1080", "ignoring ALL_PROXY: non-http proxy protocol", id="another protocol"),
    pytest.param("http://", "ignoring ALL_PROXY: invalid proxy address (host is empty)", id="no host"),
    pytest.param("http://h:0", "invalid proxy address (port is not a number from 1 to 65535)", id="port 0"),
    pytest.param("http://h:http", "invalid proxy address (port is not a number from 1 to 65535)", id="a port in words"),
    pytest.param("http://::1:80", "invalid proxy address (host has more than one colon", id="IPv6 without brackets"),
    pytest.param("http://a b:80", "invalid proxy address (host has a character that no name has", id="a blank"),
    pytest.param(f"http://u:{PASSWORD}#@h:80", "user name and password as %XX)", id="a # in the password"),
    pytest.param(f"http://u:/{PASSWORD}@h:80", "user name and password as %XX)", id="a / in the password"),
    pytest.param(f"http://u:{PASSWORD}?@h", "user name and password as %XX)", id="a ? in the password"),
    pytest.param(f"http://u:{PASSWORD}@h:x", "port is not a number", id="credentials before a bad port"),
    pytest.param(f"socks5://u:{PASSWORD}@h:1", "non-http proxy protocol", id="credentials of another protocol"),
    pytest.param(f"http://u:{PASSWORD}", "port is not a number", id="credentials and no host"),
]


@pytest.mark.parametrize(("value", "warning"), UNUSABLE)
def test_what_cannot_be_used_is_warned_of_and_passed_over(value: str, warning: str) -> None:
    routes, warnings = read_routes({"ALL_PROXY": value, "all_proxy": "next.test:80"})
    assert len(warnings) == 1
    assert warning in warnings[0]
    assert PASSWORD not in warnings[0]
    assert chosen(routes) == "http://next.test:80"


def test_no_password_is_in_a_repr() -> None:
    routes = routes_of(ALL_PROXY=f"http://user:{PASSWORD}@proxy.test:80")
    encoded = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
    for text in (repr(routes), str(routes.proxies["ALL_PROXY"])):
        assert PASSWORD not in text
        assert encoded not in text
        assert "proxy.test" in text


PAST = [
    pytest.param("example.com", "example.com:443", id="the name"),
    pytest.param("example.com", "a.b.example.com:443", id="a name covers its subdomains"),
    pytest.param(".example.com", "a.example.com:443", id="a dot before the name"),
    pytest.param(".example.com", "example.com:443", id="a dot before the name covers the name, too"),
    pytest.param("*.example.com", "a.example.com:443", id="a star and a dot"),
    pytest.param("EXAMPLE.com.", "Example.COM:443", id="case and final dots do not matter"),
    pytest.param("x.test, example.com ,y.test", "example.com:443", id="one of several"),
    pytest.param("x.test example.com", "example.com:443", id="blanks between entries"),
    pytest.param("example.com:443", "example.com:443", id="a port that is asked for"),
    pytest.param("example.com:443", "a.example.com:443", id="a port and a subdomain"),
    pytest.param("com", "example.com:443", id="one label"),
    pytest.param("93.184.216.34", "93.184.216.34:443", id="an address"),
    pytest.param("93.184.216.34:443", "93.184.216.34:443", id="an address with the port that is asked for"),
    pytest.param("93.184.0.0/16", "93.184.216.34:443", id="a range"),
    pytest.param("2606:2800::/32", "[2606:2800::1]:443", id="an IPv6 range"),
    pytest.param("[2606:2800::1]:443", "[2606:2800::1]:443", id="an IPv6 address with a port"),
    pytest.param("*", "example.com:443", id="everything"),
    pytest.param("x.test,*", "example.com:443", id="everything, among others"),
    pytest.param("", "localhost:443", id="localhost always"),
    pytest.param("", "LOCALHOST.:443", id="localhost in any spelling"),
    pytest.param("", "a.b.localhost:443", id="names below localhost always"),
    pytest.param("", "127.0.0.1:443", id="loopback addresses always"),
    pytest.param("", "10.1.2.3:443", id="private addresses always"),
    pytest.param("", "[fe80::1]:443", id="link-local addresses always"),
    pytest.param("", "[64:ff9b::1]:443", id="translated addresses always"),
]
THROUGH = [
    pytest.param("example.com", "badexample.com:443", id="a longer label is another name"),
    pytest.param("example.com", "example.com.evil.test:443", id="a longer name is another name"),
    pytest.param("*.example.com", "example.com:443", id="a star leaves the name itself"),
    pytest.param("a.example.com", "example.com:443", id="a subdomain leaves the name above"),
    pytest.param("example.com:80", "example.com:443", id="another port"),
    pytest.param("93.184.0.0/16", "93.185.216.34:443", id="an address outside the range"),
    pytest.param("93.184.0.0/16", "example.com:443", id="a range is for addresses, and names are not looked up"),
    pytest.param("", "8.8.8.8:443", id="a public address"),
    pytest.param("", "notlocalhost:443", id="a name that only ends like localhost"),
]


@pytest.mark.parametrize(("exceptions", "target"), PAST)
def test_it_goes_past_the_proxy(exceptions: str, target: str) -> None:
    assert chosen(routes_of(ALL_PROXY="proxy.test:80", NO_PROXY=exceptions), target) is None


@pytest.mark.parametrize(("exceptions", "target"), THROUGH)
def test_it_goes_through_the_proxy(exceptions: str, target: str) -> None:
    assert chosen(routes_of(ALL_PROXY="proxy.test:80", NO_PROXY=exceptions), target) == "http://proxy.test:80"


def test_the_spellings_of_no_proxy() -> None:
    assert chosen(routes_of(ALL_PROXY="proxy.test:80", no_proxy="example.com")) is None
    assert chosen(routes_of(ALL_PROXY="proxy.test:80", NO_PROXY="x.test", no_proxy="example.com")) is not None


@pytest.mark.parametrize(
    ("entry", "warning"),
    [
        pytest.param("http://x.test", 'ignoring "http://x.test" in NO_PROXY: is a URL', id="a URL"),
        pytest.param("10.0.0.1/8", 'ignoring "10.0.0.1/8" in NO_PROXY: has bits set', id="a range with host bits"),
        pytest.param(".", 'ignoring "." in NO_PROXY: is empty', id="a dot"),
        pytest.param("x.test:0", 'ignoring "x.test:0" in NO_PROXY: ', id="port 0"),
        pytest.param("*:80", 'ignoring "*:80" in NO_PROXY: ', id="a star with a port"),
    ],
)
def test_an_unusable_exception_is_warned_of_and_the_others_count(entry: str, warning: str) -> None:
    routes, warnings = read_routes({"ALL_PROXY": "proxy.test:80", "NO_PROXY": f"{entry},example.com"})
    assert len(warnings) == 1
    assert warnings[0].startswith(warning)
    assert chosen(routes) is None


@given(
    st.dictionaries(
        st.sampled_from(["HTTP_PROXY", "https_proxy", "ALL_PROXY", "NO_PROXY"]),
        st.text(st.sampled_from("htps:/@%[]#?,*. \\\udcff\x00é1a-"), max_size=30),
    )
)
def test_no_environment_is_too_odd(environ: dict[str, str]) -> None:
    routes, warnings = read_routes(environ)
    assert all(line.startswith("ignoring ") for line in warnings)
    for target in ("example.com:443", "8.8.8.8:443", "[2606:2800::1]:443"):
        chosen(routes, target)


OWN = [
    pytest.param("http://127.0.0.1:3128", id="the address as bound"),
    pytest.param("http://localhost:3128", id="localhost"),
    pytest.param("LOCALHOST.:3128", id="localhost in another spelling"),
    pytest.param("http://127.9.9.9:3128", id="another loopback address"),
    pytest.param("http://[::1]:3128", id="the IPv6 loopback address"),
    pytest.param("http://[::ffff:127.0.0.1]:3128", id="a mapped address"),
    pytest.param("http://2130706433:3128", id="an address as a number"),
    pytest.param("https://127.0.0.1:3128", id="over TLS"),
]


@pytest.mark.parametrize("value", OWN)
def test_the_proxy_itself_is_passed_over(value: str) -> None:
    routes = routes_of(HTTP_PROXY=value, ALL_PROXY="next.test:80")
    proxy = routes.choose(parse_endpoint("example.com:443"), secure=True, is_own_listener=on_3128)
    assert str(proxy) == "http://next.test:80"
    assert routes.own(on_3128) == ["HTTP_PROXY"]
    assert routes.own(nobody) == []


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("http://127.0.0.1:3129", id="another port of this machine"),
        pytest.param("http://proxy.test:3128", id="a name, which is not looked up for that"),
        pytest.param("http://10.0.0.1:3128", id="the same port elsewhere"),
    ],
)
def test_another_proxy_is_not_the_proxy_itself(value: str) -> None:
    assert routes_of(HTTP_PROXY=value).own(on_3128) == []
