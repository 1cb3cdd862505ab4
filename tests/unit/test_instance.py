"""The instance and the group with one instance that keeps it alive."""

from __future__ import annotations

import re

import pytest
from aws_cdk import aws_ec2 as ec2

from chroma_stack.instance import GRAVITON_MARKS, architecture
from tests.unit.synthesis import launch, properties, resource, statements, template

GROUP = "AWS::AutoScaling::AutoScalingGroup"


def test_there_is_always_exactly_one_instance() -> None:
    group = properties(template(), GROUP)
    assert (group["MinSize"], group["MaxSize"]) == ("1", "1")


def test_the_old_instance_ends_before_the_new_one_starts() -> None:
    group = resource(template(), GROUP)
    update = group["UpdatePolicy"]["AutoScalingRollingUpdate"]
    assert update["MinInstancesInService"] == 0
    assert group["Properties"]["InstanceMaintenancePolicy"] == {
        "MinHealthyPercentage": 0,
        "MaxHealthyPercentage": 100,
    }


def test_the_stack_waits_for_the_instance_to_say_that_it_serves() -> None:
    group = resource(template(), GROUP)
    assert group["CreationPolicy"]["ResourceSignal"] == {"Count": 1, "Timeout": "PT1H"}
    update = group["UpdatePolicy"]["AutoScalingRollingUpdate"]
    assert update["WaitOnResourceSignals"] is True
    assert update["PauseTime"] == "PT1H"


def test_no_instance_starts_before_its_permissions_and_its_way_out_are_there() -> None:
    assert set(resource(template(), GROUP)["DependsOn"]) >= {
        "ChromaRole227B64D5",
        "ChromaRoleDefaultPolicyA6EBB17F",
        "VpcPublicSubnet1DefaultRoute3DA9E72A",
    }


def test_a_changed_setting_is_a_new_launch_template_version_for_the_group() -> None:
    version = properties(template(), GROUP)["LaunchTemplate"]["Version"]
    assert version["Fn::GetAtt"][1] == "LatestVersionNumber"


def test_metadata_is_version_2_only_and_does_not_reach_into_a_container() -> None:
    options = launch(template())["MetadataOptions"]
    assert options["HttpTokens"] == "required"
    assert options["HttpPutResponseHopLimit"] == 1


def test_the_root_disk_is_encrypted() -> None:
    [disk] = launch(template())["BlockDeviceMappings"]
    assert disk["Ebs"]["Encrypted"] is True


def test_the_root_volume_has_the_size_of_the_ami_unless_told_otherwise() -> None:
    [disk] = launch(template())["BlockDeviceMappings"]
    assert disk == {"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "VolumeType": "gp3"}}
    [larger] = launch(template(rootVolumeSize="20"))["BlockDeviceMappings"]
    assert larger["Ebs"] == disk["Ebs"] | {"VolumeSize": 20}


@pytest.mark.parametrize("instance_type", ["t3.small", "t4g.small"])
def test_an_ami_is_pinned_for_every_architecture(instance_type: str) -> None:
    image = "ami-0123456789abcdef0"
    made = launch(template(imageId=image, instanceType=instance_type))
    assert made["ImageId"] == image


def test_the_instance_has_a_way_out_before_it_takes_its_address() -> None:
    [interface] = launch(template())["NetworkInterfaces"]
    assert interface["AssociatePublicIpAddress"] is True


def test_the_instance_may_take_its_own_volume_and_address_and_no_other() -> None:
    named = str([it["Resource"] for it in statements(template()) if "Condition" not in it])
    assert "volume/', {'Ref': 'ChromaVolume8FB4DF55'}" in named
    assert "elastic-ip/', {'Fn::GetAtt': ['ChromaAddress85771F15', 'AllocationId']}" in named
    for anything in ("volume/*", "elastic-ip/*", "instance/", "network-interface/"):
        assert anything not in named


def test_what_is_not_known_by_name_has_to_carry_the_servers_tag() -> None:
    made = template().to_json()["Resources"]
    own, secrets = (it for it in statements(template()) if "aws:ResourceTag" in str(it))
    assert secrets["Action"] == "secretsmanager:GetSecretValue"
    assert secrets["Condition"] == own["Condition"]
    [tag] = own["Condition"]["StringEquals"].values()
    assert set(own["Action"]) == {
        "autoscaling:SetInstanceHealth",
        "ec2:AttachVolume",
        "ec2:AssociateAddress",
        "ssm:GetParameters",
    }
    assert re.findall(r":([\w-]+/\*|\w+:\*:\w+/\*)", str(own["Resource"])) == [
        "autoScalingGroup:*:autoScalingGroupName/*",
        "instance/*",
        "network-interface/*",
        "parameter/*",
    ]
    [instance, _, interface] = launch(template())["TagSpecifications"]
    assert (instance["ResourceType"], interface["ResourceType"]) == (
        "instance",
        "network-interface",
    )
    for specification in (instance, interface):
        assert {"Key": "chroma-server", "Value": tag} in specification["Tags"]
    group = {"Key": "chroma-server", "PropagateAtLaunch": True, "Value": tag}
    assert group in properties(template(), GROUP)["Tags"]
    parameters = {name: it for name, it in made.items() if name.startswith("ChromaProgram")}
    assert parameters
    for parameter in parameters.values():
        assert parameter["Properties"]["Tags"] == {"chroma-server": tag}


def test_the_instance_may_do_nothing_else_but_what_its_boot_and_its_health_check_need() -> None:
    actions = {
        action
        for statement in statements(template())
        for action in (
            statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        )
    }
    assert actions == {
        "cloudformation:SignalResource",
        "cloudwatch:PutMetricData",
        "ec2:AttachVolume",
        "ec2:AssociateAddress",
        "ec2:CreateTags",
        "ec2:DescribeSnapshots",
        "ec2:DescribeTags",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
        "autoscaling:SetInstanceHealth",
        "secretsmanager:BatchGetSecretValue",
        "secretsmanager:GetSecretValue",
        "secretsmanager:DescribeSecret",
        "ssm:GetParameters",
        "ssm:GetParametersByPath",
        "ssm:PutParameter",
    }
    everywhere = {
        it["Action"]: it.get("Condition") for it in statements(template()) if it["Resource"] == "*"
    }
    assert everywhere == {
        "ec2:DescribeTags": None,
        "ec2:DescribeSnapshots": None,
        "secretsmanager:BatchGetSecretValue": None,
        "cloudwatch:PutMetricData": {"StringEquals": {"cloudwatch:namespace": "Chroma"}},
    }
    roles = template().find_resources("AWS::IAM::Role")
    managed = roles["ChromaRole227B64D5"]["Properties"]["ManagedPolicyArns"]
    # Unlike AmazonSSMManagedInstanceCore it lets nobody read parameters: the role reads its own.
    assert [re.findall(r"policy/(\w+)", str(arn)) for arn in managed] == [
        ["AmazonSSMManagedEC2InstanceDefaultPolicy"]
    ]


def test_everything_is_named_after_the_stack_as_it_is_deployed() -> None:
    for specification in launch(template())["TagSpecifications"][:2]:
        [name] = [tag["Value"] for tag in specification["Tags"] if tag["Key"] == "Name"]
        assert name == {"Fn::Sub": "${AWS::StackName}/Chroma"}


def test_the_mark_of_graviton_is_in_the_name_of_each_such_type_and_in_no_other() -> None:
    families = {
        member.name.lower()
        for member in ec2.InstanceClass
        # The enum has each family by its name and in words ("BURSTABLE4_GRAVITON").
        if re.fullmatch("(hpc|[a-z]{1,2})[0-9]+[a-z]*", member.name.lower())
    }
    assert len(families) > 100
    for family in families:
        name = f"{family}.4xlarge"
        is_arm = architecture(ec2.InstanceType(name)) is ec2.InstanceArchitecture.ARM_64
        assert any(mark in name for mark in GRAVITON_MARKS) == is_arm, name
