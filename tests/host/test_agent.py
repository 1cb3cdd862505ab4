"""How the CloudWatch agent gets onto the instance, by a stand-in for its packages."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.host.programs import HOST

CTL = """\
#!/bin/sh
echo "ctl $*" >>"$CALLS"
cp "${7#file:}" "$CALLS.configuration"
"""


class Agent:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.calls.touch()
        self.ctl = folder / "agent" / "ctl"
        self.drop_in = folder / "agent.service.d" / "chroma.conf"
        (folder / "bin").mkdir()
        (folder / "settings").write_text("SERVER=Search/Chroma\nLOG_GROUP=Search-Logs\n")

    def packages(self, dnf: str) -> None:
        program = self.folder / "bin" / "dnf"
        program.write_text(f'#!/bin/sh\necho "dnf $*" >>"$CALLS"\n{dnf}\n')
        program.chmod(0o755)

    def there(self, ctl: str = CTL) -> None:
        self.ctl.parent.mkdir(exist_ok=True)
        self.ctl.write_text(ctl)
        self.ctl.chmod(0o755)

    def start(self, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [HOST / "agent"],
            env={
                "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
                "SETTINGS": f"{self.folder}/settings",
                "PROGRAM_FOLDER": str(HOST),
                "CONFIGURATION": str(self.folder),
                "AGENT_CTL": str(self.ctl),
                "AGENT_DROP_IN": str(self.drop_in),
                "CALLS": str(self.calls),
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path)


def test_the_agent_is_installed_limited_configured_and_started(agent: Agent) -> None:
    (agent.folder / "ctl").write_text(CTL)
    agent.packages(
        f'case $* in *--cacheonly*) install -D -m 755 "{agent.folder}/ctl" "{agent.ctl}" ;; esac'
    )
    done = agent.start()
    assert done.returncode == 0, done.stderr
    download, install, ctl = agent.calls.read_text().splitlines()
    assert download == "dnf install -y -q --downloadonly amazon-cloudwatch-agent"
    assert install == "dnf install -y -q --cacheonly amazon-cloudwatch-agent"
    configuration = agent.folder / "cloudwatch-agent.json"
    assert ctl == f"ctl -a fetch-config -m ec2 -s -c file:{configuration}"
    found = json.loads((agent.folder / "calls.configuration").read_text())
    [file] = found["logs"]["logs_collected"]["files"]["collect_list"]
    assert file["log_group_name"] == "Search-Logs"
    assert agent.drop_in.read_text() == (HOST / "cloudwatch-agent.conf").read_text()


def test_an_agent_that_is_there_is_not_installed_again(agent: Agent) -> None:
    agent.there()
    assert agent.start().returncode == 0
    assert "dnf" not in agent.calls.read_text()


def test_an_agent_that_no_repository_has_is_said(agent: Agent) -> None:
    agent.packages("echo 'Error: Unable to find a match: amazon-cloudwatch-agent' >&2; exit 1")
    done = agent.start()
    assert done.returncode == 1
    assert "the CloudWatch agent is not installed" in done.stdout
    assert "Unable to find a match" in done.stderr


def test_a_download_that_hangs_is_ended_and_an_installation_is_not(agent: Agent) -> None:
    agent.packages("case $* in *--downloadonly*) exec sleep 50 ;; esac")
    assert agent.start(DOWNLOAD_TIMEOUT="1").returncode == 1
    (agent.folder / "ctl").write_text(CTL)
    agent.packages(
        "case $* in *--cacheonly*) sleep 3; "
        f'install -D -m 755 "{agent.folder}/ctl" "{agent.ctl}" ;; esac'
    )
    assert agent.start(DOWNLOAD_TIMEOUT="1").returncode == 0


def test_an_agent_that_cannot_be_installed_is_said(agent: Agent) -> None:
    agent.packages("case $* in *--cacheonly*) echo 'Error: Transaction failed' >&2; exit 1 ;; esac")
    done = agent.start()
    assert done.returncode == 1
    assert "the CloudWatch agent is not installed, see the lines above" in done.stdout


@pytest.mark.parametrize("unit", ["chroma-agent", "chroma-status"])
def test_when_memory_is_full_it_is_not_chroma_that_ends_for_it(unit: str) -> None:
    assert "\nOOMScoreAdjust=1000\n" in (HOST / f"{unit}.service").read_text()


def test_an_agent_that_refuses_its_configuration_is_said_with_the_reason(agent: Agent) -> None:
    agent.there("#!/bin/sh\necho 'Under path : /logs | Error : log_group_name'; exit 99\n")
    done = agent.start()
    assert done.returncode == 1
    assert "the CloudWatch agent is not started: Under path : /logs | Error" in done.stdout


def test_what_fails_is_tried_again() -> None:
    unit = (HOST / "chroma-agent.service").read_text()
    assert "Restart=on-failure\nRestartSec=10min\n" in unit
    assert "Type=oneshot\nRemainAfterExit=true\n" in unit
