"""Chroma's container images, remade from the packages on PyPI.

They look from outside like the official ones (files, entry point, environment, user, folders);
inside is the same server from the same release's wheel. Layers are not compressed: unpacking
costs emulated seconds.
"""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .cache import cached

BASE_PACKAGES = "base-files bash coreutils dash dumb-init python3.11-minimal"
SITE_PACKAGES = "usr/lib/python3/dist-packages"

# 1.0 and later: the Rust server. In the official image `chroma` is its command line as a
# program of its own, here the one that the Python package carries.
CHROMA_COMMAND = """\
#!/usr/bin/python3.11
import sys
from chromadb_rust_bindings import cli
cli(["chroma", *sys.argv[1:]])
"""
RUST_CONFIG = {
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "RUST_BACKTRACE=0"],
    "Entrypoint": ["dumb-init", "--", "chroma"],
    "Cmd": ["run", "/config.yaml"],
    "ExposedPorts": {"8000/tcp": {}},
}

# Before 1.0: the Python server.
PYTHON_ENTRYPOINT = """\
#!/bin/bash
export IS_PERSISTENT=1 CHROMA_SERVER_NOFILE=${CHROMA_SERVER_NOFILE:-65536}
eval "exec uvicorn chromadb.app:app $*"
"""
PYTHON_CONFIG = {
    "Env": [
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "CHROMA_HOST_ADDR=0.0.0.0",
        "CHROMA_HOST_PORT=8000",
        "CHROMA_WORKERS=1",
        "CHROMA_LOG_CONFIG=chromadb/log_config.yml",
        "CHROMA_TIMEOUT_KEEP_ALIVE=30",
    ],
    "WorkingDir": "/chroma",
    "Entrypoint": ["/docker_entrypoint.sh"],
    "Cmd": [
        (
            "--workers ${CHROMA_WORKERS} --host ${CHROMA_HOST_ADDR} --port ${CHROMA_HOST_PORT} "
            "--proxy-headers --log-config ${CHROMA_LOG_CONFIG} "
            "--timeout-keep-alive ${CHROMA_TIMEOUT_KEEP_ALIVE}"
        )
    ],
    "ExposedPorts": {"8000/tcp": {}},
}
# Large packages for what these tests never do, and the text of the module that stands for each.
LEFT_OUT = {"kubernetes": "", "onnxruntime": "", "tokenizers": "Tokenizer = None\n"}


def chroma_image(version: str) -> Path:
    """Return a folder with the image's blobs, each called by its digest, and ``manifest``."""
    return cached(f"chroma-{version}", [Path(__file__)], lambda folder: _build(version, folder))


def _build(version: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        packages = Path(scratch) / "packages"
        if version.startswith("0."):
            _install(packages, f"chromadb=={version}", without=LEFT_OUT)
            layers = [_base("libpython3.11-stdlib", "libstdc++6"), _python_server(packages)]
            config = PYTHON_CONFIG
        else:
            _install(packages, f"chromadb=={version}", "--no-deps")
            layers = [_base(), _rust_server(packages)]
            config = RUST_CONFIG
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            **_blob(folder, _image_config(config, layers)),
        },
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", **_blob(folder, layer)}
            for layer in layers
        ],
    }
    (folder / "manifest").write_text(json.dumps(manifest))


def _install(target: Path, requirement: str, *options: str, without: Iterable[str] = ()) -> None:
    """Put a package for the image's Python into a folder."""
    overrides = target.with_name("overrides.txt")
    overrides.write_text("".join(f"{name}; sys_platform == 'none'\n" for name in without))
    subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--only-binary=:all:"),
            "--compile-bytecode",
            *("--python-version=3.11", f"--target={target}", f"--override={overrides}"),
            *(*options, requirement),
        ],
        check=True,
    )


def _base(*more_packages: str) -> bytes:
    """Return the system below Chroma: files of Debian 12 packages, unpacked and no more.

    Python is compiled here: a container that may not write would do it at every start.
    """
    return subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=extract", "--format=tar"),
            *(f"--dpkgopt=path-exclude=/usr/share/{docs}/*" for docs in ("doc", "locale", "man")),
            "--dpkgopt=path-exclude=/usr/lib/*/gconv/*",
            f"--include={','.join([*BASE_PACKAGES.split(), *more_packages])}",
            '--extract-hook=chroot "$1" python3.11 -m compileall -q /usr/lib/python3.11',
            *("bookworm", "-"),
        ],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout


def _rust_server(packages: Path) -> bytes:
    name = "chromadb_rust_bindings"
    return _layer(
        {
            f"{SITE_PACKAGES}/{name}": packages / name,
            "usr/local/bin/chroma": CHROMA_COMMAND,
            "config.yaml": 'persist_path: "/data"\n',
        }
    )


def _python_server(packages: Path) -> bytes:
    program = (packages / "chromadb").rename(packages.with_name("chromadb"))
    return _layer(
        {
            SITE_PACKAGES: packages,
            **{f"{SITE_PACKAGES}/{name}.py": stub for name, stub in LEFT_OUT.items()},
            "chroma/chromadb": program,
            "usr/local/bin/uvicorn": "#!/usr/bin/python3.11\nimport uvicorn\nuvicorn.main()\n",
            "docker_entrypoint.sh": PYTHON_ENTRYPOINT,
        }
    )


def _layer(files: dict[str, Path | str]) -> bytes:
    """Return a tar of folders (copied) and texts (written as programs)."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, source in files.items():
            if isinstance(source, Path):
                tar.add(source, name, filter=_owned_by_root)
            else:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(source), 0o755
                tar.addfile(entry, io.BytesIO(source.encode()))
    return content.getvalue()


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _image_config(config: dict[str, Any], layers: list[bytes]) -> bytes:
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers],
            },
        }
    ).encode()


def _blob(folder: Path, content: bytes) -> dict[str, str | int]:
    """Keep a blob and return how a manifest refers to it."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    (folder / digest).write_bytes(content)
    return {"digest": digest, "size": len(content)}
