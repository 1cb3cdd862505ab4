"""The instance metadata service, version 2, as one machine sees it."""

import json
import secrets
import time
from pathlib import Path

from .archive import packed
from .web import Handler, Server

REPOSITORY = Path(__file__).parent / "repository"
ROLE = "chroma-server"
ACCOUNT = "123456789012"


class InstanceMetadata:
    """Serves user data, identity and role credentials to a machine.

    ``values`` maps paths below ``meta-data/`` to texts and may be changed at any time.
    """

    def __init__(
        self, instance_id: str, region: str, user_data: str, access_key: str = "ASIATESTING"
    ) -> None:
        zone = f"{region}a"
        self.user_data = user_data
        self.user_data_read_at: float | None = None
        self.repository_reachable = True
        self.access_key = access_key
        self.values = {
            "ami-id": "ami-12c6146b",
            "instance-id": instance_id,
            "instance-type": "t3.small",
            "local-hostname": "ip-169-254-0-15.ec2.internal",
            "local-ipv4": "169.254.0.15",
            "public-ipv4": "203.0.113.15",
            "mac": "52:54:00:12:34:56",
            "placement/availability-zone": zone,
            "placement/region": region,
            "services/domain": "amazonaws.com",
            "services/partition": "aws",
            "autoscaling/target-lifecycle-state": "InService",
            f"iam/security-credentials/{ROLE}": json.dumps(
                {
                    "Code": "Success",
                    "Type": "AWS-HMAC",
                    "AccessKeyId": self.access_key,
                    "SecretAccessKey": secrets.token_hex(20),
                    "Token": secrets.token_hex(20),
                    "LastUpdated": "2020-01-01T00:00:00Z",
                    "Expiration": "2100-01-01T00:00:00Z",
                }
            ),
        }
        self.identity = {
            "accountId": ACCOUNT,
            "architecture": "x86_64",
            "availabilityZone": zone,
            "imageId": "ami-12c6146b",
            "instanceId": instance_id,
            "instanceType": "t3.small",
            "privateIp": "169.254.0.15",
            "region": region,
        }
        self._tokens: set[str] = set()
        self._server = Server(self._handler())
        self.port = self._server.port

    def close(self) -> None:
        """Stop serving."""
        self._server.close()

    def _resource(self, path: str) -> str | None:
        """Return the document or the listing at a path below the version, if there is one."""
        documents = {
            "user-data": self.user_data,
            "dynamic/instance-identity/document": json.dumps(self.identity),
            **{f"meta-data/{name}": value for name, value in self.values.items()},
        }
        name = path.rstrip("/")
        if name == "user-data":
            self.user_data_read_at = self.user_data_read_at or time.monotonic()
        if name in documents:
            return documents[name]
        below = f"{name}/" if name else ""
        children = {
            child if not rest else f"{child}/"
            for key in documents
            if key.startswith(below)
            for child, _, rest in [key.removeprefix(below).partition("/")]
        }
        return "\n".join(sorted(children)) or None

    def _handler(self) -> type[Handler]:
        metadata = self

        class MetadataHandler(Handler):
            def do_PUT(self) -> None:
                if self.path != "/latest/api/token":
                    self.answer(404)
                elif "X-aws-ec2-metadata-token-ttl-seconds" not in self.headers:
                    self.answer(400)
                else:
                    token = secrets.token_urlsafe(32)
                    metadata._tokens.add(token)
                    ttl = self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
                    self.answer(200, token, X_aws_ec2_metadata_token_ttl_seconds=ttl)

            def do_GET(self) -> None:
                if self.path.startswith("/rig/repository/"):  # asked by the guest's dnf
                    name = self.path.rpartition("/")[2]
                    reachable = metadata.repository_reachable
                    self.answer(200 if reachable else 503, _packed(name) if reachable else b"")
                    return
                if self.headers.get("X-aws-ec2-metadata-token") not in metadata._tokens:
                    self.answer(401)
                    return
                _version, _, path = self.path.lstrip("/").partition("/")
                found = metadata._resource(path)
                self.answer(404 if found is None else 200, found or "")

        return MetadataHandler


def _packed(name: str) -> bytes:
    """Return a file of the repository, or a package: its folder as a tar, owned by root."""
    path = REPOSITORY / name
    return path.read_bytes() if path.is_file() else packed(path)
