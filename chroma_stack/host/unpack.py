# Writes the files that chroma_stack/program.py packed, from standard input; given a SHA-256, only
# when it is theirs. User data holds it as it stands. Python 3.9, nothing but its library.
import base64
import bz2
import hashlib
import os
import pathlib
import sys

text = "".join(sys.stdin.read().split())
if sys.argv[1:] not in ([], [hashlib.sha256(text.encode()).hexdigest()]):
    sys.exit("the parameters have another SHA-256")
folder = pathlib.Path(os.environ.get("PROGRAM_FOLDER", "/opt/chroma"))
archive = bz2.decompress(base64.a85decode(text.translate({118: 34, 119: 92})))
parts = iter(archive.split(b"\0"))
for name in parts:
    content = next(parts)
    file = folder / name.decode()
    file.write_bytes(content)
    file.chmod(0o755 if content.startswith(b"#!") else 0o644)
