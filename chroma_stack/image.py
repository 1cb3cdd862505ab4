"""Where the container image of Chroma comes from."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_iam as iam
from constructs import Construct

from chroma_stack.acknowledge import acknowledge
from chroma_stack.errors import SettingError
from chroma_stack.settings import Setting
from chroma_stack.version import ChromaVersion

OFFICIAL_IMAGE = "ghcr.io/chroma-core/chroma"
"""The image that Chroma's makers publish and that their own template runs
(``deployments/aws/docker-compose.yml`` of chroma-core/chroma, release 1.5.9)."""

_ALLOWED = (
    "an image name such as ghcr.io/chroma-core/chroma, "
    "with a :tag or @sha256:digest when it is not tagged by Chroma's version"
)
_PART = "[a-z0-9]+(?:(?:[.]|__?|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<name>{_PART}(?::\d+(?=/))?(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_ECR_NAME = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.[a-z0-9.]+"
    r"/(?P<repository>.+)"
)


class ChromaImage(ABC):
    """A container image that holds Chroma, laid out as the official one is."""

    @staticmethod
    def official() -> ChromaImage:
        """The image of Chroma's makers, ``ghcr.io/chroma-core/chroma``."""
        return _RegistryImage(OFFICIAL_IMAGE)

    @staticmethod
    def from_registry(name: str) -> ChromaImage:
        """An image in any registry that needs no login, or in Amazon ECR.

        :param name: ``registry/repository``, where the version becomes the tag, or with
            a tag or a digest of its own. For a name in Amazon ECR the instance gets the
            permission to pull, and logs in.
        :raises SettingError: when it is no image name.
        """
        match = _REFERENCE.fullmatch(name)
        if match is None:
            raise SettingError(
                "image",
                name,
                _ALLOWED,
            )
        return _RegistryImage(name)

    @staticmethod
    def from_ecr_repository(
        repository: ecr.IRepository, tag_or_digest: str | None = None
    ) -> ChromaImage:
        """An image in an Amazon ECR repository; the instance may pull from it.

        :param repository: the repository.
        :param tag_or_digest: the tag, or the digest with its ``sha256:``. Default: the
            server's version is the tag.
        """
        return _EcrImage(repository, tag_or_digest)

    @abstractmethod
    def _bind(self, scope: Construct, version: ChromaVersion, role: iam.Role) -> str:
        """Let the role pull the image, and return the reference to pull.

        :param version: the release of Chroma, which is the tag unless the image has its own.
        :param role: the role of the instance.
        """


class _RegistryImage(ChromaImage):
    def __init__(self, name: str) -> None:
        self._name = name

    def _bind(self, scope: Construct, version: ChromaVersion, role: iam.Role) -> str:
        in_ecr = _ECR_NAME.match(self._name)
        if in_ecr is not None:
            name = in_ecr["repository"].partition("@")[0].partition(":")[0]
            repository = ecr.Repository.from_repository_attributes(
                scope,
                "ImageRepository",
                repository_name=name,
                repository_arn=cdk.Stack.of(scope).format_arn(
                    service="ecr",
                    account=in_ecr["account"],
                    region=in_ecr["region"],
                    resource="repository",
                    resource_name=name,
                ),
            )
            _grant_pull(repository, role)
        last_part = self._name.rpartition("/")[2]
        if ":" in last_part:
            return self._name
        return f"{self._name}:{version}"


class _EcrImage(ChromaImage):
    def __init__(self, repository: ecr.IRepository, tag_or_digest: str | None) -> None:
        self._repository = repository
        self._tag_or_digest = tag_or_digest

    def _bind(self, scope: Construct, version: ChromaVersion, role: iam.Role) -> str:
        _grant_pull(self._repository, role)
        return self._repository.repository_uri_for_tag_or_digest(
            self._tag_or_digest or str(version)
        )


def _grant_pull(repository: ecr.IRepository, role: iam.Role) -> None:
    """As ``repository.grant_pull`` does, with the permission that names no repository in a
    policy by itself, so that its acknowledgement covers nothing else."""
    repository.grant(
        role,
        "ecr:BatchCheckLayerAvailability",
        "ecr:GetDownloadUrlForLayer",
        "ecr:BatchGetImage",
        # For a tag that nobody has pulled yet through a pull-through cache:
        # https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-iam.html
        "ecr:BatchImportUpstreamImage",
    )
    log_in = iam.Policy(role, "LogInToEcr", roles=[role])
    ecr.AuthorizationToken.grant_read(log_in)
    acknowledge(
        log_in,
        "AwsSolutions-IAM5[Resource::*]",
        "ecr:GetAuthorizationToken, which logs in to Amazon ECR, knows no resources.",
    )


SETTINGS = (
    Setting(
        key="image",
        only="In the published template it would need a permission to pull for a repository "
        "whose name only the deployment knows.",
        option="image",
        meaning="Container image from another registry, from Amazon ECR, or by digest.",
        default=OFFICIAL_IMAGE,
        allowed=_ALLOWED,
        parse=ChromaImage.from_registry,
    ),
)
