"""The host files as they stand, read by the programs that will run them."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import pytest

from tests.host.programs import HOST, program
from tests.host.proxy import certificate

SCRIPTS = [
    path
    for path in HOST.iterdir()
    if b"bash" in path.read_bytes().split(b"\n")[0] and path.is_file()
]
GOOD = {"AUTH": "token", "AUTH_TOKEN_HEADER": "Authorization", "CORS_ALLOW_ORIGINS": ""}


def check(
    haproxy: str, settings: dict[str, str], tmp_path: Path
) -> subprocess.CompletedProcess[str]:
    credentials = tmp_path / "credentials"
    credentials.write_text(f"{'0' * 64} admin:admin\n")
    pem = tmp_path / "server.pem"
    pem.write_bytes(certificate())
    return subprocess.run(
        [haproxy, "-c", "-f", str(HOST / "proxy.cfg")],
        env={
            "PROXY_CREDENTIALS": str(credentials),
            "PROXY_TOO_LARGE": os.devnull,
            "PROXY_ACCESS": str(HOST / "access.map"),
            "PROXY_CERTIFICATE": str(pem),
            "PATH": os.environ["PATH"],
        }
        | settings,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    command = [program("shellcheck"), "--external-sources", str(script)]
    checked = subprocess.run(command, cwd=HOST.parents[1], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("tls", "auth", "token_header", "cors"),
    list(
        itertools.product(
            ["optional", "required", "off"],
            ["token", "basic", "none"],
            ["", "Authorization", "X-Chroma-Token"],
            ["", "*", "https://a.example", "https://a.example http://localhost:3000"],
        )
    ),
)
def test_haproxy_takes_the_configuration_in_every_mode(
    haproxy_program: str, tmp_path: Path, tls: str, auth: str, token_header: str, cors: str
) -> None:
    settings = {"AUTH": auth, "AUTH_TOKEN_HEADER": token_header, "CORS_ALLOW_ORIGINS": cors}
    settings["TLS"] = tls
    checked = check(haproxy_program, settings, tmp_path)
    assert checked.returncode == 0, checked.stderr
    # HAProxy 2.6 says so of every frontend that becomes HTTP only with its first byte.
    expected = "HTTP log/header format not usable with frontend 'proxy'"
    said = [line for line in checked.stderr.splitlines() if "WARNING" in line]
    assert [line for line in said if expected not in line] == []


@pytest.mark.parametrize(
    "change",
    [
        {"AUTH": ""},
        {"AUTH": "None"},
        {"AUTH": "tokens"},
        {"AUTH_TOKEN_HEADER": "Cookie"},
    ],
    ids=str,
)
def test_haproxy_refuses_an_unknown_mode(
    haproxy_program: str, tmp_path: Path, change: dict[str, str]
) -> None:
    checked = check(haproxy_program, GOOD | change, tmp_path)
    assert checked.returncode == 1
    assert "AUTH must be token" in checked.stderr


def test_haproxy_refuses_to_run_without_any_setting(haproxy_program: str, tmp_path: Path) -> None:
    assert check(haproxy_program, {}, tmp_path).returncode == 1


def test_haproxy_refuses_to_run_without_the_file_of_credentials(
    haproxy_program: str, tmp_path: Path
) -> None:
    checked = check(
        haproxy_program, GOOD | {"PROXY_CREDENTIALS": str(tmp_path / "missing")}, tmp_path
    )
    assert checked.returncode == 1


def unit(name: str) -> dict[str, str]:
    """What a unit says, without its sections; of what is said twice, the last."""
    lines = (HOST / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_relay_and_proxy_run_as_different_users_so_neither_reaches_what_is_the_others() -> None:
    relay, proxy = unit("chroma-relay.service"), unit("chroma-proxy.service")
    assert (relay["DynamicUser"], proxy["User"]) == ("true", "haproxy")
    assert {"User", "Group", "SupplementaryGroups"}.isdisjoint(relay)
    # Its folder holds the admin socket.
    assert proxy["RuntimeDirectoryMode"] == "0700"


@pytest.mark.parametrize("name", ["chroma-relay.service", "chroma-proxy.service"])
def test_neither_relay_nor_proxy_has_a_capability(name: str) -> None:
    assert unit(name)["CapabilityBoundingSet"] == ""
    assert "AmbientCapabilities" not in unit(name)


def test_the_configuration_holds_no_credential_and_needs_no_root() -> None:
    lines = (HOST / "proxy.cfg").read_text().splitlines()
    words = {line.split()[0] for line in lines if line}
    assert {"user", "group", "chroot", "userlist", "password"}.isdisjoint(words)
