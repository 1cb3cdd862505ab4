"""The first command of a new user, ``make synth``, whatever is on the computer and was tried before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = getattr(sys, "_base_executable", sys.executable)


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


def python_of(path: Path, version: str, prelude: str = "") -> Path:
    """A Python that says it is another release, and that can do nothing but run ``-c``."""
    return program(
        path,
        f'[[ $1 == --version ]] && {{ echo "Python {version}"; exit; }}\n'
        f"exec {PYTHON} -c 'import sys; sys.version_info = {tuple(map(int, version.split('.')))}\n"
        f'{prelude}\nexec(sys.argv[1])\' "$2"',
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that needs no packages."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "package-lock.json").touch()
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "installed").touch()
    return tmp_path


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "PYTHON"}
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env=kept, capture_output=True, text=True, check=False
    )


def made(checkout: Path, *arguments: str) -> None:
    done = make(checkout, ".venv/installed", *arguments)
    assert done.returncode == 0, done.stderr
    subprocess.run([checkout / ".venv/bin/python", "-c", "import pip"], check=True)


def test_an_old_python_is_refused_with_a_sentence_and_leaves_nothing(checkout: Path) -> None:
    old = python_of(checkout / "python3.9", "3.9.2")
    done = make(checkout, "synth", f"PYTHON={old}")
    assert done.returncode != 0
    assert "Python 3.10 or later is needed" in done.stderr.splitlines()[0]
    assert not (checkout / ".venv").exists()


def test_a_python_without_pip_says_what_to_install(checkout: Path) -> None:
    bare = python_of(checkout / "python3.11", "3.11.2", 'sys.modules["ensurepip"] = None')
    done = make(checkout, "synth", f"PYTHON={bare}")
    assert done.returncode != 0
    assert "python3-venv" in done.stderr.splitlines()[0]
    assert not (checkout / ".venv").exists()


def test_what_a_bad_first_try_left_behind_is_made_anew(checkout: Path) -> None:
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    (checkout / ".venv" / "installed").touch()
    made(checkout, f"PYTHON={PYTHON}")


def test_another_python_replaces_the_one_of_the_last_try(checkout: Path) -> None:
    python_of(checkout / ".venv" / "bin" / "python", "3.14.0")
    (checkout / ".venv" / "installed").touch()
    made(checkout, f"PYTHON={PYTHON}")
    before = (checkout / ".venv" / "installed").stat().st_mtime_ns
    made(checkout, f"PYTHON={PYTHON}")
    made(checkout)
    assert (checkout / ".venv" / "installed").stat().st_mtime_ns == before


@pytest.mark.parametrize("result", [0, 1])
def test_synth_ends_with_the_templates_place_and_the_next_step(checkout: Path, result: int) -> None:
    python_of(checkout / ".venv" / "bin" / "python", "3.14.0")
    (checkout / ".venv" / "installed").touch()
    program(
        checkout / "node_modules" / ".bin" / "cdk",
        "mkdir cdk.out && touch cdk.out/Mine.template.json\n"
        "echo 'a message' >&2\necho '85 feature flags are not configured.' >&2\n"
        f"exit {result}",
    )
    done = make(checkout, "synth", "ARGS=-c stackName=Mine")
    assert (done.returncode == 0) == (result == 0)
    assert "a message" in done.stderr
    assert "feature flags" not in done.stderr + done.stdout
    last = "The template is cdk.out/Mine.template.json. Deploy it with: npx cdk deploy -c stackName=Mine"
    assert (done.stdout.splitlines()[-1:] == [last]) == (result == 0)
