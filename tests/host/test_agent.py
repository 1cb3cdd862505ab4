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

    def start(self) -> subprocess.CompletedProcess[str]:
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
    agent.packages(f'install -D -m 755 "{agent.folder}/ctl" "{agent.ctl}"')
    done = agent.start()
    assert done.returncode == 0, done.stderr
    dnf, ctl = agent.calls.read_text().splitlines()
    assert dnf == "dnf install -y -q amazon-cloudwatch-agent"
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


def test_an_agent_that_refuses_its_configuration_is_said_with_the_reason(agent: Agent) -> None:
    agent.there("#!/bin/sh\necho 'Under path : /logs | Error : log_group_name'; exit 99\n")
    done = agent.start()
    assert done.returncode == 1
    assert "the CloudWatch agent is not started: Under path : /logs | Error" in done.stdout


def test_what_fails_is_tried_again() -> None:
    unit = (HOST / "chroma-agent.service").read_text()
    assert "Restart=on-failure\nRestartSec=10min\n" in unit
    assert "Type=oneshot\nRemainAfterExit=true\n" in unit
