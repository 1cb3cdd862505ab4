"""Folders of this package as archives for a machine."""

import io
import tarfile
from pathlib import Path


def packed(folder: Path) -> bytes:
    """Return a folder's content as a tar, owned by root.

    What begins with ``#!`` is a program: neither owners nor permissions survive every way in which a package is installed.
    """
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            entry = tarfile.TarInfo(str(path.relative_to(folder)))
            if path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            else:
                text = path.read_bytes()
                entry.size, entry.mode = len(text), 0o755 if text.startswith(b"#!") else 0o644
                tar.addfile(entry, io.BytesIO(text))
    return content.getvalue()
