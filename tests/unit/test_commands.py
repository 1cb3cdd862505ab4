"""The commands of the package, given what they do not expect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def command(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    run = (
        "import runpy, sys; "
        f"sys.path.insert(0, {str(ROOT)!r}); sys.modules['boto3'] = None; "
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
