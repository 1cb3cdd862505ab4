"""Security updates on the instance, with stand-ins for dnf, rpm and systemd."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.host.chroma_servers import ChromaServer
from tests.host.programs import HOST, wait_until
from tests.host.proxy import Proxy

DNF = """\
#!/bin/bash
echo "dnf $*" >>"$CALLS"
cat /proc/self/oom_score_adj >>"$ROOT/oom"
[[ ! -e $ROOT/hangs ]] || sleep 60
case $* in
    *--downloadonly*)
        [[ ! -e $ROOT/no-repository ]] || { echo 'Error: Failed to download metadata' >&2; exit 1; }
        [[ ! -e $ROOT/maintenance-begins ]] || echo $((EPOCHSECONDS + 600)) >"$MAINTENANCE"
        ;;
    *--cacheonly*)
        [[ ! -e $ROOT/broken ]] || { echo 'Error: Transaction failed' >&2; exit 1; }
        [[ ! -e $ROOT/updated ]] || cp "$ROOT/updated" "$ROOT/packages"
        ;;
esac
"""
SYSTEMCTL = """\
#!/bin/bash
echo "systemctl $*" >>"$CALLS"
[[ ! -e $ROOT/no-$1 ]] || exit 1
"""
BEFORE = "docker-25.0-1.x86_64\nhaproxy-3.0.8-1.x86_64\nopenssl-libs-3.2.2-1.x86_64\n"
OPENSSL = BEFORE.replace("3.2.2-1", "3.2.2-2")


class Instance:
    """An instance below a folder, whose units run processes that do not exist."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "bin").mkdir()
        (root / "settings").write_text("REGION=eu-central-1\n")
        (root / "packages").write_text(BEFORE)
        (root / "calls").touch()
        for name, text in (
            ("dnf", DNF),
            ("rpm", '#!/bin/bash\ncat "$ROOT/packages"\n'),
            ("systemctl", SYSTEMCTL),
        ):
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)

    def runs(self, unit: str, *mapped: str) -> None:
        """The unit has a process with these files."""
        pid = str(len(list(self.root.glob("units/*"))) + 100)
        (self.root / "units" / unit).mkdir(parents=True)
        (self.root / "units" / unit / "cgroup.procs").write_text(f"{pid}\n")
        (self.root / "processes" / pid).mkdir(parents=True)
        lines = [f"7f00-7f10 r-xp 00000000 103:01 123   {file}\n" for file in mapped]
        (self.root / "processes" / pid / "maps").write_text("".join(lines))

    def updates(self, packages: str) -> None:
        """There are updates, after which these packages are installed."""
        (self.root / "updated").write_text(packages)

    def is_so(self, name: str) -> None:
        (self.root / name).touch()

    def run(self, **environment: str) -> str:
        """What the program says."""
        done = subprocess.run(
            [str(HOST / "updates")],
            env={
                "PATH": f"{self.root}/bin:{os.environ['PATH']}",
                "ROOT": str(self.root),
                "CALLS": str(self.root / "calls"),
                "SETTINGS": str(self.root / "settings"),
                "MAINTENANCE": str(self.root / "maintenance"),
                "PROCESSES": str(self.root / "processes"),
                "UNITS": str(self.root / "units"),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        self.code = done.returncode
        return done.stdout

    def called(self, program: str) -> list[str]:
        lines = (self.root / "calls").read_text().splitlines()
        return [line.removeprefix(f"{program} ") for line in lines if line.startswith(program)]


def events(said: str) -> list[tuple[str, str]]:
    """The events among the lines, with their messages."""
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [(line["event"], line["message"]) for line in lines]


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path)


def test_security_updates_of_the_newest_release_are_installed_without_a_kernel(
    instance: Instance,
) -> None:
    instance.updates(OPENSSL)
    said = instance.run()
    assert instance.code == 0
    for call in instance.called("dnf"):
        assert {"upgrade", "-y", "--security", "--releasever=latest"} <= set(call.split())
        assert "--exclude=kernel*" in call
    assert events(said) == [("updates_installed", "openssl-libs-3.2.2-2.x86_64")]


def test_packages_are_downloaded_before_any_is_replaced(instance: Instance) -> None:
    instance.updates(OPENSSL)
    instance.run()
    first, second = instance.called("dnf")
    assert "--downloadonly" in first
    assert "--cacheonly" in second


def test_when_memory_is_full_a_download_ends_rather_than_chroma_and_no_installation(
    instance: Instance,
) -> None:
    instance.updates(OPENSSL)
    instance.run()
    download, installation = (instance.root / "oom").read_text().split()
    assert download == "1000"
    assert installation == Path("/proc/self/oom_score_adj").read_text().strip()


def test_without_updates_there_is_no_event_and_nothing_restarts(instance: Instance) -> None:
    instance.runs("chroma-proxy.service", "/usr/sbin/haproxy (deleted)")
    said = instance.run()
    assert said == "updates: none\n"
    assert instance.called("systemctl") == []


@pytest.mark.parametrize(
    "file", ["/usr/sbin/haproxy (deleted)", "/usr/lib64/libssl.so.3.2.2 (deleted)"]
)
def test_a_proxy_on_replaced_files_takes_up_the_new_ones_without_a_restart(
    instance: Instance, file: str
) -> None:
    instance.updates(OPENSSL)
    instance.runs("chroma-proxy.service", "/usr/lib64/libc.so.6", file)
    instance.run()
    assert instance.called("systemctl") == ["reload chroma-proxy.service"]


def test_what_runs_on_files_that_are_still_there_goes_on(instance: Instance) -> None:
    instance.updates(OPENSSL)
    instance.runs("chroma-proxy.service", "/usr/sbin/haproxy", "/memfd:x (deleted)", "[heap]")
    instance.runs("docker.service", "/usr/bin/dockerd")
    instance.runs("chroma-relay.service", "/dev/zero (deleted)")
    instance.run()
    assert instance.called("systemctl") == []


def test_the_relay_is_restarted(instance: Instance) -> None:
    instance.updates(OPENSSL)
    instance.runs("chroma-relay.service", "/usr/lib64/libssl.so.3.2.2 (deleted)")
    instance.run()
    assert instance.called("systemctl") == ["try-restart chroma-relay.service"]


@pytest.mark.parametrize(
    ("unit", "file"),
    [
        ("docker.service", "/usr/bin/dockerd (deleted)"),
        ("containerd.service", "/usr/bin/containerd (deleted)"),
    ],
)
def test_docker_restarts_and_chroma_with_it_when_docker_itself_was_replaced(
    instance: Instance, unit: str, file: str
) -> None:
    instance.updates(BEFORE.replace("docker-25.0-1", "docker-25.0-2"))
    instance.runs(unit, file)
    said = instance.run()
    assert instance.called("systemctl") == ["restart containerd.service docker.service"]
    assert "restarting Docker, and Chroma with it" in said


def test_an_update_of_a_library_restarts_neither_docker_nor_chroma(instance: Instance) -> None:
    instance.updates(OPENSSL)
    instance.runs("docker.service", "/usr/bin/dockerd", "/usr/lib64/libc.so.6 (deleted)")
    instance.run()
    assert instance.called("systemctl") == []


def test_while_somebody_works_on_the_server_nothing_is_updated(instance: Instance) -> None:
    instance.updates(OPENSSL)
    (instance.root / "maintenance").write_text(f"{int(time.time()) + 600}\n")
    said = instance.run()
    assert (instance.code, instance.called("dnf")) == (0, [])
    assert "chroma-maintenance" in said


def test_who_begins_to_work_during_the_download_is_not_disturbed(instance: Instance) -> None:
    instance.updates(OPENSSL)
    instance.is_so("maintenance-begins")
    instance.run()
    [only] = instance.called("dnf")
    assert "--downloadonly" in only
    assert (instance.root / "packages").read_text() == BEFORE


def test_a_repository_that_cannot_be_reached_is_said(instance: Instance) -> None:
    instance.is_so("no-repository")
    said = instance.run()
    assert instance.code == 1
    [(event, message)] = events(said)
    assert event == "updates_failed"
    assert "cannot be downloaded: Error: Failed to download metadata" in message


def test_a_repository_that_never_answers_is_given_up(instance: Instance) -> None:
    instance.is_so("hangs")
    said = instance.run(DOWNLOAD_TIMEOUT="1")
    assert instance.code == 1
    assert events(said) == [
        ("updates_failed", "security updates cannot be downloaded: no end after 1 s")
    ]


def test_an_installation_that_fails_is_said_and_nothing_restarts(instance: Instance) -> None:
    instance.is_so("broken")
    instance.runs("chroma-proxy.service", "/usr/sbin/haproxy (deleted)")
    said = instance.run()
    assert instance.code == 1
    assert events(said)[0][1].endswith("cannot be installed: Error: Transaction failed")
    assert instance.called("systemctl") == []


def test_a_proxy_that_cannot_take_up_the_new_files_keeps_nothing_else_from_it(
    instance: Instance,
) -> None:
    instance.updates(OPENSSL)
    instance.is_so("no-reload")
    instance.runs("chroma-proxy.service", "/usr/sbin/haproxy (deleted)")
    instance.runs("chroma-relay.service", "/usr/sbin/haproxy (deleted)")
    said = instance.run()
    assert instance.code == 0
    assert "the proxy goes on with the previous files" in said
    assert instance.called("systemctl")[-1] == "try-restart chroma-relay.service"


def test_requests_do_not_fail_while_the_proxy_takes_up_a_new_program(
    make_proxy: Callable[..., Proxy], chroma: ChromaServer
) -> None:
    """What `systemctl reload` sends: the master replaces its worker, which ends what it has begun."""
    proxy = make_proxy(chroma.address).start()
    assert proxy.haproxy is not None
    codes: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            codes.append(proxy.get("/api/v2/tenants/default_tenant", proxy.right).status_code)

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask) for _ in range(4)]
        try:
            for workers in (2, 3):
                more_than(20, codes)
                proxy.haproxy.send_signal(signal.SIGUSR2)
                loaded = partial(loads, proxy, workers)
                wait_until(loaded, "another worker")
            more_than(20, codes)
        finally:
            stop.set()
    for client in clients:
        client.result()
    assert set(codes) == {200}


def loads(proxy: Proxy, count: int) -> bool:
    """Whether the proxy has started so many workers."""
    return proxy.log.read_text().count("Loading success") >= count


def more_than(count: int, codes: list[int]) -> None:
    """Waits for so many further requests."""
    before = len(codes)
    wait_until(lambda: len(codes) > before + count, "requests")
