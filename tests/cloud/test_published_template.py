"""The published template by the real `aws` command line: the commands of Chroma's documentation, word by word, with the
template where `python -m chroma_stack.publish` puts it.

CloudFormation's own refusals (patterns, rules, capabilities) are not here, since moto accepts everything:
`tests/unit/test_published_template.py` has them.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

import chroma_stack.publish
from chroma_stack import published_template
from chroma_stack.emulator.moto_handlers import LifecyclePolicy
from chroma_stack.emulator.moto_server import MotoServer
from tests.cloud.test_deploy import inventory

PROJECT = Path(__file__).parents[2]
BUCKET = "templates"
MINE = "mine"
PUBLISH = "python -m chroma_stack.publish"
STACK = "my-chroma-stack"
CREATE = f"aws cloudformation create-stack --stack-name {STACK} --template-url URL --capabilities CAPABILITY_IAM"
TOKEN_PROVIDER = "chromadb.auth.token_authn.TokenAuthenticationServerProvider"
SETTINGS = {
    "CustomStack": (
        "ParameterKey=KeyName,ParameterValue=mykey ParameterKey=InstanceType,ParameterValue=m5.4xlarge"
    ),
    "TokenStack": (
        'ParameterKey=ChromaServerAuthCredentials,ParameterValue="test-token" '
        f'ParameterKey=ChromaServerAuthProvider,ParameterValue="{TOKEN_PROVIDER}" '
        'ParameterKey=ChromaAuthTokenTransportHeader,ParameterValue="X-Chroma-Token"'
    ),
    "ReaderStack": (
        'ParameterKey=ChromaServerAuthCredentials,ParameterValue="test-token" '
        f'ParameterKey=ChromaServerAuthProvider,ParameterValue="{TOKEN_PROVIDER}" '
        "ParameterKey=ReaderUser,ParameterValue=search"
    ),
    # Chroma's documentation has {'x-honeycomb-team': 'abc'} here, see the test of it.
    "TraceStack": (
        'ParameterKey=ChromaOtelCollectionEndpoint,ParameterValue="api.honeycomb.com" '
        'ParameterKey=ChromaOtelServiceName,ParameterValue="chromadb" '
        "ParameterKey=ChromaOtelCollectionHeaders,ParameterValue=x-honeycomb-team=abc "
        'ParameterKey=ChromaOtelGranularity,ParameterValue="all"'
    ),
    "CaredStack": (
        "ParameterKey=AlarmEmail,ParameterValue=ops@example.com "
        "ParameterKey=LogRetentionDays,ParameterValue=14 "
        "ParameterKey=MaintenanceWindow,ParameterValue=first-sun:04:00 "
        "ParameterKey=UnattendedSecurityUpdates,ParameterValue=true "
        "'ParameterKey=StopSchedule,ParameterValue=0 20 * * 1-5' "
        "'ParameterKey=StartSchedule,ParameterValue=0 7 * * 1-5' "
        "ParameterKey=ScheduleTimeZone,ParameterValue=Europe/Vienna "
        "ParameterKey=VolumeIops,ParameterValue=4000 "
        "ParameterKey=VolumeThroughput,ParameterValue=250 "
        "ParameterKey=MaxVolumeSize,ParameterValue=500 "
        "ParameterKey=BackupRetentionDays,ParameterValue=30 "
        "ParameterKey=BackupCopyRegion,ParameterValue=eu-west-1"
    ),
}
"""What the documentation gives after `--parameters`, by the stacks that are made of it here."""


class CommandError(Exception):
    """A command ended with an error; the message holds all it said."""


def run(aws: MotoServer, command: str, **environment: str) -> str:
    """What a shell command writes that a user copied."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        shell=True,
        cwd=PROJECT,
        env=kept | aws.environment | environment | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise CommandError(done.stdout)
    return done.stdout


@dataclass(frozen=True)
class Deployed:
    """What there is of a stack."""

    outputs: dict[str, str]
    instance: Any
    settings: dict[str, str]
    """What the instance is told."""

    volume: Any
    addresses: list[str]
    open_ports: set[tuple[int, str]]
    secrets: list[str]

    @classmethod
    def record(cls, aws: MotoServer, stack: str = STACK) -> Deployed:
        described = run(
            aws,
            f"aws cloudformation describe-stacks --stack-name {stack} --query 'Stacks[0].Outputs'",
        )
        outputs = {it["OutputKey"]: it["OutputValue"] for it in json.loads(described)}
        user_data = aws.launched_user_data(stack)
        lines = user_data.split("<<'END_OF_SETTINGS'\n")[1].split("\nEND_OF_SETTINGS\n")[0]
        secret_store = aws.client("secretsmanager")
        return cls(
            outputs=outputs,
            instance=aws.group_instance(stack),
            settings=dict(line.split("=", 1) for line in lines.split("\n")),
            volume=aws.volume(outputs["VolumeId"]),
            addresses=aws.physical_ids(stack, "AWS::EC2::EIP"),
            open_ports=aws.open_ports(stack),
            secrets=[
                secret_store.get_secret_value(SecretId=arn)["SecretString"]
                for arn in aws.physical_ids(stack, "AWS::SecretsManager::Secret")
            ],
        )


@pytest.fixture(scope="module")
def publish_says(aws: MotoServer) -> str:
    """What the publishing into an empty bucket writes. The user has another bucket."""
    for bucket in (BUCKET, MINE):
        aws.client("s3").create_bucket(Bucket=bucket)
    return run(aws, f"{PUBLISH} --bucket {BUCKET}")


@pytest.fixture(scope="module")
def url(aws: MotoServer, publish_says: str) -> str:
    """Where the latest template is."""
    [found] = [
        word for word in publish_says.split() if word.endswith(f"latest/{published_template.NAME}")
    ]
    return found


@pytest.fixture(scope="module")
def file(aws: MotoServer, url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, downloaded."""
    path = tmp_path_factory.mktemp("template") / published_template.NAME
    run(aws, f"aws s3 cp {url.replace(aws.endpoint + '/', 's3://')} {path}")
    return path


# --- creating ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def untouched(aws: MotoServer, url: str) -> dict[str, set[str]]:
    """What is in the account before anyone deployed to it."""
    return inventory(aws)


@pytest.fixture(scope="module")
def first(aws: MotoServer, url: str, untouched: object) -> Deployed:
    """The documented command as it stands."""
    run(aws, CREATE.replace("URL", url))
    return Deployed.record(aws)


@pytest.fixture(scope="module")
def others(aws: MotoServer, url: str, first: Deployed) -> dict[str, Deployed]:
    """The documented commands with parameters, each as a stack of its own."""
    made = {}
    for stack, settings in SETTINGS.items():
        run(aws, f"{CREATE} --parameters {settings}".replace("URL", url).replace(STACK, stack))
        made[stack] = Deployed.record(aws, stack)
    return made


def test_the_documented_command_makes_a_server_that_anyone_may_use_and_says_so(
    first: Deployed,
) -> None:
    assert first.instance["InstanceType"] == "t3.small"
    assert first.addresses == [first.outputs["ServerIp"]]
    host = f"ec2-{first.outputs['ServerIp'].replace('.', '-')}.compute-1.amazonaws.com"
    assert first.outputs["ServerUrl"] == f"http://{host}:8000"
    assert first.outputs["Authentication"].startswith("nothing: whoever reaches port 8000")
    assert "CredentialCommand" not in first.outputs
    assert first.open_ports == {(8000, "0.0.0.0/0")}
    assert first.settings["AUTH"] == "none"
    assert first.settings["STACK"] == STACK
    assert first.settings["IMAGE"] == "ghcr.io/chroma-core/chroma:1.5.9"
    assert first.settings["VOLUME"] == first.outputs["VolumeId"]
    assert first.settings["OTEL_ENDPOINT"] == ""
    assert first.secrets == []


def test_the_data_is_on_an_encrypted_volume_of_its_own(first: Deployed) -> None:
    volume = first.volume
    assert (volume["VolumeType"], volume["Encrypted"], volume["Size"]) == ("gp3", True, 24)
    assert "SnapshotId" not in volume or not volume["SnapshotId"]


def test_type_and_key_are_those_of_the_parameters(
    aws: MotoServer, first: Deployed, others: dict[str, Deployed]
) -> None:
    assert others["CustomStack"].instance["InstanceType"] == "m5.4xlarge"
    for stack, key in (("CustomStack", "mykey"), (STACK, None)):
        launch = aws.launch_template_version(stack)["LaunchTemplateData"]
        assert launch.get("KeyName") == key


def test_a_credential_is_in_a_secret_that_an_output_tells_how_to_read(
    aws: MotoServer, others: dict[str, Deployed]
) -> None:
    made = others["TokenStack"]
    assert made.secrets == ["test-token"]
    assert run(aws, made.outputs["CredentialCommand"]).strip() == "test-token"
    assert made.outputs["Authentication"] == "X-Chroma-Token: TOKEN"
    assert made.settings["AUTH"] == "token"
    assert made.settings["AUTH_TOKEN_HEADER"] == "X-Chroma-Token"
    assert made.settings["AUTH_SECRET"] in made.outputs["CredentialCommand"]
    assert "test-token" not in aws.launched_user_data("TokenStack")


def test_a_reader_has_a_generated_credential_that_an_output_tells_how_to_read(
    aws: MotoServer, others: dict[str, Deployed]
) -> None:
    made = others["ReaderStack"]
    [token] = [it for it in made.secrets if it != "test-token"]
    assert re.fullmatch("[A-Za-z0-9]{40}", token)
    found = aws.client("ssm").get_parameters_by_path(Path=made.settings["USERS"])["Parameters"]
    [(name, value)] = [(it["Name"], it["Value"]) for it in found]
    assert name == f"{made.settings['USERS']}/search"
    assert value.startswith("read arn:aws:secretsmanager:")
    command = made.outputs["UserCredentialCommand"].replace("NAME", "search")
    assert run(aws, f"bash -c {shlex.quote(command)}").strip() == token
    assert made.settings["AUTH_TOKEN_HEADER"] == ""
    assert made.outputs["Authentication"].startswith("Authorization: Bearer TOKEN, or X-Chroma")
    assert token not in aws.launched_user_data("ReaderStack")
    assert "UserCredentialCommand" not in others["TokenStack"].outputs


def test_the_settings_of_traces_reach_the_instance(others: dict[str, Deployed]) -> None:
    made = others["TraceStack"]
    assert made.secrets == ["x-honeycomb-team=abc"]
    assert made.settings["OTEL_ENDPOINT"] == "api.honeycomb.com"
    assert made.settings["OTEL_SERVICE_NAME"] == "chromadb"
    assert made.settings["OTEL_GRANULARITY"] == "all"
    assert ":secret:" in made.settings["OTEL_HEADERS_SECRET"]


def test_what_a_server_is_seen_by_is_there_by_default_and_its_alarms_with_an_address(
    aws: MotoServer, first: Deployed, others: dict[str, Deployed]
) -> None:
    groups = {
        it["logGroupName"]: it["retentionInDays"]
        for it in aws.client("logs").describe_log_groups()["logGroups"]
    }
    assert groups[first.settings["LOG_GROUP"]] == 30
    assert groups[others["CaredStack"].settings["LOG_GROUP"]] == 14
    assert aws.physical_ids(STACK, "AWS::CloudWatch::Alarm") == []
    topic = aws.physical_id("CaredStack", "AWS::SNS::Topic")
    names = aws.physical_ids("CaredStack", "AWS::CloudWatch::Alarm")
    alarms = aws.client("cloudwatch").describe_alarms(AlarmNames=names)["MetricAlarms"]
    assert {tuple(it["AlarmActions"]) for it in alarms} == {(topic,)}
    [subscribed] = aws.client("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert subscribed["Endpoint"] == "ops@example.com"


def test_what_a_server_is_looked_after_by_is_that_of_the_parameters(
    aws: MotoServer, first: Deployed, others: dict[str, Deployed]
) -> None:
    made = others["CaredStack"]
    schedule = aws.physical_id("CaredStack", "AWS::Scheduler::Schedule")
    window = aws.client("scheduler").get_schedule(Name=schedule)
    assert window["ScheduleExpression"] == "cron(00 04 ? * 1#1 *)"
    group = aws.physical_id("CaredStack", "AWS::AutoScaling::AutoScalingGroup")
    assert json.loads(window["Target"]["Input"])["AutoScalingGroupName"] == group
    actions = aws.client("autoscaling").describe_scheduled_actions(AutoScalingGroupName=group)
    assert {
        (it["Recurrence"], it["DesiredCapacity"], it["TimeZone"])
        for it in actions["ScheduledUpdateGroupActions"]
    } == {("0 20 * * 1-5", 0, "Europe/Vienna"), ("0 7 * * 1-5", 1, "Europe/Vienna")}
    assert (made.volume["Iops"], made.volume["Throughput"]) == (4000, 250)
    assert made.settings["MAX_VOLUME_SIZE"] == "500"
    assert made.settings["SECURITY_UPDATES"] == "true"
    for kind in ("AWS::Scheduler::Schedule", "AWS::AutoScaling::ScheduledAction"):
        assert aws.physical_ids(STACK, kind) == []


def test_snapshots_are_kept_and_copied_as_the_parameters_have_it(
    aws: MotoServer, first: Deployed, others: dict[str, Deployed]
) -> None:
    def schedule(stack: str) -> Any:
        policy = LifecyclePolicy.made[aws.physical_id(stack, "AWS::DLM::LifecyclePolicy")]
        [schedule] = policy["PolicyDetails"]["Schedules"]
        return schedule

    assert int(schedule(STACK)["RetainRule"]["Count"]) == 7
    assert "CrossRegionCopyRules" not in schedule(STACK)
    assert int(schedule("CaredStack")["RetainRule"]["Count"]) == 30
    [copy] = schedule("CaredStack")["CrossRegionCopyRules"]
    assert (copy["Target"], copy["Encrypted"]) == ("eu-west-1", True)
    assert int(copy["RetainRule"]["Interval"]) == 30
    assert "CmkArn" not in copy


def test_the_headers_as_chroma_documents_them_are_refused_by_the_aws_command_line_itself(
    aws: MotoServer, url: str, others: object
) -> None:
    as_documented = (
        """ParameterKey=ChromaOtelCollectionHeaders,ParameterValue="{'x-honeycomb-team': 'abc'}" """
    )
    with pytest.raises(CommandError, match="Error parsing parameter '--parameters'"):
        run(aws, f"{CREATE} --parameters {as_documented}".replace("URL", url))
    in_quotes = """ParameterKey=ChromaOtelCollectionHeaders,ParameterValue='"{'"'x-honeycomb-team': 'abc'"'}"' """
    run(aws, f"{CREATE} --parameters {in_quotes}".replace("URL", url).replace(STACK, "Quoted"))
    assert Deployed.record(aws, "Quoted").secrets == ["{'x-honeycomb-team': 'abc'}"]


def test_the_file_may_be_uploaded_by_hand_and_the_server_use_an_existing_network(
    aws: MotoServer, file: Path, others: object
) -> None:
    run(aws, f"aws s3 cp {file} s3://{MINE}/")
    subnet = aws.client("ec2").describe_subnets()["Subnets"][0]
    before = inventory(aws)
    run(
        aws,
        f"{CREATE} --parameters ParameterKey=VpcId,ParameterValue={subnet['VpcId']} "
        f"ParameterKey=SubnetId,ParameterValue={subnet['SubnetId']} "
        f"ParameterKey=AvailabilityZone,ParameterValue={subnet['AvailabilityZone']}".replace(
            "URL", f"{aws.endpoint}/{MINE}/{file.name}"
        ).replace(STACK, "InTheirs"),
    )
    made = Deployed.record(aws, "InTheirs")
    assert made.instance["SubnetId"] == subnet["SubnetId"]
    assert made.volume["AvailabilityZone"] == subnet["AvailabilityZone"]
    after = inventory(aws)
    assert {name for name in after if after[name] != before[name]}.isdisjoint(
        {"vpcs", "subnets", "gateways", "route tables"}
    )


def test_a_name_in_a_hosted_zone_gets_a_record_and_no_authority_of_its_own(
    aws: MotoServer, url: str, first: Deployed, others: object
) -> None:
    zones = aws.client("route53")
    zone = zones.create_hosted_zone(Name="example.com", CallerReference="name")["HostedZone"]["Id"]
    parameters = (
        "ParameterKey=DomainName,ParameterValue=chroma.example.com "
        f"ParameterKey=HostedZoneId,ParameterValue={zone.rpartition('/')[2]} "
        "ParameterKey=TlsMode,ParameterValue=required"
    )
    run(aws, f"{CREATE} --parameters {parameters}".replace("URL", url).replace(STACK, "Named"))
    made = Deployed.record(aws, "Named")
    assert made.outputs["ServerUrl"] == "https://chroma.example.com:8000"
    assert "CaCertificateCommand" not in made.outputs
    assert made.settings["TLS"] == "required"
    assert made.settings["TLS_NAMES"].startswith("chroma.example.com ec2-")
    assert made.settings["ACME_DIRECTORY"].startswith("https://acme-v02.api.letsencrypt.org/")
    records = zones.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    [target] = [it["ResourceRecords"][0]["Value"] for it in records if it["Type"] == "CNAME"]
    assert target == f"ec2-{made.outputs['ServerIp'].replace('.', '-')}.compute-1.amazonaws.com"
    assert first.settings["ACME_DIRECTORY"] == ""


def test_the_certificate_of_the_servers_own_authority_is_read_by_a_command(
    aws: MotoServer, first: Deployed, tmp_path: Path
) -> None:
    command = first.outputs["CaCertificateCommand"]
    run(aws, f"cd {tmp_path} && {command}")
    assert "The server writes" in (tmp_path / "chroma-ca.pem").read_text()


# --- updating ---------------------------------------------------------------------------------------------------------

[DEPLOY] = set(
    re.findall(
        r"(?m)^(aws cloudformation deploy .*) \\\n  --parameter-overrides .*$",
        (PROJECT / "docs" / "template.md").read_text(),
    )
)
"""The documented command that changes some parameters and leaves the others."""


def deploy(aws: MotoServer, file: Path, parameters: str) -> None:
    command = DEPLOY.replace("BUCKET", MINE).replace(published_template.NAME, str(file))
    run(aws, f"{command} --parameter-overrides {parameters}")


UPDATE = f"aws cloudformation update-stack --stack-name {STACK} --use-previous-template --capabilities CAPABILITY_IAM"


@pytest.fixture(scope="module")
def again(aws: MotoServer, url: str, others: object) -> Deployed:
    """The same template with the same parameters."""
    command = f"aws cloudformation update-stack --stack-name {STACK} --template-url {url}"
    run(aws, f"{command} --capabilities CAPABILITY_IAM")
    return Deployed.record(aws)


@pytest.fixture(scope="module")
def changed(aws: MotoServer, again: Deployed) -> Deployed:
    """Another type, another release, and a credential."""
    settings = (
        "ParameterKey=InstanceType,ParameterValue=t4g.small ParameterKey=ChromaVersion,ParameterValue=1.5.8 "
        "ParameterKey=ChromaServerAuthCredentials,ParameterValue=first-token "
        f"ParameterKey=ChromaServerAuthProvider,ParameterValue={TOKEN_PROVIDER}"
    )
    run(aws, f"{UPDATE} --parameters {settings}")
    return Deployed.record(aws)


@pytest.fixture(scope="module")
def rotated(aws: MotoServer, file: Path, changed: Deployed) -> Deployed:
    """Another credential, by the command that leaves all other parameters as they are."""
    deploy(aws, file, "ChromaServerAuthCredentials=second-token")
    return Deployed.record(aws)


@pytest.fixture(scope="module")
def snapshot(aws: MotoServer, rotated: Deployed) -> str:
    """A snapshot of the data."""
    command = "aws ec2 create-snapshot --query SnapshotId --output text --volume-id "
    return run(aws, command + rotated.outputs["VolumeId"]).strip()


@pytest.fixture(scope="module")
def restored(aws: MotoServer, file: Path, snapshot: str) -> Deployed:
    """The same server, started from that snapshot."""
    deploy(aws, file, f"SnapshotId={snapshot}")
    return Deployed.record(aws)


def test_an_update_without_changes_touches_nothing(first: Deployed, again: Deployed) -> None:
    assert again == first


def test_an_update_does_what_it_says_and_keeps_data_and_address(
    first: Deployed, changed: Deployed
) -> None:
    assert changed.instance["InstanceId"] != first.instance["InstanceId"]
    assert changed.instance["InstanceType"] == "t4g.small"
    assert changed.instance["Architecture"] == "arm64" != first.instance["Architecture"]
    assert changed.settings["IMAGE"].endswith(":1.5.8")
    assert changed.settings["AUTH"] == "token"
    assert changed.secrets == ["first-token"]
    assert changed.volume["VolumeId"] == first.volume["VolumeId"]
    assert changed.addresses == first.addresses


def test_another_credential_is_given_to_the_running_instance(
    changed: Deployed, rotated: Deployed
) -> None:
    assert rotated.secrets == ["second-token"]
    assert rotated.instance["InstanceId"] == changed.instance["InstanceId"]
    assert rotated.settings == changed.settings


def test_a_snapshot_replaces_the_volume_and_the_replaced_one_leaves_a_last_snapshot(
    aws: MotoServer, rotated: Deployed, restored: Deployed, snapshot: str
) -> None:
    assert restored.volume["SnapshotId"] == snapshot
    assert restored.volume["Encrypted"]
    assert restored.settings["VOLUME"] == restored.volume["VolumeId"] != rotated.volume["VolumeId"]
    assert restored.addresses == rotated.addresses
    assert restored.secrets == rotated.secrets
    assert rotated.volume["VolumeId"] not in inventory(aws)["volumes"]
    assert len(aws.snapshots(rotated.volume["VolumeId"])) == 2


def test_a_new_stack_starts_from_a_snapshot_too(
    aws: MotoServer, url: str, restored: Deployed, snapshot: str
) -> None:
    settings = f"--parameters ParameterKey=SnapshotId,ParameterValue={snapshot}"
    run(aws, f"{CREATE} {settings}".replace("URL", url).replace(STACK, "Restored"))
    made = Deployed.record(aws, "Restored")
    assert made.volume["SnapshotId"] == snapshot
    assert made.volume["VolumeId"] != restored.volume["VolumeId"]


def test_delete_stack_leaves_a_last_snapshot_of_the_data_and_nothing_else(
    aws: MotoServer, restored: Deployed, untouched: dict[str, set[str]]
) -> None:
    for stack in aws.stacks():
        if stack != STACK:
            aws.client("cloudformation").delete_stack(StackName=stack)
    run(aws, f"aws cloudformation delete-stack --stack-name {STACK}")
    assert aws.stacks() == {}
    assert inventory(aws) == untouched
    [last] = aws.snapshots(restored.volume["VolumeId"])
    assert last["VolumeSize"] == restored.volume["Size"]


# --- publishing -------------------------------------------------------------------------------------------------------

KEYS = [
    f"cloudformation/{folder}/{published_template.NAME}"
    for folder in (chroma_stack.__version__, "latest")
]


@pytest.fixture
def publish(
    aws: MotoServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs the command line of `chroma_stack.publish` in this process, and returns what it says."""

    def run_it(*options: str, **environment: str) -> str:
        for name, value in (aws.environment | environment).items():
            monkeypatch.setenv(name, value)
        boto3.setup_default_session()  # which reads them
        try:
            chroma_stack.publish.main(options)
        except SystemExit as end:
            raise CommandError(end.code) from None
        return capsys.readouterr().out

    return run_it


def contents(aws: MotoServer, bucket: str) -> dict[str, bytes]:
    """All objects of a bucket."""
    s3 = aws.client("s3")
    listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {it["Key"]: s3.get_object(Bucket=bucket, Key=it["Key"])["Body"].read() for it in listed}


@pytest.fixture
def bucket(aws: MotoServer, request: pytest.FixtureRequest) -> str:
    """An empty bucket of the test's own."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name)[:60].strip("-")
    aws.client("s3").create_bucket(Bucket=name)
    return name


def test_a_release_is_published_by_its_version_and_as_the_latest(
    aws: MotoServer, publish_says: str, file: Path
) -> None:
    assert contents(aws, BUCKET) == {key: file.read_bytes() for key in KEYS}
    for key in KEYS:
        assert f"{aws.endpoint}/{BUCKET}/{key} (uploaded)" in publish_says
        answer = aws.client("s3").head_object(Bucket=BUCKET, Key=key)
        assert answer["ContentType"] == "application/json"
    link = "https://us-east-1.console.aws.amazon.com/cloudformation/home?region=us-east-1#/stacks/create/review?"
    assert f"{link}templateURL=http%3A%2F%2Flocalhost" in publish_says


def test_publishing_the_same_again_changes_nothing(
    aws: MotoServer, publish_says: str, publish: Callable[..., str]
) -> None:
    s3 = aws.client("s3")
    before = [s3.head_object(Bucket=BUCKET, Key=key)["LastModified"] for key in KEYS]
    assert publish("--bucket", BUCKET).count("(there already)") == 2
    assert [s3.head_object(Bucket=BUCKET, Key=key)["LastModified"] for key in KEYS] == before


def test_a_published_version_is_never_overwritten(
    aws: MotoServer, bucket: str, publish: Callable[..., str]
) -> None:
    aws.client("s3").put_object(Bucket=bucket, Key=KEYS[0], Body=b"other")
    with pytest.raises(CommandError, match=f"^Error: {KEYS[0]} is published with other content"):
        publish("--bucket", bucket)
    assert contents(aws, bucket) == {KEYS[0]: b"other"}


def test_a_pre_release_never_becomes_the_latest(
    aws: MotoServer, bucket: str, publish: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chroma_stack.publish, "__version__", "0.2.0rc1")
    publish("--bucket", bucket, "--prefix", "templates/")
    assert list(contents(aws, bucket)) == [f"templates/0.2.0rc1/{published_template.NAME}"]


def test_a_dry_run_publishes_nothing(
    aws: MotoServer, bucket: str, publish: Callable[..., str]
) -> None:
    assert publish("--bucket", bucket, "--dry-run").count("(not uploaded: a dry run)") == 2
    assert contents(aws, bucket) == {}


@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["publish", "dry-run"])
def test_what_is_no_template_is_never_under_a_published_name(
    aws: MotoServer,
    bucket: str,
    publish: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
) -> None:
    monkeypatch.setattr(published_template, "text", lambda: "{}")
    # Nothing is gone from a bucket with versions.
    aws.client("s3").put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    with pytest.raises(CommandError, match=r"^Error: AWS refuses ValidateTemplate"):
        publish("--bucket", bucket, *options)
    assert contents(aws, bucket) == {}
    written = aws.client("s3").list_object_versions(Bucket=bucket)["Versions"]
    assert {it["Key"] for it in written}.isdisjoint(KEYS)


def test_without_credentials_it_says_so_and_nothing_else(aws: MotoServer) -> None:
    none = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"), "")
    with pytest.raises(CommandError, match=r"(?m)^Error: there are no AWS credentials") as refused:
        run(aws, f"{PUBLISH} --bucket {BUCKET}", **none)
    assert "Traceback" not in str(refused.value)


def test_without_such_a_bucket_it_says_so(publish: Callable[..., str]) -> None:
    with pytest.raises(CommandError, match=r"^Error: there is no bucket nowhere$"):
        publish("--bucket", "nowhere")


def test_without_an_answer_from_aws_it_says_so(publish: Callable[..., str]) -> None:
    with pytest.raises(CommandError, match=r"^Error: Could not connect to the endpoint URL"):
        publish("--bucket", BUCKET, AWS_ENDPOINT_URL="http://localhost:1", AWS_MAX_ATTEMPTS="1")


@contextmanager
def user_who_may(aws: MotoServer, actions: str) -> Iterator[dict[str, str]]:
    """The credentials of a user who may do this and nothing else; meanwhile moto refuses what they may not."""
    iam, user = aws.client("iam"), {"UserName": f"user-{secrets.token_hex(4)}"}
    statement = f'{{"Effect": "Allow", "Action": [{actions}], "Resource": "*"}}'
    policy = f'{{"Version": "2012-10-17", "Statement": [{statement}]}}'
    iam.create_user(**user)
    iam.put_user_policy(**user, PolicyName="allowed", PolicyDocument=policy)
    key = iam.create_access_key(**user)["AccessKey"]
    unchecked_requests(aws, "0")
    try:
        yield {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            "AWS_SESSION_TOKEN": "",
        }
    finally:
        unchecked_requests(aws, "inf")


def unchecked_requests(aws: MotoServer, count: str) -> None:
    """Has moto check permissions after so many requests."""
    request = urllib.request.Request(f"{aws.endpoint}/moto-api/reset-auth", data=count.encode())
    request.add_header("Content-Type", "text/plain")
    urllib.request.urlopen(request).close()


# moto takes the look at a bucket for an action of its own; in AWS it is s3:ListBucket.
LOOK = '"s3:ListBucket", "s3:HeadBucket", "s3:GetObject"'


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [
        ('"iam:*"', "s3:ListBucket"),
        ('"s3:*"', "cloudformation:ValidateTemplate"),
        (f'{LOOK}, "cloudformation:*"', "s3:PutObject"),
        (f'{LOOK}, "s3:PutObject", "cloudformation:*"', "s3:DeleteObject"),
    ],
)
def test_without_permission_it_says_which_is_missing_and_publishes_nothing(
    aws: MotoServer, bucket: str, publish: Callable[..., str], allowed: str, refused: str
) -> None:
    with (
        user_who_may(aws, allowed) as credentials,
        pytest.raises(
            CommandError, match=f"^Error: no permission: AWS refuses {refused} for the bucket"
        ),
    ):
        publish("--bucket", bucket, **credentials)
    assert contents(aws, bucket).keys().isdisjoint(KEYS)
