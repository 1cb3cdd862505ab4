"""Whatever app the construct is put into, and whatever becomes of its properties later."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import jsii
import pytest
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk.assertions import Template
from constructs import IConstruct

from chroma_stack import BackupSchedule, ChromaAuth, ChromaImage, ChromaServer, ChromaTracing
from tests.unit.construct import PUBLIC, Properties, logical_ids, server_in, server_template
from tests.unit.synthesis import host_settings, launch, properties, statements

OPTIONAL: dict[str, Properties] = {
    "cors_allow_origins": lambda _: {"cors_allow_origins": ["*"]},
    "config": lambda _: {"config": {"allow_reset": True}},
    "user_data_before": lambda _: {"user_data_before": ["true"]},
    "user_data_after": lambda _: {"user_data_after": ["true"]},
    "user_data_environment": lambda _: {"user_data_environment": {"MINE": "1"}},
    "tracing": lambda _: {"tracing": ChromaTracing(endpoint="collector.example")},
    "instance_type": lambda _: {"instance_type": ec2.InstanceType("m7g.large")},
    "start_empty": lambda _: {"start_empty": True},
    "key_pair": lambda stack: {"key_pair": ec2.KeyPair.from_key_pair_name(stack, "Ops", "ops")},
    "storage_encryption_key": lambda stack: {"storage_encryption_key": kms.Key(stack, "Key")},
    "image": lambda stack: {
        "image": ChromaImage.from_ecr_repository(ecr.Repository(stack, "Mirror"))
    },
    "auth": lambda stack: {
        "auth": ChromaAuth.token(secret=secretsmanager.Secret(stack, "Mine")),
    },
    "domain_name": lambda _: {"domain_name": "chroma.search.internal"},
    "backup_retention": lambda _: {"backup_retention": cdk.Duration.days(0)},
    "backup_schedule": lambda _: {"backup_schedule": BackupSchedule.hourly()},
    "backup_copy_region": lambda _: {"backup_copy_region": "eu-west-3"},
    "max_volume_size": lambda _: {"max_volume_size": cdk.Size.gibibytes(100)},
    "volume_iops": lambda _: {"volume_iops": 6000, "volume_throughput": 500},
}


def recommended_flags() -> dict[str, Any]:
    """The feature flags that a new app of the installed aws-cdk-lib begins with."""
    [library] = (Path(cdk.__file__).parent / "_jsii").glob("aws-cdk-lib@*.jsii.tgz")
    with tarfile.open(library) as tar:
        flags = tar.extractfile("package/recommended-feature-flags.json")
        assert flags is not None
        return dict(json.load(flags))


@pytest.mark.parametrize("name", OPTIONAL)
def test_no_property_changes_the_logical_id_of_anything_else(name: str) -> None:
    without, given = server_template(), server_template(OPTIONAL[name])
    own = {
        "auth": {"ChromaCredential2920701B"},
        "backup_retention": {it for it in logical_ids(without) if "DailyBackup" in it},
    }
    assert logical_ids(without) - logical_ids(given) == own.get(name, set())
    more = logical_ids(given) - logical_ids(without)
    assert {it[:-8] for it in more} == ({"ChromaRoleLogInToEcr"} if name == "image" else set())


def test_between_public_and_private_only_the_address_changes() -> None:
    private, public = (
        logical_ids(server_template()),
        logical_ids(server_template(lambda _: {"vpc_subnets": PUBLIC})),
    )
    assert {it[:-8] for it in public - private} == {"ChromaAddress", "ChromaHostname"}
    assert {name[:-8] for name in private - public} == {
        "ChromaInterface",
        "ChromaHostedZone",
        "ChromaRecord",
    }


def nested(*path: str) -> tuple[Template, ChromaServer]:
    """A server in a nested stack, with the VPC in its parent."""
    stack = cdk.Stack(cdk.App(), "Parent")
    vpc = ec2.Vpc(stack, "Vpc", restrict_default_security_group=False)
    scope = cdk.NestedStack(stack, "Nested")
    server = ChromaServer(scope, "".join(path) or "Chroma", vpc=vpc)
    return Template.from_stack(scope), server


def test_a_server_in_a_nested_stack_signals_that_stack() -> None:
    made, _ = nested()
    settings = host_settings(made)
    assert settings["STACK"] == "<AWS::StackName>"
    assert settings["GROUP"] in made.to_json()["Resources"]
    allowed = {str(it["Action"]): it["Resource"] for it in statements(made)}
    assert allowed["cloudformation:SignalResource"] == {"Ref": "AWS::StackId"}


def test_no_tag_is_longer_than_aws_takes_however_deep_the_construct_is() -> None:
    made, _ = nested("Chroma" * 40)
    longest_stack_name = "s" * 128
    for kind in ("AWS::EC2::Volume", "AWS::EC2::NetworkInterface"):
        tags = properties(made, kind)["Tags"]
        tags += launch(made)["TagSpecifications"][0]["Tags"]
        for tag in tags:
            text = tag["Value"]["Fn::Sub"].replace("${AWS::StackName}", longest_stack_name)
            assert len(text) <= 256, tag["Key"]


def test_the_tag_of_a_instance_stays_what_it_was() -> None:
    tags = launch(server_template(lambda _: {"vpc_subnets": PUBLIC}))["TagSpecifications"][0]
    [tag] = [tag["Value"] for tag in tags["Tags"] if tag["Key"] == "chroma-server"]
    assert tag == {"Fn::Sub": "${AWS::StackName}/TheirsChromaF5E2274B"}


@pytest.mark.parametrize("subnets", [None, PUBLIC])
def test_several_servers_in_one_stack_share_nothing(subnets: ec2.SubnetSelection | None) -> None:
    stack = cdk.Stack(cdk.App(), "Theirs")
    vpc = ec2.Vpc(stack, "Vpc", restrict_default_security_group=False)
    servers = [ChromaServer(stack, name, vpc=vpc, vpc_subnets=subnets) for name in ("One", "Two")]
    made = Template.from_stack(stack).to_json()["Resources"]
    assert servers[0].endpoint != servers[1].endpoint
    templates = [it for it in made.values() if it["Type"] == "AWS::EC2::LaunchTemplate"]
    for mine, other in zip(templates, reversed(templates), strict=True):
        name = "One" if "One" in json.dumps(mine["Properties"]["TagSpecifications"]) else "Two"
        assert f'"{name}Volume' in json.dumps(mine)
        assert f'"{name}Volume' not in json.dumps(other)


@pytest.mark.parametrize("subnets", [None, PUBLIC])
def test_a_stack_may_know_its_account_and_region(subnets: ec2.SubnetSelection | None) -> None:
    env = cdk.Environment(account="123456789012", region="eu-central-1")
    stack = cdk.Stack(cdk.App(), "Theirs", env=env)
    server_in(stack, lambda _: {"vpc_subnets": subnets})
    assert host_settings(Template.from_stack(stack))["REGION"] == "eu-central-1"


@pytest.mark.parametrize(
    "synthesizer",
    [
        cdk.DefaultStackSynthesizer,
        cdk.LegacyStackSynthesizer,
        cdk.CliCredentialsStackSynthesizer,
        cdk.BootstraplessSynthesizer,
    ],
    ids=lambda it: it.__name__,
)
def test_every_synthesizer_will_do_and_no_asset_is_needed(synthesizer: Any) -> None:
    app = cdk.App()
    stack = cdk.Stack(app, "Theirs", synthesizer=synthesizer())
    server_in(stack)
    template = app.synth().get_stack_by_name("Theirs").template
    assert logical_ids(server_template()) <= template["Resources"].keys()
    assert "AWS::Lambda::Function" not in json.dumps(template)


@pytest.mark.parametrize("subnets", [None, PUBLIC])
def test_no_feature_flag_makes_a_difference(subnets: ec2.SubnetSelection | None) -> None:
    def made(context: dict[str, Any]) -> dict[str, Any]:
        stack = cdk.Stack(cdk.App(context=context), "Theirs")
        server_in(stack, lambda _: {"vpc_subnets": subnets, "auth": ChromaAuth.basic()})
        resources = Template.from_stack(stack).to_json()["Resources"]
        return {
            # A flag may name the partition where the region tells it.
            name: json.loads(json.dumps(it).replace('{"Ref": "AWS::Partition"}', '"aws"'))
            for name, it in resources.items()
            if name.startswith("Chroma") and it["Type"] != "AWS::IAM::Policy"
        }

    flags = recommended_flags()
    assert len(flags) > 50
    assert made(flags) == made({})


def test_the_apps_tags_reach_everything_that_takes_tags() -> None:
    app = cdk.App()
    stack = cdk.Stack(app, "Theirs")
    server_in(stack)
    cdk.Tags.of(app).add("team", "search")
    made = Template.from_stack(stack)
    tag = {"Key": "team", "Value": "search"}
    for kind in ("AWS::EC2::Volume", "AWS::EC2::NetworkInterface", "AWS::DLM::LifecyclePolicy"):
        assert tag in properties(made, kind)["Tags"], kind
    assert tag in properties(made, "AWS::Route53::HostedZone")["HostedZoneTags"]
    specifications = launch(made)["TagSpecifications"]
    assert {it["ResourceType"] for it in specifications} == {"instance", "volume"}
    assert all(tag in it["Tags"] for it in specifications)
    [schedule] = properties(made, "AWS::DLM::LifecyclePolicy")["PolicyDetails"]["Schedules"]
    assert schedule["CopyTags"] is True


def test_an_aspect_of_the_app_reaches_the_interface_and_the_volume() -> None:
    @jsii.implements(cdk.IAspect)
    class Note:
        def visit(self, node: IConstruct) -> None:
            if isinstance(node, (ec2.CfnNetworkInterface, ec2.CfnVolume)):
                node.add_metadata("seen", "yes")

    stack = cdk.Stack(cdk.App(), "Theirs")
    server_in(stack)
    cdk.Aspects.of(stack).add(Note())
    made = Template.from_stack(stack)
    for kind in ("AWS::EC2::Volume", "AWS::EC2::NetworkInterface"):
        [found] = made.find_resources(kind).values()
        assert found["Metadata"] == {"seen": "yes"}
