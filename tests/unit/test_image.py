"""Where the container image comes from."""

from __future__ import annotations

import pytest
from aws_cdk import aws_ecr as ecr

from chroma_stack import ChromaImage
from tests.unit.construct import server_template
from tests.unit.synthesis import host_settings, statements, template

DIGEST = "sha256:" + "0123456789abcdef" * 4
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("image", "pulled"),
    [
        ("chromadb/chroma", "chromadb/chroma:1.5.9"),
        ("registry.example.com:5000/chroma", "registry.example.com:5000/chroma:1.5.9"),
        ("registry.example.com:5000/chroma:mine", "registry.example.com:5000/chroma:mine"),
        (f"ghcr.io/chroma-core/chroma@{DIGEST}", f"ghcr.io/chroma-core/chroma@{DIGEST}"),
        (f"{ECR}/mirror/chroma", f"{ECR}/mirror/chroma:1.5.9"),
    ],
)
def test_an_image_is_pulled_by_its_own_tag_or_digest_else_by_the_version(
    image: str, pulled: str
) -> None:
    assert host_settings(template(image=image))["IMAGE"] == pulled


def test_the_instance_may_pull_from_the_ecr_repository_it_needs_and_no_other() -> None:
    pull = [
        statement
        for statement in statements(template(image=f"{ECR}/mirror/chroma@{DIGEST}"))
        if "ecr:BatchGetImage" in statement["Action"]
    ]
    [allowed] = pull
    assert str(allowed["Resource"]).endswith(
        "':ecr:eu-west-1:123456789012:repository/mirror/chroma']]}"
    )


def test_a_tag_that_nobody_has_pulled_yet_comes_through_a_pull_through_cache() -> None:
    [allowed] = [
        statement
        for statement in statements(template(image=f"{ECR}/ghcr/chroma-core/chroma"))
        if "ecr:BatchImportUpstreamImage" in statement["Action"]
    ]
    assert "repository/ghcr/chroma-core/chroma" in str(allowed["Resource"])


def test_no_permission_for_ecr_without_an_image_there() -> None:
    assert "ecr:" not in str(statements(template(image="chromadb/chroma")))


def test_a_repository_construct_is_pulled_by_the_version_or_a_digest() -> None:
    by_version = server_template(
        lambda stack: {
            "image": ChromaImage.from_ecr_repository(ecr.Repository(stack, "Mirror")),
        }
    )
    assert host_settings(by_version)["IMAGE"].endswith(":1.5.9")
    by_digest = server_template(
        lambda stack: {
            "image": ChromaImage.from_ecr_repository(ecr.Repository(stack, "Mirror"), DIGEST),
        }
    )
    assert host_settings(by_digest)["IMAGE"].endswith(f"@{DIGEST}")
