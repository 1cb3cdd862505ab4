"""A container registry that can be pulled from, in place of ghcr.io."""

import hashlib
import json
from pathlib import Path

from .images import chroma_image
from .tls import Authority
from .web import Handler, Server

REPOSITORY = "chroma-core/chroma"


class Registry:
    """Serves the Chroma versions it was told to offer; ``reachable`` is for tests of its absence."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        self.reachable = True
        self._images: dict[str, Path] = {}
        self._server = Server(
            self._handler(), authority.server_context(folder, "ghcr.io", "registry-1.docker.io")
        )
        self.port = self._server.port

    def offer(self, version: str) -> None:
        """Make a Chroma version ready to be pulled: some seconds, a minute when it is new."""
        self._images[version] = chroma_image(version)

    def close(self) -> None:
        """Stop serving."""
        self._server.close()

    def _manifest(self, reference: str) -> bytes | None:
        """Return a manifest by tag or digest."""
        for version, image in self._images.items():
            manifest = (image / "manifest").read_bytes()
            if reference in (version, digest_of(manifest)):
                return manifest
        return None

    def _handler(self) -> type[Handler]:
        registry = self

        class PullHandler(Handler):
            def do_GET(self) -> None:
                path = self.path.strip("/").split("/")
                if not registry.reachable:
                    self.answer(503)
                elif path == ["v2"]:
                    self.answer(200, "{}", "application/json")
                elif "/".join(path[1:-2]) == REPOSITORY and path[-2] == "manifests":
                    self._answer_manifest(path[-1])
                elif "/".join(path[1:-2]) == REPOSITORY and path[-2] == "blobs":
                    self._answer_blob(path[-1])
                else:
                    self._answer_error("NAME_UNKNOWN")

            do_HEAD = do_GET

            def _answer_manifest(self, reference: str) -> None:
                manifest = registry._manifest(reference)
                if manifest is None:
                    self._answer_error("MANIFEST_UNKNOWN")
                else:
                    content_type = json.loads(manifest)["mediaType"]
                    self.answer(
                        200, manifest, content_type, Docker_Content_Digest=digest_of(manifest)
                    )

            def _answer_blob(self, digest: str) -> None:
                for image in registry._images.values():
                    if digest.startswith("sha256:") and (image / digest).exists():
                        self.answer(200, (image / digest).read_bytes(), "application/octet-stream")
                        return
                self._answer_error("BLOB_UNKNOWN")

            def _answer_error(self, code: str) -> None:
                errors = {"errors": [{"code": code, "message": code.replace("_", " ").lower()}]}
                self.answer(404, json.dumps(errors), "application/json")

        return PullHandler


def digest_of(content: bytes) -> str:
    """Return a blob's name in a registry."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
