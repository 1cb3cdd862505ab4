"""The releases of HAProxy that the tests run: the distribution's own, and 3.0 as on Amazon Linux 2023.

Debian 13 has 3.0. On another Debian its packages are unpacked, not installed, beside the rest, and run
by the dynamic linker among them. They are kept under the user's cache folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.host.chroma_servers import made_once
from tests.host.programs import program

PACKAGES = Path(__file__).parent / "debian-13-packages.txt"
INSTALLED, AMAZON_LINUX = "installed", "3.0"
SUITE = "trixie"
WRAPPER = """#!/bin/sh
# HAProxy executes itself again, by the name that it was called by.
exec {linker} --argv0 "$0" --library-path {libraries} {haproxy} "$@"
"""


def haproxy(release: str) -> str:
    """The path of that release of HAProxy. Without it the test is skipped; in CI it fails."""
    if release == INSTALLED:
        return program("haproxy")
    with made_once("haproxy-3.0", PACKAGES, Path(__file__)) as (folder, empty):
        if empty:
            try:
                _unpack(folder)
            except (OSError, subprocess.CalledProcessError) as error:
                shutil.rmtree(folder / "root", ignore_errors=True)
                reason = f"no HAProxy 3.0, which takes a Debian's apt-get: {error}"
                (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return str(folder / "haproxy")


def _unpack(folder: Path) -> None:
    """Downloads Debian 13's packages from where this Debian gets its own."""
    root, state = folder / "root", folder / "apt"
    for partial in ("lists/partial", "cache/archives/partial"):
        (state / partial).mkdir(parents=True, exist_ok=True)
    fields = "$(REPO_URI) $(LABEL)"
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    mirror = next(
        line.split()[0] for line in targets.stdout.splitlines() if line.split()[1:] == ["Debian"]
    )
    sources = state / "debian-13.list"
    sources.write_text(f"deb {mirror} {SUITE} main\n")
    apt = ["apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={sources}"]
    for option in (
        "Dir::Etc::sourceparts=-",
        f"Dir::State::lists={state}/lists",
        f"Dir::Cache={state}/cache",
        "APT::Sandbox::User=root",
        "Acquire::Languages=none",
    ):
        apt += ["-o", option]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", *PACKAGES.read_text().split()], cwd=state, check=True)
    for package in state.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
    shutil.rmtree(state)
    [linker] = (root / "usr/lib").glob("*-linux-*/ld-linux*.so.*")
    wrapper = folder / "haproxy"
    wrapper.write_text(
        WRAPPER.format(linker=linker, libraries=linker.parent, haproxy=root / "usr/sbin/haproxy")
    )
    wrapper.chmod(0o755)
    subprocess.run([wrapper, "-v"], check=True, stdout=subprocess.DEVNULL)
