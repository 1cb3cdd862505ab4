"""Chroma's container images, remade from the packages on PyPI.

They look from outside like the official ones (files, entry point, environment, user, folders);
inside is the same server from the same release's wheel. Layers are not compressed: unpacking
costs emulated seconds.
"""

import hashlib
import io
import json
import logging
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from . import processes
from .cache import cached
from .namespace import as_root

BASE_PACKAGES = "base-files bash coreutils dash dumb-init python3.11-minimal"
SITE_PACKAGES = "usr/lib/python3/dist-packages"

# The Rust server, 1.0 and later. In the official image `chroma` is its command line as a
# program of its own, here the one that the Python package carries.
CHROMA_COMMAND = """\
#!/usr/bin/python3.11
import sys
from chromadb_rust_bindings import cli
cli(["chroma", *sys.argv[1:]])
"""
CONFIG = {
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "RUST_BACKTRACE=0"],
    "Entrypoint": ["dumb-init", "--", "chroma"],
    "Cmd": ["run", "/config.yaml"],
    "ExposedPorts": {"8000/tcp": {}},
}


def chroma_image(version: str) -> Path:
    """Return a folder with the image's blobs, each called by its digest, and ``manifest``."""
    return cached(f"chroma-{version}", [Path(__file__)], lambda folder: _build(version, folder))


def _build(version: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        packages = Path(scratch) / "packages"
        log = logging.getLogger(__name__)
        log.info("Chroma, of its package on PyPI")
        _install(packages, f"chromadb=={version}")
        log.info("the system below it, of packages of Debian 12")
        layers = [_base(), _rust_server(packages)]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            **_blob(folder, _image_config(layers)),
        },
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", **_blob(folder, layer)}
            for layer in layers
        ],
    }
    (folder / "manifest").write_text(json.dumps(manifest))


def _install(target: Path, requirement: str) -> None:
    """Put a package for the image's Python into a folder, without what it depends on."""
    processes.run(
        [
            *(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--only-binary=:all:"),
            *("--compile-bytecode", "--python-version=3.11", f"--target={target}"),
            *("--no-deps", requirement),
        ]
    )


def _base() -> bytes:
    """Return the system below Chroma: files of Debian 12 packages, unpacked and no more.

    Python is compiled here: a container that may not write would do it at every start.
    """
    archive: bytes = processes.run(
        as_root(
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=extract", "--format=tar"),
            "--skip=chroot/mount/sys",
            *(f"--dpkgopt=path-exclude=/usr/share/{docs}/*" for docs in ("doc", "locale", "man")),
            "--dpkgopt=path-exclude=/usr/lib/*/gconv/*",
            f"--include={','.join(BASE_PACKAGES.split())}",
            '--extract-hook=chroot "$1" python3.11 -m compileall -q /usr/lib/python3.11',
            *("bookworm", "-"),
        ),
        stdout=subprocess.PIPE,
    ).stdout
    return archive


def _rust_server(packages: Path) -> bytes:
    name = "chromadb_rust_bindings"
    return _layer(
        {
            f"{SITE_PACKAGES}/{name}": packages / name,
            "usr/local/bin/chroma": CHROMA_COMMAND,
            "config.yaml": 'persist_path: "/data"\n',
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


def _image_config(layers: list[bytes]) -> bytes:
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": CONFIG,
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
