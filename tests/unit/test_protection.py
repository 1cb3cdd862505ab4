"""What keeps a server from being deleted by mistake."""

from __future__ import annotations

import aws_cdk as cdk
import pytest

from chroma_stack import ChromaStack
from tests.unit.construct import server_template
from tests.unit.synthesis import resource, stack, template

GROUP = "AWS::AutoScaling::AutoScalingGroup"
VOLUME = "AWS::EC2::Volume"


def test_by_default_a_deletion_leaves_a_snapshot_and_nothing_refuses_it() -> None:
    assert not stack().termination_protection
    assert "DeletionProtection" not in resource(template(), GROUP)["Properties"]
    assert resource(template(), VOLUME)["DeletionPolicy"] == "Snapshot"


def test_stack_and_group_refuse_to_be_deleted() -> None:
    assert stack(deletionProtection="true").termination_protection is True
    group = resource(template(deletionProtection="true"), GROUP)["Properties"]
    assert group["DeletionProtection"] == "prevent-all-deletion"


def test_the_volume_stays_where_the_stack_is_deleted_by_force() -> None:
    volume = resource(template(deletionProtection="true"), VOLUME)
    assert volume["DeletionPolicy"] == "RetainExceptOnCreate"


def test_a_volume_that_is_replaced_leaves_a_snapshot_as_ever() -> None:
    volume = resource(template(deletionProtection="true"), VOLUME)
    assert volume["UpdateReplacePolicy"] == "Snapshot"


def test_a_removal_policy_of_the_owners_own_stays() -> None:
    made = server_template(
        lambda _: {"deletion_protection": True, "removal_policy": cdk.RemovalPolicy.DESTROY}
    )
    assert resource(made, VOLUME)["DeletionPolicy"] == "Delete"


def test_the_owners_own_word_on_the_stack_stays() -> None:
    made = ChromaStack(cdk.App(), deletion_protection=True, termination_protection=False)
    assert made.termination_protection is False


@pytest.mark.parametrize("value", ["false", "False"])
def test_protection_that_is_switched_off_is_taken_off_the_group(value: str) -> None:
    assert not stack(deletionProtection=value).termination_protection
    made = template(deletionProtection=value)
    assert resource(made, GROUP)["Properties"]["DeletionProtection"] == "none"
    assert resource(made, VOLUME) == resource(template(), VOLUME)
