"""What the apps in `examples` make. A folder there is tested by being there."""

from __future__ import annotations

import functools
import importlib
import json
import re
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import cdk_nag
import pytest
from aws_cdk.assertions import Template
from cfnlint.api import lint
from cfnlint.config import ManualArgs

from tests.unit.synthesis import dashboard, host_settings, properties, resource

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/cdk.json"))
NAMES = [path.name for path in EXAMPLES]
INGRESS = "AWS::EC2::SecurityGroupIngress"


def stack(name: str) -> cdk.Stack:
    """The one stack of an example, with the context of its `cdk.json`."""
    module = importlib.import_module(f"examples.{name}.app")
    [made] = [
        it for it in vars(module).values() if isinstance(it, type) and issubclass(it, cdk.Stack)
    ]
    settings = json.loads((ROOT / "examples" / name / "cdk.json").read_text())
    return made(cdk.App(context=settings.get("context", {})), "Example")


@functools.cache
def template(name: str) -> Template:
    """The template of that stack."""
    return Template.from_stack(stack(name))


def findings(of: cdk.Stack) -> set[str]:
    """What cdk-nag says of a stack."""
    report = cdk_nag.AwsSolutionsChecks().validate_scope(of)
    return {violation.rule_name for violation in report.violations}


def all_of(name: str, kind: str) -> dict[str, dict[str, Any]]:
    """The properties of all resources of a type, by their logical ids."""
    found = template(name).find_resources(kind).items()
    return {logical_id: made.get("Properties", {}) for logical_id, made in found}


def inside(name: str, group: str = "ChromaSecurityGroup") -> set[tuple[str, int]]:
    """Who may reach the security groups of that name: logical ids of theirs, and ports."""
    assert not any(
        "SecurityGroupIngress" in made
        for logical_id, made in all_of(name, "AWS::EC2::SecurityGroup").items()
        if group in logical_id
    )
    return {
        (made["SourceSecurityGroupId"]["Fn::GetAtt"][0], made["FromPort"])
        for made in all_of(name, INGRESS).values()
        if group in made["GroupId"]["Fn::GetAtt"][0]
    }


def secrets(name: str) -> tuple[str, str]:
    """The logical ids of the main credential's secret, and of that of the one user."""
    found = all_of(name, "AWS::SecretsManager::Secret")
    [main] = [it for it in found if it.startswith("ChromaCredential")]
    [of_user] = found.keys() - {main}
    assert of_user.startswith("ChromaUser")
    return main, of_user


def access(name: str) -> str:
    """What that user may do."""
    [value] = [
        made["Value"] for made in all_of(name, "AWS::SSM::Parameter").values() if "Name" in made
    ]
    words, secret = value["Fn::Join"][1]
    assert secret == {"Ref": secrets(name)[1]}
    return str(words).strip()


def readers(name: str, secret: str) -> set[str]:
    """The logical ids of the roles that may read a secret."""
    return {
        role["Ref"]
        for policy in all_of(name, "AWS::IAM::Policy").values()
        for statement in policy["PolicyDocument"]["Statement"]
        if "secretsmanager:GetSecretValue" in statement["Action"]
        and {"Ref": secret} in (statement["Resource"], *statement["Resource"])
        for role in policy["Roles"]
    }


def role_of_the_instance(name: str) -> str:
    """The logical id of the role of the server's instance."""
    [role] = [it for it in all_of(name, "AWS::IAM::Role") if it.startswith("ChromaRole")]
    return role


@pytest.mark.parametrize("name", NAMES)
def test_only_security_groups_reach_a_server_and_only_its_port(name: str) -> None:
    reach = inside(name)
    assert reach
    assert {port for _, port in reach} == {8000}
    groups = all_of(name, "AWS::EC2::SecurityGroup")
    assert all(group in groups for group, _ in reach)


@pytest.mark.parametrize("name", NAMES)
def test_a_server_has_no_public_address(name: str) -> None:
    public = {
        logical_id
        for logical_id, made in all_of(name, "AWS::EC2::Subnet").items()
        if made["MapPublicIpOnLaunch"]
    }
    for made in all_of(name, "AWS::AutoScaling::AutoScalingGroup").values():
        assert public.isdisjoint(it["Ref"] for it in made["VPCZoneIdentifier"])


@pytest.mark.parametrize("name", NAMES)
def test_the_credential_is_nowhere_in_the_template(name: str) -> None:
    assert "resolve:secretsmanager" not in json.dumps(template(name).to_json())
    secrets = all_of(name, "AWS::SecretsManager::Secret").values()
    assert secrets
    for secret in secrets:
        assert "SecretString" not in secret
        assert secret["GenerateSecretString"]["PasswordLength"] == 40


@pytest.mark.parametrize("name", NAMES)
def test_only_the_data_outlives_the_stack_and_that_as_a_snapshot(name: str) -> None:
    kept = {
        made["Type"]: made["DeletionPolicy"]
        for made in template(name).to_json()["Resources"].values()
        if made.get("DeletionPolicy", "Delete") != "Delete"
    }
    assert kept == {"AWS::EC2::Volume": "Snapshot"}


@pytest.mark.parametrize("name", NAMES)
def test_cdk_nag_finds_nothing_without_a_reason_against_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert findings(stack(name)) == set()
    given: list[cdk.Acknowledgment] = []
    monkeypatch.setattr(cdk.Validations, "acknowledge", lambda _, *rules: given.extend(rules))
    assert findings(stack(name)) == {it.id for it in given}
    assert all(re.fullmatch(r"[A-Z][^.]+\.", it.reason) for it in given)


@pytest.mark.parametrize("name", NAMES)
def test_cfn_lint_finds_nothing(name: str) -> None:
    text = json.dumps(template(name).to_json())
    # W3005: aws-cdk-lib writes dependencies that follow from references as well.
    found = lint(text, config=ManualArgs(regions=["us-east-1"], ignore_checks=["W3005"]))
    assert [str(it) for it in found] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_readme_says_what_it_shows_costs_and_leaves(name: str) -> None:
    text = (ROOT / "examples" / name / "README.md").read_text()
    for word in ("costs", "Remove it", "npx cdk synth", "npx cdk deploy", "npx cdk destroy"):
        assert word in text, word
    assert f"[{name}](examples/{name})" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_run_here_is_marked(name: str) -> None:
    text = (ROOT / "examples" / name / "README.md").read_text()
    run = rf"make synth|cd examples/{name}|npx cdk (synth --quiet|bootstrap|deploy)"
    for before, block in re.findall(r"(?s)(?:^|\n)([^\n]*)\n\n```\n(.*?)```", text):
        if "not run here" not in before.lower():
            for line in block.strip().splitlines():
                assert re.fullmatch(run, line), line


def test_the_function_may_use_its_two_models_and_nothing_else_of_bedrock() -> None:
    made = template("lambda_rag")
    statements = [
        statement
        for policy in all_of("lambda_rag", "AWS::IAM::Policy").values()
        for statement in policy["PolicyDocument"]["Statement"]
        if "bedrock" in str(statement["Action"])
    ]
    [statement] = statements
    assert statement["Action"] == "bedrock:InvokeModel"
    models = [it["Fn::Join"][1][-1] for it in statement["Resource"]]
    given = properties(made, "AWS::Lambda::Function")["Environment"]["Variables"]
    assert [it.rpartition("/")[2] for it in models] == [
        given["EMBEDDING_MODEL"],
        given["ANSWER_MODEL"],
    ]
    assert all(it.startswith("::foundation-model/") for it in models)


def test_another_model_may_answer() -> None:
    from examples.lambda_rag.app import RagStack

    app = cdk.App(context={"answerModel": "amazon.nova-micro-v1:0"})
    made = Template.from_stack(RagStack(app, "Example"))
    given = properties(made, "AWS::Lambda::Function")["Environment"]["Variables"]
    assert given["ANSWER_MODEL"] == "amazon.nova-micro-v1:0"
    assert "foundation-model/amazon.nova-micro-v1:0" in json.dumps(made.to_json())


def test_the_function_alone_reaches_the_server_and_reads_its_own_credential_only() -> None:
    made = template("lambda_rag")
    function = properties(made, "AWS::Lambda::Function")
    groups = function["VpcConfig"]["SecurityGroupIds"]
    assert inside("lambda_rag") == {(it["Fn::GetAtt"][0], 8000) for it in groups}
    main, secret = secrets("lambda_rag")
    assert function["Environment"]["Variables"]["CHROMA_SECRET"] == {"Ref": secret}
    assert readers("lambda_rag", secret) == {function["Role"]["Fn::GetAtt"][0]}
    assert readers("lambda_rag", main) == {role_of_the_instance("lambda_rag")}
    assert access("lambda_rag") == "write"


def test_the_functions_package_holds_its_code_alone() -> None:
    folder = ROOT / "examples" / "lambda_rag" / "function"
    assert {it.name for it in folder.iterdir()} - {"__pycache__"} == {"index.py"}
    # Lambda has these, and what comes with Python.
    imported = set(re.findall(r"(?m)^(?:import|from) (\w+)", (folder / "index.py").read_text()))
    assert imported - {"boto3", "urllib3"} <= {
        "__future__",
        "collections",
        "json",
        "os",
        "typing",
        "urllib",
    }


def test_the_service_is_given_the_server_and_the_credential_as_a_secret() -> None:
    [container] = properties(template("fargate_service"), "AWS::ECS::TaskDefinition")[
        "ContainerDefinitions"
    ]
    zone = properties(template("fargate_service"), "AWS::Route53::HostedZone")["Name"]
    _, secret = secrets("fargate_service")
    assert access("fargate_service") == "read"
    assert {it["Name"]: it["Value"] for it in container["Environment"]} == {
        "CHROMA_HOST": zone.rstrip("."),
        "CHROMA_PORT": "8000",
    }
    assert container["Secrets"] == [{"Name": "CHROMA_CREDENTIAL", "ValueFrom": {"Ref": secret}}]


def test_ecs_alone_reads_the_credential_for_the_service_and_not_the_main_one() -> None:
    task = properties(template("fargate_service"), "AWS::ECS::TaskDefinition")
    main, secret = secrets("fargate_service")
    of_ecs = task["ExecutionRoleArn"]["Fn::GetAtt"][0]
    assert of_ecs != task["TaskRoleArn"]["Fn::GetAtt"][0]
    assert readers("fargate_service", secret) == {of_ecs}
    assert readers("fargate_service", main) == {role_of_the_instance("fargate_service")}


def test_the_service_alone_reaches_the_server_and_begins_after_it() -> None:
    service = resource(template("fargate_service"), "AWS::ECS::Service")
    network = service["Properties"]["NetworkConfiguration"]["AwsvpcConfiguration"]
    [group] = network["SecurityGroups"]
    assert inside("fargate_service") == {(group["Fn::GetAtt"][0], 8000)}
    assert network["AssignPublicIp"] == "DISABLED"
    [server] = all_of("fargate_service", "AWS::AutoScaling::AutoScalingGroup")
    assert {server, *all_of("fargate_service", INGRESS)} <= set(service["DependsOn"])


def test_the_private_network_has_no_way_out() -> None:
    made = template("private_network").to_json()["Resources"].values()
    assert {it["Type"] for it in made}.isdisjoint(
        f"AWS::EC2::{kind}"
        for kind in ("InternetGateway", "NatGateway", "EIP", "Route", "VPCGatewayAttachment")
    )
    image = host_settings(template("private_network"))["IMAGE"]
    assert image.endswith("/mirror/chroma:1.5.9")
    assert ".dkr.ecr." in image


def test_the_endpoints_are_open_for_the_server_and_secrets_for_its_clients_too() -> None:
    groups = all_of("private_network", "AWS::EC2::SecurityGroup")
    [server] = [it for it in groups if it.startswith("ChromaSecurityGroup")]
    [clients] = [it for it in groups if it.startswith("Clients")]
    endpoints = [it for it in groups if it.startswith("Vpc")]
    assert len(endpoints) == 10
    for endpoint in endpoints:
        ours = {(server, 443)}
        theirs = {(clients, 443)} if "SecretsManager" in endpoint else set()
        assert inside("private_network", endpoint) == ours | theirs, endpoint
    assert inside("private_network") == {(clients, 8000)}


TEAMS = json.loads((ROOT / "examples" / "several_servers" / "cdk.json").read_text())["context"][
    "teams"
]


def test_each_team_has_one_server_of_its_size_by_its_name() -> None:
    volumes = all_of("several_servers", "AWS::EC2::Volume").values()
    templates = all_of("several_servers", "AWS::EC2::LaunchTemplate").values()
    groups = all_of("several_servers", "AWS::AutoScaling::AutoScalingGroup")
    assert len(TEAMS) >= 2
    assert len(volumes) == len(templates) == len(groups) == len(TEAMS)

    def team(tags: list[dict[str, Any]]) -> str:
        [value] = [it["Value"] for it in tags if it["Key"] == "team"]
        return str(value)

    assert {team(it["Tags"]): it["Size"] for it in volumes} == {
        name: wants["volumeSize"] for name, wants in TEAMS.items()
    }
    data = [it["LaunchTemplateData"] for it in templates]
    assert {team(it["TagSpecifications"][0]["Tags"]): it["InstanceType"] for it in data} == {
        name: wants["instanceType"] for name, wants in TEAMS.items()
    }
    records = all_of("several_servers", "AWS::Route53::RecordSet").values()
    assert {it["Name"] for it in records} == {f"{name}.chroma.internal." for name in TEAMS}


@pytest.mark.parametrize("team", TEAMS)
def test_a_teams_clients_reach_its_own_server_alone(team: str) -> None:
    groups = all_of("several_servers", "AWS::EC2::SecurityGroup")
    [clients] = [it for it in groups if it.startswith(f"Team{team}Clients")]
    assert inside("several_servers", f"Team{team}ChromaSecurityGroup") == {(clients, 8000)}


def test_one_policy_takes_the_snapshots_of_every_team() -> None:
    policy = properties(template("several_servers"), "AWS::DLM::LifecyclePolicy")["PolicyDetails"]
    [tag] = policy["TargetTags"]
    for volume in all_of("several_servers", "AWS::EC2::Volume").values():
        assert tag in volume["Tags"]
    [schedule] = policy["Schedules"]
    assert schedule["RetainRule"]["Count"] == 14
    assert schedule["CopyTags"] is True


def test_every_teams_alarms_go_to_the_one_topic() -> None:
    [topic] = all_of("several_servers", "AWS::SNS::Topic")
    alarms = all_of("several_servers", "AWS::CloudWatch::Alarm")
    for team in TEAMS:
        assert any(it.startswith(f"Team{team}") for it in alarms)
    for made in alarms.values():
        assert made["AlarmActions"] == [{"Ref": topic}]
    assert not any("BackupMissing" in it for it in alarms)


def test_the_one_dashboard_has_a_line_for_each_team() -> None:
    for widget in dashboard(template("several_servers"))["widgets"]:
        if widget["type"] == "metric":
            lines = [it[-1] for it in widget["properties"]["metrics"]]
            labels = [it["label"] for it in lines if it.get("visible", True)]
            assert labels == [f"Team-{team}" for team in TEAMS]


def test_the_dashboard_of_two_teams_is_free() -> None:
    """https://aws.amazon.com/cloudwatch/pricing/"""
    metrics = {
        json.dumps([part for part in metric if not isinstance(part, dict)])
        for widget in dashboard(template("several_servers"))["widgets"]
        for metric in widget["properties"].get("metrics", [])
        if len(metric) > 1
    }
    assert len(metrics) <= 50


@pytest.mark.parametrize("name", NAMES)
def test_every_output_that_a_readme_names_exists(name: str) -> None:
    text = (ROOT / "examples" / name / "README.md").read_text()
    named = re.findall(r"outputs? `(\w+)`(?:\s+and `(\w+)`)?", text)
    made = template(name).to_json()["Outputs"]
    assert {it for pair in named for it in pair if it} <= made.keys()
    assert named
