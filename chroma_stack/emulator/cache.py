"""Things that take minutes to build, kept between runs outside the repository."""

import fcntl
import hashlib
import logging
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .namespace import as_root

HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chroma-stack" / "machine"


def cached(name: str, ingredients: list[Path | str], build: Callable[[Path], None]) -> Path:
    """Return the folder that ``build`` filled, now or in an earlier run.

    The folder belongs to its ingredients (files, folders or plain text): when one changes, it is
    built again and the old one removed. A lock makes a second process wait for the first, and the
    folder appears under its name only when it is complete.
    """
    digest = hashlib.sha256()
    for ingredient in ingredients:
        for part in _files(ingredient) if isinstance(ingredient, Path) else [ingredient]:
            digest.update(part.read_bytes() if isinstance(part, Path) else part.encode())
    folder = HOME / f"{name}-{digest.hexdigest()[:12]}"
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for outdated in HOME.glob(f"{name}-{'?' * 12}*"):
                # As root: a build that was interrupted leaves files of other owners.
                subprocess.run(as_root("rm", "-r", "--one-file-system", outdated), check=True)
            unfinished = HOME / f"{folder.name}.unfinished"
            unfinished.mkdir()
            log, start = logging.getLogger(__name__), time.monotonic()
            log.info("%s, once", name)
            build(unfinished)
            log.info("%s, done in %d s", name, time.monotonic() - start)
            unfinished.rename(folder)
    return folder


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
