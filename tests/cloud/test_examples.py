"""The commands in the READMEs of `examples`, by the real command line against a moto server.

That is `cdk synth`, `cdk bootstrap` and `cdk deploy`, with the function's code and the templates
going through the bucket that `bootstrap` makes. It stops where moto does: no instance boots, no
function is called and no task runs; nor is anything removed, for which `moto_handlers` would need
to know how each resource goes. `tests/host` runs the function's code and the service's.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import zipfile
from dataclasses import dataclass
from typing import Any

import pytest

from chroma_stack.emulator.cdk import Cdk
from chroma_stack.emulator.moto_handlers import LifecyclePolicy
from chroma_stack.emulator.moto_server import MotoServer
from tests.cloud.project import PROJECT

EXAMPLES = sorted(path.parent.name for path in (PROJECT / "examples").glob("*/cdk.json"))


class ExampleCdk(Cdk):
    """The command line in a copy of an example's folder, placed beside the project as it is."""

    def __post_init__(self) -> None:
        copied = self.directory.parents[1]
        unwanted = shutil.ignore_patterns("cdk.out", "__pycache__")
        shutil.copytree(PROJECT / "examples" / self.directory.name, self.directory, ignore=unwanted)
        (copied / "chroma_stack").symlink_to(PROJECT / "chroma_stack")
        (copied / ".venv").symlink_to(sys.prefix)


@dataclass(frozen=True)
class Deployed:
    """An example that is deployed."""

    outputs: dict[str, str]
    template: dict[str, Any]
    stack_name: str


@pytest.fixture(scope="module")
def deployed(
    cdk_program: None, aws: MotoServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Deployed]:
    """All examples in one account, which was bootstrapped from the first one's folder."""
    made: dict[str, Deployed] = {}
    for name in EXAMPLES:
        directory = tmp_path_factory.mktemp("project") / "examples" / name
        cdk = ExampleCdk(directory, aws.environment, bootstrapped=bool(made))
        cdk.bootstrap()
        before = set(aws.stacks())
        outputs = cdk.deploy()
        [stack_name] = set(aws.stacks()) - before
        [file] = cdk.assembly.glob("*.template.json")
        template = json.loads(file.read_text())
        made[name] = Deployed(outputs, template, stack_name)
    return made


def reachable_from(aws: MotoServer, stack: str, part: str) -> set[tuple[str, int]]:
    """Which security groups may reach, at which port, the one with this part in its logical id."""
    ids = [security_group(aws, stack, part)]
    [group] = aws.client("ec2").describe_security_groups(GroupIds=ids)["SecurityGroups"]
    assert not any(rule["IpRanges"] for rule in group["IpPermissions"])
    return {
        (pair["GroupId"], rule["FromPort"])
        for rule in group["IpPermissions"]
        for pair in rule["UserIdGroupPairs"]
    }


def security_group(aws: MotoServer, stack: str, part: str) -> str:
    """The id of a stack's security group with this part in its logical id."""
    found = aws.client("cloudformation").describe_stack_resources(StackName=stack)
    [one] = [
        it["PhysicalResourceId"]
        for it in found["StackResources"]
        if it["ResourceType"] == "AWS::EC2::SecurityGroup" and part in it["LogicalResourceId"]
    ]
    return str(one)


def secret(aws: MotoServer, stack: str) -> tuple[str, str]:
    """The ARN of the secret of a stack's only user, and its value."""
    [arn] = [
        it for it in aws.physical_ids(stack, "AWS::SecretsManager::Secret") if "ChromaUser" in it
    ]
    value = aws.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]
    return arn, value


def properties(template: dict[str, Any], kind: str) -> dict[str, Any]:
    """The properties of a template's only resource of a type."""
    [found] = [it for it in template["Resources"].values() if it["Type"] == kind]
    return dict(found["Properties"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_deployed_by_the_commands_of_its_readme(
    aws: MotoServer, deployed: dict[str, Deployed], name: str
) -> None:
    assert aws.stacks()[deployed[name].stack_name] == "CREATE_COMPLETE"
    assert aws.stacks()["CDKToolkit"] == "CREATE_COMPLETE"


def test_the_function_is_its_code_and_knows_the_server(
    aws: MotoServer, deployed: dict[str, Deployed]
) -> None:
    made = deployed["lambda_rag"]
    function = aws.client("lambda").get_function(FunctionName=made.outputs["FunctionName"])
    code = properties(made.template, "AWS::Lambda::Function")["Code"]
    bucket = aws.physical_id("CDKToolkit", "AWS::S3::Bucket")
    uploaded = aws.client("s3").get_object(Bucket=bucket, Key=code["S3Key"])["Body"].read()
    assert len(uploaded) == function["Configuration"]["CodeSize"]
    package = zipfile.ZipFile(io.BytesIO(uploaded))
    assert package.namelist() == ["index.py"]
    source = PROJECT / "examples" / "lambda_rag" / "function" / "index.py"
    assert package.read("index.py") == source.read_bytes()
    configuration = function["Configuration"]
    arn, value = secret(aws, made.stack_name)
    variables = configuration["Environment"]["Variables"]
    assert variables["CHROMA_SECRET"] == arn
    assert variables["CHROMA_URL"].endswith(".internal:8000")
    assert value not in str(function)
    groups = configuration["VpcConfig"]["SecurityGroupIds"]
    reach = reachable_from(aws, made.stack_name, "ChromaSecurityGroup")
    assert reach == {(group, 8000) for group in groups}


def test_the_service_runs_its_program_with_the_server_and_the_secret(
    aws: MotoServer, deployed: dict[str, Deployed]
) -> None:
    made, ecs = deployed["fargate_service"], aws.client("ecs")
    cluster, name = made.outputs["ClusterName"], made.outputs["ServiceName"]
    [service] = ecs.describe_services(cluster=cluster, services=[name])["services"]
    task = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])
    [container] = task["taskDefinition"]["containerDefinitions"]
    program = (PROJECT / "examples" / "fargate_service" / "service.py").read_text()
    assert container["command"] == ["python", "-c", program]
    arn, value = secret(aws, made.stack_name)
    assert container["secrets"] == [{"name": "CHROMA_CREDENTIAL", "valueFrom": arn}]
    assert value not in str(task)
    given = {it["name"]: it["value"] for it in container["environment"]}
    assert given["CHROMA_HOST"].endswith(".internal")
    assert given["CHROMA_PORT"] == "8000"
    client = security_group(aws, made.stack_name, "ServiceSecurityGroup")
    assert reachable_from(aws, made.stack_name, "ChromaSecurityGroup") == {(client, 8000)}


def test_no_route_leads_out_of_the_private_network(
    aws: MotoServer, deployed: dict[str, Deployed]
) -> None:
    vpc = aws.physical_id(deployed["private_network"].stack_name, "AWS::EC2::VPC")
    in_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
    tables = aws.client("ec2").describe_route_tables(Filters=in_vpc)["RouteTables"]
    # Beside the network itself, only S3 by its gateway endpoint.
    ways = {
        route.get("GatewayId", "another") for table in tables for route in table.get("Routes", [])
    }
    assert {way for way in ways if not way.startswith("vpce-")} == {"local"}
    reach = reachable_from(aws, deployed["private_network"].stack_name, "ChromaSecurityGroup")
    assert reach == {(deployed["private_network"].outputs["ClientsGroup"], 8000)}


def test_each_team_has_a_server_and_a_credential_of_its_own_and_all_have_snapshots(
    aws: MotoServer, deployed: dict[str, Deployed]
) -> None:
    stack = deployed["several_servers"].stack_name
    urls = {it for it in deployed["several_servers"].outputs.values() if it.startswith("http")}
    assert urls == {f"http://{team}.chroma.internal:8000" for team in ("search", "support")}
    secrets = aws.client("secretsmanager")
    arns = aws.physical_ids(stack, "AWS::SecretsManager::Secret")
    values = {secrets.get_secret_value(SecretId=arn)["SecretString"] for arn in arns}
    assert len(values) == 2
    [tag] = LifecyclePolicy.made[aws.physical_id(stack, "AWS::DLM::LifecyclePolicy")][
        "PolicyDetails"
    ]["TargetTags"]
    volumes = [aws.volume(it) for it in aws.physical_ids(stack, "AWS::EC2::Volume")]
    assert len(volumes) == 2
    assert all(tag in volume["Tags"] for volume in volumes)
    for team in ("Teamsearch", "Teamsupport"):
        client = security_group(aws, stack, f"{team}Clients")
        assert reachable_from(aws, stack, f"{team}ChromaSecurityGroup") == {(client, 8000)}


def test_one_dashboard_shows_every_team_by_the_name_that_its_server_reports(
    aws: MotoServer, deployed: dict[str, Deployed]
) -> None:
    stack = deployed["several_servers"].stack_name
    name = aws.physical_id(stack, "AWS::CloudWatch::Dashboard")
    cloudwatch = aws.client("cloudwatch")
    body = json.loads(cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"])
    graphs = [it["properties"] for it in body["widgets"] if it["type"] == "metric"]
    assert len(graphs) > 10
    [heartbeats] = [it["metrics"] for it in graphs if it["title"] == "Answers"]
    servers = {it[3] for it in heartbeats}
    assert len(servers) == len(heartbeats) == 2
    assert all(it.startswith(f"{stack}/") for it in servers)
