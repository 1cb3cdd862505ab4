"""Pages in a real Chromium call the server over TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.browser import Page, report_of
from tests.host.chroma_servers import ChromaServer
from tests.host.haproxys import AMAZON_LINUX, haproxy
from tests.host.programs import program
from tests.host.proxy import Proxy

TOKEN = "test-token"
SCRIPT = """
fetch("URL", { headers: { Authorization: "Bearer TOKEN" } })
  .then(async (response) => report(`${response.status} ${await response.text()}`))
  .catch((error) => report(String(error)));
"""
REFUSED = "TypeError: Failed to fetch"


def script(proxy: Proxy, token: str = TOKEN) -> str:
    url = f"{proxy.https_url}/api/v2/auth/identity"
    return SCRIPT.replace("URL", url).replace("TOKEN", token)


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of an origin that the server lists."""
    page = Page()
    yield page
    page.close()


@pytest.fixture
def proxy(page: Page, chroma: ChromaServer, tmp_path: Path) -> Iterator[Proxy]:
    program("chromium")
    folder = tmp_path / "proxy"
    folder.mkdir()
    release = haproxy(AMAZON_LINUX)
    origins = {"cors": page.origin, "tls": "required"}
    proxy = Proxy(folder, chroma.address, credential=TOKEN, program=release, **origins).start()
    yield proxy
    proxy.stop()


def asked(proxy: Proxy) -> list[tuple[str, str, str]]:
    """Who asked how, by the proxy's log, and over what."""
    return [(it["method"], it["auth"], it["tls"]) for it in proxy.log_lines()]


def test_a_page_of_a_listed_origin_is_answered_over_tls(
    page: Page, proxy: Proxy, tmp_path: Path
) -> None:
    page.script = script(proxy)
    assert report_of(page, tmp_path / "home", proxy.ca).startswith('200 {"user_id":')
    proxy.last_log_line(2)
    assert asked(proxy) == [("OPTIONS", "preflight", "TLSv1.3"), ("GET", "ok", "TLSv1.3")]


def test_such_a_page_reads_why_its_credential_was_refused(
    page: Page, proxy: Proxy, tmp_path: Path
) -> None:
    page.script = script(proxy, "wrong")
    report = report_of(page, tmp_path / "home", proxy.ca)
    assert report.startswith('401 {"error":"AuthorizationError"')


def test_a_page_of_another_origin_gets_nothing(proxy: Proxy, tmp_path: Path) -> None:
    other = Page()
    other.script = script(proxy)
    assert report_of(other, tmp_path / "home", proxy.ca) == REFUSED
    other.close()
    proxy.last_log_line(1)
    assert asked(proxy) == [("OPTIONS", "origin", "TLSv1.3")]


def test_a_browser_that_does_not_trust_the_authority_sends_no_credential(
    page: Page, proxy: Proxy, tmp_path: Path
) -> None:
    page.script = script(proxy)
    assert report_of(page, tmp_path / "home", None) == REFUSED
    assert proxy.last_log_line(1)["end"] == "SSL handshake failure"
    proxy.stop()
    assert {method for method, _, _ in asked(proxy)} == {"-"}
