"""The commands of the package, given what they do not expect, and the output that runs several."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.unit.synthesis import template

ROOT = Path(__file__).parents[2]


def command(
    folder: Path, module: str, *arguments: str, without: str = "boto3"
) -> subprocess.CompletedProcess[str]:
    """A command as it is run where another package is not installed."""
    run = (
        "import runpy, sys; "
        f"sys.path.insert(0, {str(ROOT)!r}); sys.modules[{without!r}] = None; "
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return subprocess.run(
        [sys.executable, "-c", run, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("module", ["published_template", "configure"])
def test_a_command_explains_itself_and_writes_nothing(tmp_path: Path, module: str) -> None:
    done = command(tmp_path, f"chroma_stack.{module}", "--help")
    assert done.returncode == 0
    assert f"usage: python -m chroma_stack.{module}" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["template"], ["--file"], ["a.json", "b.json"]])
def test_a_template_is_written_to_nothing_but_one_json_file(
    tmp_path: Path, arguments: list[str]
) -> None:
    done = command(tmp_path, "chroma_stack.published_template", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_publishing_without_boto3_says_what_to_install(tmp_path: Path) -> None:
    done = command(tmp_path, "chroma_stack.publish", "--bucket", "templates")
    assert done.returncode == 1
    assert "extra 'publish'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("package", ["httpx", "tqdm"])
def test_copying_without_its_packages_says_what_to_install(tmp_path: Path, package: str) -> None:
    done = command(tmp_path, "chroma_stack.copy", "--help", without=package)
    assert done.returncode == 1
    assert f"Error: copying needs {package}, which the package's extra 'copy'" in done.stderr
    assert "Traceback" not in done.stderr


class Aws(BaseHTTPRequestHandler):
    """What AWS answers to the status command, of which it notes the requests."""

    asked: ClassVar[list[Any]] = []
    answers: ClassVar[dict[str, Any]] = {
        "AmazonSSM.SendCommand": {"Command": {"CommandId": "8f1b34a1-0c7e-4d5a-9d0e-2f7f4c1f4b11"}},
        "AmazonSSM.GetCommandInvocation": {
            "Status": "Success",
            "StandardOutputContent": "Chroma answers.\nIt is 3 hours up.\n",
        },
    }

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        target = self.headers.get("X-Amz-Target")
        if target is None:  # Auto Scaling, which speaks XML
            answer = GROUP
        else:
            self.asked.append((target.split(".")[1], json.loads(body)))
            answer = json.dumps(self.answers[target])
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


GROUP = """<DescribeAutoScalingGroupsResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">
<DescribeAutoScalingGroupsResult><AutoScalingGroups><member><Instances><member>
<InstanceId>i-0123456789abcdef0</InstanceId>
</member></Instances></member></AutoScalingGroups></DescribeAutoScalingGroupsResult>
</DescribeAutoScalingGroupsResponse>"""


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_status_command_prints_what_the_instance_says_of_itself(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    parts = template().to_json()["Outputs"]["StatusCommand"]["Value"]["Fn::Join"][1]
    # Names of a group and a region need no quotes.
    line = "".join(it if isinstance(it, str) else "eu-central-1" for it in parts)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Aws)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Aws.asked.clear()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": "/nonexistent",
    }
    try:
        done = subprocess.run(
            [shell, "-c", line], env=environment, capture_output=True, text=True, timeout=120
        )
    finally:
        server.shutdown()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "Chroma answers.\nIt is 3 hours up."
    [(_, sent), *later] = Aws.asked
    assert sent["DocumentName"] == "AWS-RunShellScript"
    assert sent["InstanceIds"] == ["i-0123456789abcdef0"]
    assert sent["Parameters"] == {"commands": ["chroma-status || true"]}
    assert {name for name, _ in later} == {"GetCommandInvocation"}
    assert all(it["InstanceId"] == "i-0123456789abcdef0" for _, it in later)
