"""A real Chromium without a window, and pages for it."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.host.programs import program


class Page:
    """A page on loopback, with an origin of its own, whose script calls `report(text)`."""

    def __init__(self) -> None:
        self.script = ""
        self.reports: queue.Queue[str] = queue.Queue()
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                report = 'const report = (body) => fetch("/report", { method: "POST", body });'
                body = f"<!doctype html><script>{report}\n{page.script}</script>"
                self.wfile.write(body.encode())

            def do_POST(self) -> None:
                page.reports.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: what counts is the report."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def report_of(page: Page, home: Path, ca: Path | None) -> str:
    """What the page reports in a browser with a new profile, which trusts this authority too."""
    with _browser(home, page.origin, ca):
        return page.reports.get(timeout=60)


@contextlib.contextmanager
def _browser(home: Path, url: str, ca: Path | None) -> Iterator[None]:
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    certutil = [program("certutil"), "-d", f"sql:{store}"]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True)
    if ca is not None:
        subprocess.run([*certutil, "-A", "-t", "C,,", "-n", "ca", "-i", str(ca)], check=True)
    # Its sandbox does not work for root.
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update"]
    options += [f"--user-data-dir={home / 'profile'}"]
    with (home / "browser.log").open("wb") as log:
        running = subprocess.Popen(
            [program("chromium"), *options, url],
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
            stdout=log,
            stderr=log,
        )
        try:
            yield
        finally:
            running.terminate()
            running.wait(30)
