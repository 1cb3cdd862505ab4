"""The machine and the group of one that keeps it alive."""

from __future__ import annotations

from tests.unit.synthesis import launch, properties, resource, statements, template

GROUP = "AWS::AutoScaling::AutoScalingGroup"


def test_there_is_always_exactly_one_machine() -> None:
    group = properties(template(), GROUP)
    assert (group["MinSize"], group["MaxSize"]) == ("1", "1")


def test_the_old_machine_ends_before_the_new_one_starts() -> None:
    group = resource(template(), GROUP)
    update = group["UpdatePolicy"]["AutoScalingRollingUpdate"]
    assert update["MinInstancesInService"] == 0
    assert group["Properties"]["InstanceMaintenancePolicy"] == {
        "MinHealthyPercentage": 0,
        "MaxHealthyPercentage": 100,
    }


def test_the_stack_waits_for_the_machine_to_say_that_it_serves() -> None:
    group = resource(template(), GROUP)
    assert group["CreationPolicy"]["ResourceSignal"] == {"Count": 1, "Timeout": "PT40M"}
    update = group["UpdatePolicy"]["AutoScalingRollingUpdate"]
    assert update["WaitOnResourceSignals"] is True
    assert update["PauseTime"] == "PT40M"


def test_no_machine_starts_before_its_permissions_and_its_way_out_are_there() -> None:
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


def test_the_machine_has_a_way_out_before_it_takes_its_address() -> None:
    [interface] = launch(template())["NetworkInterfaces"]
    assert interface["AssociatePublicIpAddress"] is True


def test_the_machine_may_take_its_own_volume_and_address_and_no_other() -> None:
    take = [it for it in statements(template()) if "ec2:AttachVolume" in it["Action"]]
    own, instances = take
    text = str(own["Resource"])
    assert "volume/', {'Ref': 'ChromaVolume8FB4DF55'}" in text
    assert "elastic-ip/', {'Fn::GetAtt': ['ChromaAddress85771F15', 'AllocationId']}" in text
    assert "volume/*" not in text
    assert "elastic-ip/*" not in text
    assert "instance/" not in text
    tags = launch(template())["TagSpecifications"][0]["Tags"]
    [tag] = [tag for tag in tags if tag["Key"] == "chroma-server"]
    assert instances["Condition"] == {
        "StringEquals": {"aws:ResourceTag/chroma-server": tag["Value"]}
    }


def test_the_machine_may_do_nothing_else_but_what_its_boot_and_its_watch_need() -> None:
    actions = {
        action
        for statement in statements(template())
        for action in (
            statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        )
    }
    assert actions == {
        "cloudformation:SignalResource",
        "ec2:AttachVolume",
        "ec2:AssociateAddress",
        "ec2:CreateTags",
        "ec2:DescribeTags",
        "autoscaling:SetInstanceHealth",
        "secretsmanager:GetSecretValue",
        "secretsmanager:DescribeSecret",
    }
    everywhere = [it["Action"] for it in statements(template()) if it["Resource"] == "*"]
    assert everywhere == ["ec2:DescribeTags"]
    roles = template().find_resources("AWS::IAM::Role")
    managed = roles["ChromaRole227B64D5"]["Properties"]["ManagedPolicyArns"]
    assert [str(arn).split("policy/")[1][:28] for arn in managed] == [
        "AmazonSSMManagedInstanceCore"
    ]


def test_everything_is_named_after_the_stack_as_it_is_deployed() -> None:
    for specification in launch(template())["TagSpecifications"]:
        [name] = [tag["Value"] for tag in specification["Tags"] if tag["Key"] == "Name"]
        assert name == {"Fn::Join": ["", [{"Ref": "AWS::StackName"}, "/Chroma"]]}
