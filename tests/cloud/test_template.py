"""The template that the real command line synthesises: clean to cfn-lint, and in need of nothing in the account."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chroma_stack.emulator.cdk import STACK
from chroma_stack.emulator.moto_server import MotoServer
from tests.cloud.project import ProjectCdk
from tests.cloud.test_everything import EVERYTHING

SETTINGS: dict[str, dict[str, str | int]] = {
    "as it is": {},
    "with everything": {
        "instanceType": "m7g.large",
        "auth": "basic",
        "volumeSize": 100,
        "snapshotId": "snap-0123456789abcdef0",
        "vpcId": "default",
        "allowedCidr": "198.51.100.0/24,203.0.113.0/24",
        "keyName": "ops",
        "sshCidr": "203.0.113.7/32",
        "otelCollectionEndpoint": "api.honeycomb.com",
        "otelCollectionHeaders": "x-honeycomb-team=abc",
    },
    "looked after": dict(EVERYTHING),
}

NOT_FOLLOWED = {
    "as it is": {"I1022": "Fn::Join where Fn::Sub would do: aws-cdk-lib writes it"},
    "with everything": {
        "I1022": "as above",
        "W3010": "a named zone: it is that of the subnet that was looked up",
    },
    "looked after": {"I1022": "as above"},
}
"""Rules of cfn-lint that are not followed, each with the reason."""


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda name: name.replace(" ", "-"))
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def template(
    case: str,
    cdk_program: None,
    aws: MotoServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The template's file, among the other files of the synthesised app."""
    # With aws-cdk-lib's own check of the template, which ends the command if it finds something.
    cdk = ProjectCdk(
        tmp_path_factory.mktemp("template"), aws.environment | {"CDK_VALIDATION": "true"}
    )
    cdk.synth(SETTINGS[case])
    return cdk.assembly / f"{STACK}.template.json"


@pytest.fixture(scope="module")
def content(template: Path) -> dict[str, Any]:
    return dict(json.loads(template.read_text()))


def test_cfn_lint_finds_nothing_but_what_is_not_followed(case: str, template: Path) -> None:
    program = Path(sys.executable).parent / "cfn-lint"
    done = subprocess.run(
        [program, "--include-checks", "I", "--format", "json", "--", template],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert {it["Rule"]["Id"] for it in json.loads(done.stdout)} == set(NOT_FOLLOWED[case])


def test_nothing_is_uploaded_before_the_deployment(template: Path) -> None:
    artifacts = json.loads((template.parent / "manifest.json").read_text())["artifacts"].values()
    assert {artifact["type"] for artifact in artifacts} <= {
        "aws:cloudformation:stack",
        "cdk:tree",
        "cdk:feature-flag-report",
    }
    assert list(template.parent.glob("asset.*")) == []


def test_nothing_refers_to_what_bootstrapping_makes(
    template: Path, content: dict[str, Any]
) -> None:
    assert "Parameters" not in content
    assert "Rules" not in content
    for name in ("cdk-hnb659fds", "cdk-bootstrap"):
        assert name not in template.read_text()
    manifest = json.loads((template.parent / "manifest.json").read_text())
    assert "assumeRoleArn" not in manifest["artifacts"][STACK]["properties"]


def test_no_code_runs_to_deploy_it(content: dict[str, Any]) -> None:
    types = {resource["Type"] for resource in content["Resources"].values()}
    assert [one for one in types if not one.startswith("AWS::")] == []
    assert types.isdisjoint({"AWS::CloudFormation::CustomResource", "AWS::Lambda::Function"})


def test_the_data_outlives_the_stack_and_a_replacement(case: str, content: dict[str, Any]) -> None:
    # A protected volume stays itself, should the stack be deleted all the same.
    deleted = "RetainExceptOnCreate" if case == "looked after" else "Snapshot"
    resources = content["Resources"].values()
    [volume] = [it for it in resources if it["Type"] == "AWS::EC2::Volume"]
    assert (volume["DeletionPolicy"], volume["UpdateReplacePolicy"]) == (deleted, "Snapshot")


@pytest.fixture(scope="module")
def printed(cdk_program: None, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What two commands print, the first with settings of its own."""
    cdk = ProjectCdk(tmp_path_factory.mktemp("settings"), {})
    return [
        cdk.run("synth", "--quiet", context={"allowedCidr": "10.0.0.0/8", "volumeSize": 40}),
        cdk.run("synth", "--quiet"),
    ]


def test_a_setting_for_one_command_is_said_to_be_that_and_missed_by_the_next(
    printed: list[str],
) -> None:
    first, second = printed
    assert "make set ARGS='volumeSize=40 allowedCidr=10.0.0.0/8'" in first
    assert (
        "WARNING: less protected than by the last command here: allowedCidr: 10.0.0.0/8 →" in second
    )
    assert "volumeSize: 40 → 24 (default)" in second


def test_a_command_prints_nothing_about_the_version_of_node(printed: list[str]) -> None:
    assert "node" not in "".join(printed).lower()
