"""A data volume that fills up: writes stop while there is room for the rest."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.host.programs import HOST
from tests.host.proxy import Proxy
from tests.host.recorder import Recorder

DATABASE = "/api/v2/tenants/default_tenant/databases/default_database"
COLLECTION = f"{DATABASE}/collections/1"
WRITES = [f"{COLLECTION}/add", f"{COLLECTION}/upsert", f"{COLLECTION}/update"]
READS = [
    f"{DATABASE}/collections",
    f"{COLLECTION}/get",
    f"{COLLECTION}/query",
    f"{COLLECTION}/search",
]


@pytest.fixture(scope="module")
def proxy(recorder: Recorder, make_proxy: Callable[..., Proxy]) -> Proxy:
    return make_proxy(recorder.address).start()


def guard(proxy: Proxy, free: int, size: int = 24_000) -> str:
    """What the health check says of a volume with so many MiB free."""
    (proxy.folder / "settings").touch()
    script = f"df() {{ echo size avail; echo {size} {free}; }}; guard_disk"
    done = subprocess.run(
        ["bash", "-c", f". {HOST}/health-check; {script}"],
        env={
            "PATH": os.environ["PATH"],
            "SETTINGS": str(proxy.folder / "settings"),
            "MOUNT": str(proxy.folder),
            "DISK_FULL": str(proxy.folder / "disk-full"),
            "PROXY_ADMIN_SOCKET": str(proxy.admin_socket),
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def post(proxy: Proxy, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.post(proxy.url + path, headers=headers or proxy.right, json={}, timeout=30)


def test_on_an_almost_full_volume_what_adds_records_is_refused_and_the_rest_is_served(
    proxy: Proxy,
) -> None:
    guard(proxy, free=1024)
    assert {post(proxy, path).status_code for path in WRITES} == {200}
    assert guard(proxy, free=1023) == "1023 MiB free: writes are refused\n"
    for path in WRITES:
        answer = post(proxy, path)
        assert answer.status_code == 507
        assert answer.json()["message"].startswith("The data volume is almost full")
    assert {post(proxy, path).status_code for path in READS} == {200}
    assert post(proxy, f"{COLLECTION}/delete").status_code == 200
    assert proxy.get(f"{DATABASE}/collections", proxy.right).status_code == 200
    assert post(proxy, WRITES[0], proxy.wrong).status_code == 401
    assert guard(proxy, free=1023) == "", "it is said once"
    guard(proxy, free=1024)
    assert {post(proxy, path).status_code for path in WRITES} == {200}


def test_the_reserve_of_a_small_volume_is_a_twentieth(proxy: Proxy) -> None:
    guard(proxy, size=2000, free=100)
    assert post(proxy, WRITES[0]).status_code == 200
    guard(proxy, size=2000, free=99)
    assert post(proxy, WRITES[0]).status_code == 507


def test_a_proxy_that_was_restarted_is_told_again(proxy: Proxy) -> None:
    guard(proxy, free=10)
    proxy.stop()
    proxy.start()
    guard(proxy, free=10)
    assert post(proxy, WRITES[0]).status_code == 507


def test_without_a_proxy_the_check_goes_on(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path, "127.0.0.1:1")
    assert "writes are refused" in guard(proxy, free=10)


def test_kept_images_give_way_to_the_data_only_when_little_is_left(proxy: Proxy) -> None:
    image = proxy.folder / "images" / "x86_64-0.tar.gz"
    image.parent.mkdir()
    image.touch()
    guard(proxy, free=300)
    assert image.exists()
    guard(proxy, free=256)
    assert not image.exists()
