"""The CDK's code and the settings of docs/users.md and of the README's section on users."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import aws_cdk as cdk
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_
from aws_cdk.assertions import Match, Template

from chroma_stack import configure
from tests.unit.construct import server_in

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "users.md").read_text()


def test_the_pages_code_for_an_app_lets_a_function_in_as_the_user() -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    chroma = server_in(stack)
    function = lambda_.Function(
        stack,
        "Function",
        code=lambda_.Code.from_inline("def handler(event, context): pass"),
        handler="index.handler",
        runtime=lambda_.Runtime.PYTHON_3_13,
        vpc=ec2.Vpc(stack, "Clients"),
    )
    [code] = [it for it in re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE) if "add_user(" in it]
    names = {"chroma": chroma, "function": function}
    exec(code, names)
    [user] = chroma.users.values()
    Template.from_stack(stack).has_resource_properties(
        "AWS::IAM::Policy",
        {
            "PolicyDocument": {
                "Statement": [
                    {
                        "Action": Match.array_with(["secretsmanager:GetSecretValue"]),
                        "Effect": "Allow",
                        "Resource": stack.resolve(user.secret.secret_arn),
                    }
                ]
            },
            "Roles": [stack.resolve(function.role.role_name)],  # type: ignore[union-attr]
        },
    )


def test_the_settings_of_the_page_and_of_the_readme_are_the_same_and_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = (PAGE, (ROOT / "README.md").read_text())
    [settings] = {it for page in pages for it in re.findall(r'ARGS="(users=[^"]*)"', page)}
    shutil.copy(ROOT / "cdk.json", tmp_path)
    monkeypatch.chdir(tmp_path)
    configure.main([settings])
    assert configure.kept()["users"] == settings.partition("=")[2]
