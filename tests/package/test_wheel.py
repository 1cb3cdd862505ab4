"""The package as others get it: built, installed where nothing else of ours is, and used."""

from __future__ import annotations

import email
import email.message
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import chroma_stack
from chroma_stack import program, published_template
from chroma_stack.emulator import archive
from tests.host.chroma_servers import made_once

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "pyproject.toml"
PINS = ROOT / "requirements.txt"
UV = [sys.executable, "-m", "uv"]

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
[OLDEST_PYTHON] = re.findall(r'requires-python = ">=([0-9.]+)"', PROJECT.read_text())

RESOLUTIONS = {
    "oldest": ["--resolution", "lowest-direct"],
    "pinned": ["--constraint", str(PINS)],
}
"""How uv finds the oldest of all that the package claims to work with, and what is pinned."""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    # A copy: what an earlier build left beside the sources would be taken in.
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(
        ROOT / "chroma_stack",
        source / "chroma_stack",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    folder = tmp_path_factory.mktemp("dist")
    # Without a choice of one, uv builds the wheel from the source distribution.
    subprocess.run([*UV, "build", "--quiet", "--out-dir", str(folder), str(source)], check=True)
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    """The wheel's file."""
    [file] = built.glob("*.whl")
    return file


@pytest.fixture(scope="session")
def metadata(wheel: Path) -> email.message.Message:
    """What the wheel says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def files_of_the_package() -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / "chroma_stack").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_and_its_licence_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    [information] = {name.split("/")[0] for name in names if ".dist-info/" in name}
    assert {name for name in names if not name.startswith(information)} == files_of_the_package()
    assert f"{information}/licenses/LICENSE" in names
    assert {"chroma_stack/py.typed", "chroma_stack/host/boot"} <= names


def test_the_programs_of_the_machine_are_programs_from_a_wheel_that_lost_the_permissions(
    wheel: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel) as zipped:
        zipped.extractall(tmp_path)  # without permissions
    [aws] = tmp_path.rglob("guest_root/usr/bin/aws")
    assert not os.access(aws, os.X_OK)
    for name in ("guest_root", "repository"):
        files = archive.packed(tmp_path / "chroma_stack" / "emulator" / name)
        assert files == archive.packed(ROOT / "chroma_stack" / "emulator" / name)
        with tarfile.open(fileobj=io.BytesIO(files)) as tar:
            programs = {it.name for it in tar if it.isfile() and it.mode & 0o111}
        kept = (ROOT / "chroma_stack" / "emulator" / name).rglob("*")
        executable = {it for it in kept if it.is_file() and it.stat().st_mode & 0o111}
        assert {ROOT / "chroma_stack" / "emulator" / name / it for it in programs} == executable


def test_the_source_distribution_holds_the_package_and_what_it_is_built_from(built: Path) -> None:
    [file] = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert files_of_the_package() | {"pyproject.toml", "README.md", "LICENSE"} <= names


def test_the_metadata_says_what_the_package_is_and_needs(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "chroma-stack"
    assert metadata["Version"] == chroma_stack.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == f">={OLDEST_PYTHON}"
    classifiers = metadata.get_all("Classifier") or []
    assert f"Programming Language :: Python :: {OLDEST_PYTHON}" in classifiers
    needed = {
        re.split("[<>=]", requirement)[0]
        for requirement in metadata.get_all("Requires-Dist") or []
        if "extra ==" not in requirement
    }
    assert needed == {"aws-cdk-lib", "constructs", "jsii"}


def interpreter(version: str) -> str:
    """A Python of that version. Without one the test is skipped, with the reason."""
    if version == RUNNING:
        return sys.executable
    kept = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    found = str(kept[-1]) if kept else shutil.which(f"python{version}")
    if found is None:
        pytest.skip(f"no Python {version}, neither in ~/.pyenv nor as python{version}")
    return found


def environment(python: str, resolution: str, wheel: Path) -> Path:
    """The interpreter of an environment that holds the wheel and what it needs."""
    name = f"package-{resolution}-python{python}"
    with made_once(name, PROJECT, PINS) as (folder, empty):
        venv = folder / "venv"
        install = [*UV, "pip", "install", "--quiet", "--python", f"{venv}/bin/python"]
        if empty:
            create = ["venv", "--quiet", "--clear", "--python", interpreter(python)]
            subprocess.run([*UV, *create, str(venv)], check=True)
            needed = ["--requirement", str(PROJECT), *RESOLUTIONS[resolution]]
            subprocess.run([*install, *needed], check=True)
        # Offline: what the wheel needs has to be there by what the project says.
        again = ["--offline", "--reinstall-package", "chroma-stack", str(wheel)]
        subprocess.run([*install, *again], check=True)
    return venv / "bin" / "python"


def example() -> str:
    """The example of README.md, as an app."""
    [stack] = re.findall(
        r"(?s)```python\n([^`]*ChromaServer\(.*?)```", (ROOT / "README.md").read_text()
    )
    return f"""{stack}

import aws_cdk
import chroma_stack

app = aws_cdk.App(outdir="cdk.out")
SearchStack(app, "Theirs")
app.synth()
print(chroma_stack.__file__)
"""


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("python", sorted({OLDEST_PYTHON, RUNNING}))
def test_an_app_elsewhere_is_synthesised_with_the_wheel(
    python: str, resolution: str, wheel: Path, tmp_path: Path
) -> None:
    installed = environment(python, resolution, wheel)
    app = tmp_path / "app.py"
    app.write_text(example())
    # Isolated: neither the folder of the app nor PYTHONPATH is looked in.
    ran = subprocess.run(
        [str(installed), "-I", str(app)],
        cwd=tmp_path,
        env={**os.environ, "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1"},
        text=True,
        capture_output=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert Path(ran.stdout.strip()).is_relative_to(installed.parents[1])
    resources = json.loads((tmp_path / "cdk.out" / "Theirs.template.json").read_text())["Resources"]
    parameters = {name: it for name, it in resources.items() if "Program" in name}
    assert all(it["Type"] == "AWS::SSM::Parameter" for it in parameters.values())
    # A logical id ends with eight digits of aws-cdk-lib's.
    names = sorted(parameters, key=lambda name: int(name[:-8].rpartition("Part")[2]))
    text = "".join(parameters[name]["Properties"]["Value"] for name in names)
    assert text == program.encoded()


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("python", sorted({OLDEST_PYTHON, RUNNING}))
def test_the_published_template_is_the_same_wherever_it_is_made(
    python: str, resolution: str, wheel: Path, tmp_path: Path
) -> None:
    installed = environment(python, resolution, wheel)
    file = tmp_path / published_template.NAME
    ran = subprocess.run(
        [str(installed), "-I", "-m", "chroma_stack.published_template", str(file)],
        cwd=tmp_path,
        env={**os.environ, "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1"},
        text=True,
        capture_output=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert file.read_text() == published_template.text()


def test_the_pins_are_at_least_what_the_package_needs() -> None:
    pins = dict(re.findall(r"(?m)^([a-z-]+)==([0-9.]+)", PINS.read_text()))
    needed = re.findall(r'(?m)^    "([a-z-]+)>=([0-9.]+),<', PROJECT.read_text())
    assert len(needed) == 3
    for name, lowest in needed:
        assert [*map(int, pins[name].split("."))] >= [*map(int, lowest.split("."))]
