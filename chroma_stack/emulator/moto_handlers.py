"""What moto's CloudFormation lacks or fakes, for the resource types of our stacks.

What a handler in this file does proves nothing about AWS. It only lets the real command lines run to their end, and shows
that our template reaches each resource with the right properties. Three kinds of things are here:

* classes for resource types that moto skips (`AWS::SecretsManager::Secret`) or makes from half of their properties
  (`AWS::EC2::Volume` comes out as unencrypted gp2);
* `Resources`, moto's map of a stack's resources with CloudFormation's order of things: an update reaches every resource
  whose *resolved* properties changed, what is no longer wanted goes last, and nothing survives a deletion unless its
  policy says so;
* a few corrections of EC2 itself, such as a terminated instance that releases its address, and of stacks that are protected
  from their deletion or cannot be deleted.

`moto_monitoring.py` has the types of logs, metrics, alarms, notifications and schedules.

A resource type without a handler is an error. moto would report success and leave it out. A template that is too large
for a request is an error too.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

from moto.autoscaling.exceptions import ValidationError as GroupError
from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup
from moto.cloudformation import models, parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.common_models import CloudFormationModel
from moto.core.responses import ActionResult
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.elastic_ip_addresses import ElasticAddress
from moto.ec2.models.instances import Instance
from moto.route53 import models as route53
from moto.secretsmanager.models import secretsmanager_backends
from moto.ssm.models import ssm_backends

Properties = dict[str, Any]
"""The `Properties` of a resource, or a whole resource, with its references resolved."""


ROOT_DEVICE = "/dev/xvda"
"""Where Amazon Linux 2023 has its root disk."""


AMI_GIB = 8
"""The size of its root volume."""


LARGEST_PARAMETER = 4096
"""Bytes that a standard parameter of Systems Manager holds."""


LARGEST_BODY = 51_200
"""Bytes of a template in a request to CloudFormation; a larger one is given by its URL."""


def install() -> None:
    """Puts everything in this file into the moto of this process. To call it again changes nothing."""
    # The classes below are known to moto by being subclasses; it keeps what it found the first time it looked.
    for cached in (parsing.get_model_list, parsing.get_model_map, parsing.get_name_type_map):
        cached.cache_clear()
    parsing.resource_class_from_type = _known_class
    models.ResourceMap = Resources  # type: ignore[attr-defined]
    models.CloudFormationBackend.validate_template = _validate  # type: ignore[method-assign]
    CloudFormationResponse._get_param = _get_param  # type: ignore[assignment,method-assign]
    models.CloudFormationBackend.delete_stack = _delete_stack  # type: ignore[method-assign]
    CloudFormationResponse.update_termination_protection = _protect  # type: ignore[attr-defined]
    models.ChangeSet.apply = _apply  # type: ignore[method-assign]
    Instance.terminate = _terminate  # type: ignore[method-assign]
    Instance.add_block_device = _add_block_device  # type: ignore[method-assign]
    route53.create_route53_zone_id = _zone_id
    AutoScalingBackend.delete_auto_scaling_group = _delete_group  # type: ignore[method-assign]
    FakeAutoScalingGroup.image_id = property(_launched_image)  # type: ignore[assignment]
    ElasticAddress.has_cfn_attr = classmethod(_has_address_attribute)  # type: ignore[assignment,method-assign]
    ElasticAddress.get_cfn_attribute = _address_attribute  # type: ignore[method-assign]


def _known_class(resource_type: str) -> type[CloudFormationModel]:
    known = parsing.get_model_map().get(resource_type)
    if known is None:
        raise _unhandled("makes", resource_type)
    return known


def _unhandled(does: str, resource_type: str) -> ValidationError:
    return ValidationError(message=f"neither moto nor the handlers {does} {resource_type}")


_moto_get_param = CloudFormationResponse._get_param


def _get_param(self: CloudFormationResponse, name: str, if_none: Any = None) -> Any:
    """A parameter of a request. moto takes templates of any size."""
    value = _moto_get_param(self, name, if_none)
    if name == "TemplateBody" and len((value or "").encode()) > LARGEST_BODY:
        raise ValidationError(
            message="1 validation error detected: Value at 'templateBody' failed to satisfy constraint: "
            f"Member must have length less than or equal to {LARGEST_BODY}"
        )
    return value


_moto_zone_id = route53.create_route53_zone_id


def _zone_id(*arguments: Any, **more: Any) -> str:
    """The id of a hosted zone, which begins with a Z; moto's with any letter."""
    return f"Z{_moto_zone_id(*arguments, **more)[1:]}"


_moto_apply = models.ChangeSet.apply


def _apply(self: models.ChangeSet) -> None:
    """Carries out a change set; moto leaves the outputs as they were before."""
    _moto_apply(self)
    self.stack.template_dict = self.template_dict
    self.stack.output_map = self.stack._create_output_map()


_moto_delete_stack = models.CloudFormationBackend.delete_stack


def _delete_stack(self: models.CloudFormationBackend, name_or_stack_id: str) -> None:
    """Deletes a stack that is not protected. One of which a resource cannot be deleted stays; moto forgets it.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-protect-stacks.html
    """
    found = [it for it in self.stacks.values() if name_or_stack_id in (it.name, it.stack_id)]
    for stack in found:
        if stack.enable_termination_protection:
            raise ValidationError(
                message=f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled"
            )
        try:
            _moto_delete_stack(self, stack.stack_id)
        except (ValidationError, GroupError) as refused:
            self.stacks[stack.stack_id] = stack
            stack.status = "DELETE_FAILED"
            stack.status_reason = str(refused)  # type: ignore[attr-defined]


def _protect(self: CloudFormationResponse) -> ActionResult:
    """`UpdateTerminationProtection`, which moto lacks."""
    stack = self.cloudformation_backend.get_stack(self._get_param("StackName"))
    stack.enable_termination_protection = self._get_bool_param("EnableTerminationProtection")
    return ActionResult({"StackId": stack.stack_id})


def _validate(self: models.CloudFormationBackend, template: str) -> list[Any]:
    """Refuses what is no template. moto asks cfn-lint, takes a warning for a refusal, and leaves a file behind."""
    try:
        if "Resources" in json.loads(template):
            return []
    except ValueError:
        pass
    return [SimpleNamespace(message="Template format error")]


# --- EC2's own doing -------------------------------------------------------------------------------------------------

_moto_terminate = Instance.terminate


def _terminate(self: Instance) -> Any:
    """Terminates an instance as EC2 does: the address becomes free, root disk and first network interface go.

    moto itself detaches the other volumes.
    """
    for address in self.ec2_backend.addresses:
        if address.instance is self:
            self.ec2_backend.disassociate_address(address=address.public_ip)
    if ROOT_DEVICE in self.block_device_mapping:
        self.block_device_mapping[ROOT_DEVICE].delete_on_termination = True
    self.nics[0].delete_on_termination = True
    return _moto_terminate(self)


_moto_add_block_device = Instance.add_block_device


def _add_block_device(self: Instance, size: int | None, *options: Any, **more: Any) -> None:
    """Adds a disk; without a size of its own it is as large as the AMI's, which moto wants to be told."""
    _moto_add_block_device(self, size or AMI_GIB, *options, **more)


def _has_address_attribute(cls: type[ElasticAddress], attr: str) -> bool:
    return attr in ("AllocationId", "PublicIp")


def _address_attribute(self: ElasticAddress, attribute_name: str) -> Any:
    return {"AllocationId": self.allocation_id, "PublicIp": self.public_ip}[attribute_name]


def _launched_image(self: FakeAutoScalingGroup) -> str:
    """The image the group starts, with `resolve:ssm:` resolved; a parameter that AWS does not publish is an error."""
    assert self.ec2_launch_template, "the group has no launch template"
    image: str = self.ec2_launch_template.get_version(self.launch_template_version).image_id
    scheme = "resolve:ssm:"
    if not image.startswith(scheme):
        return image
    name = image.removeprefix(scheme)
    parameter = ssm_backends[self.account_id][self.region].get_parameter(name)
    if parameter is None:
        raise ValidationError(message=f"no image: there is no SSM parameter {name}")
    return str(parameter.value)


# --- resource types --------------------------------------------------------------------------------------------------


class Secret(CloudFormationModel):
    """`AWS::SecretsManager::Secret`: a given or a generated string. Its `Ref` is the ARN."""

    def __init__(self, arn: str) -> None:
        self.physical_resource_id = arn

    @staticmethod
    def cloudformation_name_type() -> str:
        return "Name"

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SecretsManager::Secret"

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> Secret:
        properties = cloudformation_json["Properties"]
        made = secretsmanager_backends[account_id][region_name].create_secret(
            name=resource_name,
            secret_string=cls._string(properties, account_id, region_name),
            secret_binary=None,
            description=properties.get("Description"),
            tags=properties.get("Tags"),
            kms_key_id=properties.get("KmsKeyId"),
            client_request_token=None,
            replica_regions=[],
            force_overwrite=False,
        )
        return cls(json.loads(made)["ARN"])

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Secret,
        new_resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
    ) -> Secret:
        secretsmanager_backends[account_id][region_name].update_secret(
            original_resource.physical_resource_id,
            secret_string=cls._string(cloudformation_json["Properties"], account_id, region_name),
            # Without one moto takes the new value for another secret of the same name.
            client_request_token=secrets.token_hex(16),
        )
        return original_resource

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Properties, account_id: str, region_name: str
    ) -> None:
        secretsmanager_backends[account_id][region_name].delete_secret(
            resource_name, None, force_delete_without_recovery=True
        )

    @staticmethod
    def _string(properties: Properties, account_id: str, region_name: str) -> str:
        if "SecretString" in properties:
            # https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references-secretsmanager.html
            return re.sub(
                r"\{\{resolve:secretsmanager:(arn:[^}]+?):SecretString:::\}\}",
                lambda found: _secret_value(found[1], account_id, region_name),
                str(properties["SecretString"]),
            )
        wanted = properties.get("GenerateSecretString", {})
        answer = secretsmanager_backends[account_id][region_name].get_random_password(
            password_length=int(wanted.get("PasswordLength", 32)),
            exclude_characters=wanted.get("ExcludeCharacters", ""),
            exclude_numbers=wanted.get("ExcludeNumbers", False),
            exclude_punctuation=wanted.get("ExcludePunctuation", False),
            exclude_uppercase=wanted.get("ExcludeUppercase", False),
            exclude_lowercase=wanted.get("ExcludeLowercase", False),
            include_space=wanted.get("IncludeSpace", False),
            require_each_included_type=wanted.get("RequireEachIncludedType", True),
        )
        password: str = json.loads(answer)["RandomPassword"]
        if "SecretStringTemplate" not in wanted:
            return password
        template = json.loads(wanted["SecretStringTemplate"])
        return json.dumps(template | {wanted["GenerateStringKey"]: password})


def _secret_value(arn: str, account_id: str, region_name: str) -> str:
    value = secretsmanager_backends[account_id][region_name].get_secret_value(arn, "", "")
    return str(value["SecretString"])


class StandardParameter(CloudFormationModel):
    """`AWS::SSM::Parameter` of the standard tier. Its `Ref` is the name, which is generated unless it is given.

    Only one whose name is given is updated: of those with a generated name our stacks make new ones instead.
    """

    def __init__(self, name: str, properties: Properties) -> None:
        self.physical_resource_id = name
        self._properties = properties

    @staticmethod
    def cloudformation_name_type() -> str:
        return "Name"

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SSM::Parameter"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr in ("Type", "Value")

    def get_cfn_attribute(self, attribute_name: str) -> Any:
        return self._properties[attribute_name]

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
        **kwargs: Any,
    ) -> StandardParameter:
        properties = cloudformation_json["Properties"]
        name = properties.get("Name") or f"CFN-{kwargs['LogicalId']}-{secrets.token_hex(6)}"
        cls._put(name, properties, account_id, region_name, overwrite=False)
        return cls(name, properties)

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: StandardParameter,
        new_resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
    ) -> StandardParameter:
        properties, name = (
            cloudformation_json["Properties"],
            original_resource.physical_resource_id,
        )
        if properties.get("Name") != name:
            raise ValidationError(message=f"{name}: our stacks never overwrite it")
        cls._put(name, properties, account_id, region_name, overwrite=True)
        return cls(name, properties)

    @staticmethod
    def _put(
        name: str, properties: Properties, account_id: str, region_name: str, *, overwrite: bool
    ) -> None:
        if len(properties["Value"].encode()) > LARGEST_PARAMETER or "{{" in properties["Value"]:
            raise ValidationError(message=f"{name}: not a value of a standard parameter")
        ssm_backends[account_id][region_name].put_parameter(
            name=name,
            description=properties.get("Description", ""),
            value=properties["Value"],
            parameter_type=properties["Type"],
            allowed_pattern="",
            keyid="",
            overwrite=overwrite,
            # An overwritten parameter keeps its own.
            tags=[]
            if overwrite
            else [{"Key": key, "Value": it} for key, it in properties.get("Tags", {}).items()],
            data_type="text",
            tier="Standard",
            policies=None,
        )

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Properties, account_id: str, region_name: str
    ) -> None:
        ssm_backends[account_id][region_name].delete_parameter(resource_name)


class Volume(CloudFormationModel):
    """`AWS::EC2::Volume` with all its properties. It grows, and refuses the changes that CloudFormation refuses."""

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::EC2::Volume"

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> Any:
        properties = cloudformation_json["Properties"]
        _check_performance(properties, _number(properties, "Size"))
        volume = ec2_backends[account_id][region_name].create_volume(
            size=_number(properties, "Size"),  # type: ignore[arg-type]  # a snapshot has a size of its own
            zone_name=properties["AvailabilityZone"],
            snapshot_id=properties.get("SnapshotId"),
            encrypted=properties.get("Encrypted", False),
            kms_key_id=properties.get("KmsKeyId"),
            volume_type=properties.get("VolumeType"),
            iops=_number(properties, "Iops"),
            throughput=_number(properties, "Throughput"),
        )
        volume.add_tags(_tags(properties))
        return volume

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
    ) -> Any:
        properties, volume = cloudformation_json["Properties"], original_resource
        # "Updates are not supported": CloudFormation neither changes these nor makes a new volume because of them.
        fixed = {
            "AvailabilityZone": volume.zone.name,
            "SnapshotId": volume.snapshot_id,
            "Encrypted": volume.encrypted,
        }
        for name, now in fixed.items():
            if (properties.get(name) or None) != (now or None):
                raise ValidationError(message=f"{volume.id}: updates of {name} are not supported")
        size = _number(properties, "Size") or volume.size
        if size < volume.size:
            raise ValidationError(
                message=f"{volume.id}: a volume cannot shrink from {volume.size} to {size} GiB"
            )
        _check_performance(properties, size)
        volume.modify(
            target_size=size,
            target_volume_type=properties.get("VolumeType"),
            target_iops=_number(properties, "Iops"),
            target_throughput=_number(properties, "Throughput"),
        )
        volume.add_tags(_tags(properties))
        return volume


def _check_performance(properties: Properties, size: int | None) -> None:
    """Refuses what a gp3 volume cannot do: https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html"""
    iops = _number(properties, "Iops") or 3000
    throughput = _number(properties, "Throughput") or 125
    if not 3000 <= iops <= 80_000 or iops > max(3000, 500 * (size or iops)):
        raise ValidationError(message=f"a gp3 volume of {size} GiB has no {iops} IOPS")
    if not 125 <= throughput <= 2000 or throughput > iops / 4:
        raise ValidationError(message=f"a gp3 volume of {iops} IOPS has no {throughput} MiB/s")


class SecurityGroup(CloudFormationModel):
    """`AWS::EC2::SecurityGroup` whose rules change in place (moto makes a new group)."""

    @staticmethod
    def cloudformation_name_type() -> str:
        return "GroupName"

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::EC2::SecurityGroup"

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> Any:
        properties = cloudformation_json["Properties"]
        ec2 = ec2_backends[account_id][region_name]
        description, vpc = properties["GroupDescription"], properties["VpcId"]
        group = ec2.create_security_group(resource_name, description, vpc_id=vpc)
        group.add_tags(_tags(properties))
        cls._allow(ec2, group, properties)
        return group

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
    ) -> Any:
        properties, group = cloudformation_json["Properties"], original_resource
        fixed = {"GroupDescription": group.description, "VpcId": group.vpc_id}
        if any(properties[name] != now for name, now in fixed.items()):
            raise _unhandled("replaces", "AWS::EC2::SecurityGroup")
        group.ingress_rules.clear()
        cls._allow(ec2_backends[account_id][region_name], group, properties)
        return group

    @staticmethod
    def _allow(ec2: EC2Backend, group: Any, properties: Properties) -> None:
        for rule in filter(None, properties.get("SecurityGroupIngress", [])):
            ec2.authorize_security_group_ingress(
                group_name_or_id=group.id,
                ip_protocol=rule["IpProtocol"],
                from_port=rule.get("FromPort"),
                to_port=rule.get("ToPort"),
                ip_ranges=[{key: rule[key] for key in ("CidrIp", "CidrIpv6") if key in rule}],
                source_groups=[
                    {"GroupId": rule[key]} for key in ("SourceSecurityGroupId",) if key in rule
                ],
                vpc_id=group.vpc_id,
            )


SNAPSHOT_HOURS = (1, 2, 3, 4, 6, 8, 12, 24)
"""https://docs.aws.amazon.com/dlm/latest/APIReference/API_CreateRule.html"""


class LifecyclePolicy(CloudFormationModel):
    """`AWS::DLM::LifecyclePolicy`, of which moto has nothing: only what was asked for is kept, and its schedules checked."""

    made: ClassVar[dict[str, Properties]] = {}
    """The properties of each policy that is there, by its id."""

    def __init__(self, policy_id: str) -> None:
        self.physical_resource_id = policy_id

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::DLM::LifecyclePolicy"

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> LifecyclePolicy:
        cls._check(cloudformation_json["Properties"], region_name)
        policy = cls(f"policy-{secrets.token_hex(8)}")
        cls.made[policy.physical_resource_id] = cloudformation_json["Properties"]
        return policy

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: LifecyclePolicy,
        new_resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
    ) -> LifecyclePolicy:
        cls._check(cloudformation_json["Properties"], region_name)
        cls.made[original_resource.physical_resource_id] = cloudformation_json["Properties"]
        return original_resource

    @classmethod
    def delete_from_cloudformation_json(cls, resource_name: str, *_: Any) -> None:
        del cls.made[resource_name]

    @staticmethod
    def _check(properties: Properties, region: str) -> None:
        """https://docs.aws.amazon.com/dlm/latest/APIReference/API_Schedule.html and the pages of its parts"""
        for schedule in properties["PolicyDetails"]["Schedules"]:
            name, create = schedule.get("Name", "a schedule"), schedule["CreateRule"]
            if "CronExpression" in create:
                wrong = create.keys() & {"Interval", "IntervalUnit", "Times"} or not re.fullmatch(
                    r"cron\(\S+( \S+){5}\)", create["CronExpression"]
                )
            else:
                wrong = int(create["Interval"]) not in SNAPSHOT_HOURS
                wrong = wrong or create["IntervalUnit"] != "HOURS" or len(create["Times"]) != 1
            if wrong:
                raise ValidationError(message=f"{name}: not when snapshots are taken: {create}")
            copies = schedule.get("CrossRegionCopyRules", [])
            if len(copies) > 3:
                raise ValidationError(message=f"{name}: copies to more than three regions")
            for copy in copies:
                if "TargetRegion" in copy:
                    raise ValidationError(message=f"{name}: TargetRegion is for policies of AMIs")
                to = copy["Target"]
                if to == region or not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", to):
                    raise ValidationError(message=f"{name}: no other region: {to}")
                key = copy.get("CmkArn")
                if "Encrypted" not in copy or (key and f":kms:{to}:" not in key):
                    raise ValidationError(message=f"{name}: no key in {to}: {key}")
            for rule in [schedule["RetainRule"], *(it["RetainRule"] for it in copies)]:
                by_count, by_age = "Count" in rule, {"Interval", "IntervalUnit"} <= rule.keys()
                if by_count == by_age or not 1 <= int(rule.get("Count", 1)) <= 1000:
                    raise ValidationError(message=f"{name}: not how long to keep: {rule}")


class BucketPolicy(CloudFormationModel):
    """`AWS::S3::BucketPolicy`, which `cdk bootstrap` puts on the bucket that it makes.

    The bucket stays without it: the policy refuses requests without TLS, and all are here.
    """

    def __init__(self, bucket: str) -> None:
        self.physical_resource_id = bucket

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::S3::BucketPolicy"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Properties, *_: Any, **__: Any
    ) -> BucketPolicy:
        return cls(cloudformation_json["Properties"]["Bucket"])


class _OfAcme:
    """A resource of ACM's ACME endpoints, of which moto has nothing: only what was asked for is kept. It is no
    `CloudFormationModel` itself, since moto looks at direct subclasses only."""

    kind: ClassVar[str]
    arn: ClassVar[str]
    """The attribute that is the ARN."""

    made: ClassVar[dict[str, Properties]]
    """The properties of each one that is there, by its ARN."""

    def __init__(self, arn: str) -> None:
        self.physical_resource_id = arn

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def cloudformation_type(cls) -> str:
        return f"AWS::CertificateManager::{cls.kind}"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr in (cls.arn, "EndpointUrl")

    def get_cfn_attribute(self, attribute_name: str) -> str:
        if attribute_name == "EndpointUrl":
            endpoint = self.physical_resource_id.rpartition("/")[2]
            return f"https://acm-acme-enroll.us-east-1.api.aws/{endpoint}/directory"
        return self.physical_resource_id

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> _OfAcme:
        made = cls(f"arn:aws:acm:{region_name}:{account_id}:{cls.kind}/{secrets.token_hex(16)}")
        cls.made[made.physical_resource_id] = cloudformation_json["Properties"]
        return made

    @classmethod
    def delete_from_cloudformation_json(cls, resource_name: str, *_: Any) -> None:
        del cls.made[resource_name]


class AcmeEndpoint(_OfAcme, CloudFormationModel):
    """`AWS::CertificateManager::AcmeEndpoint`."""

    kind, arn, made = "AcmeEndpoint", "AcmeEndpointArn", {}


class AcmeDomainValidation(_OfAcme, CloudFormationModel):
    """`AWS::CertificateManager::AcmeDomainValidation`."""

    kind, arn, made = "AcmeDomainValidation", "Arn", {}


class AcmeExternalAccountBinding(_OfAcme, CloudFormationModel):
    """`AWS::CertificateManager::AcmeExternalAccountBinding`."""

    kind, arn, made = "AcmeExternalAccountBinding", "AcmeExternalAccountBindingArn", {}


class AutoScalingGroup(CloudFormationModel):
    """`AWS::AutoScaling::AutoScalingGroup` that stays itself through an update and replaces its instances if told to.

    moto makes a new group instead. Signals are not waited for: a group at zero has no instance that could send one, and
    none is started for it.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-updatepolicy.html
    """

    @staticmethod
    def cloudformation_name_type() -> str:
        return "AutoScalingGroupName"

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::AutoScaling::AutoScalingGroup"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Properties, *args: Any, **kwargs: Any
    ) -> Any:
        group = FakeAutoScalingGroup.create_from_cloudformation_json(
            resource_name, cloudformation_json, *args, **kwargs
        )
        cls._declare(group, cloudformation_json["Properties"])
        return group

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Any,
        new_resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
    ) -> Any:
        properties, group = cloudformation_json["Properties"], original_resource
        policy = cloudformation_json.get("UpdatePolicy", {})
        # Otherwise CloudFormation sets the sizes whatever a scheduled action made of them.
        keeps = policy.get("AutoScalingScheduledAction", {}).get(
            "IgnoreUnmodifiedGroupSizeProperties"
        )
        sizes = {name: _number(properties, name) for name in SIZES}
        if keeps:
            sizes = {
                name: size if size != group.declared_sizes[name] else None
                for name, size in sizes.items()
            }
        started_from = _launch_of(group)
        group.update(
            availability_zones=properties.get("AvailabilityZones", []),
            desired_capacity=cls._desired(group, sizes),
            max_size=sizes["MaxSize"],
            min_size=sizes["MinSize"],
            launch_config_name=None,
            launch_template=properties["LaunchTemplate"],
            vpc_zone_identifier=",".join(properties.get("VPCZoneIdentifier", [])),
            health_check_period=properties.get("HealthCheckGracePeriod"),
            health_check_type=properties.get("HealthCheckType"),
        )
        # A tag that something else has set stays.
        others = [it for it in group.tags if it["Key"] not in group.declared_tags]
        group.tags = [*properties.get("Tags", []), *others]
        cls._declare(group, properties)
        # Without this policy CloudFormation leaves the running instances as they are.
        if "AutoScalingRollingUpdate" in policy and _launch_of(group) != started_from:
            wanted = group.desired_capacity
            group.set_desired_capacity(0)
            group.set_desired_capacity(wanted)
        return group

    @staticmethod
    def _desired(group: FakeAutoScalingGroup, sizes: Mapping[str, int | None]) -> int | None:
        """What is wanted between the new bounds; moto counts from the instances that there are."""
        wanted = sizes["DesiredCapacity"]
        if wanted is None:
            wanted = group.desired_capacity or 0
            if sizes["MaxSize"] is not None:
                wanted = min(wanted, sizes["MaxSize"])
            if sizes["MinSize"] is not None:
                wanted = max(wanted, sizes["MinSize"])
        return wanted

    @staticmethod
    def _declare(group: Any, properties: Properties) -> None:
        group.declared_sizes = {name: _number(properties, name) for name in SIZES}
        group.declared_tags = {tag["Key"] for tag in properties.get("Tags", [])}
        group.deletion_protection = properties.get("DeletionProtection", "none")
        if group.deletion_protection not in ("none", "prevent-all-deletion"):
            raise _unhandled("protects a group in this way:", group.deletion_protection)


SIZES = ("MinSize", "MaxSize", "DesiredCapacity")

_moto_delete_group = AutoScalingBackend.delete_auto_scaling_group


def _delete_group(self: AutoScalingBackend, group_name: str) -> None:
    """Deletes a group that is not protected.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/resource-deletion-protection.html
    """
    group = self.autoscaling_groups.get(group_name)
    if getattr(group, "deletion_protection", "none") != "none":
        raise GroupError(f"{group_name} is protected from deletion")
    _moto_delete_group(self, group_name)


def _launch_of(group: FakeAutoScalingGroup) -> tuple[Any, ...]:
    return group.ec2_launch_template.id, group.launch_template_version, group.vpc_zone_identifier  # type: ignore[union-attr]


def _number(properties: Properties, name: str) -> int | None:
    return int(properties[name]) if name in properties else None


def _tags(properties: Properties) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])}


# --- the order of things ---------------------------------------------------------------------------------------------

REMOVERS: dict[str, Callable[[EC2Backend, Any], object]] = {
    # An association and a default route are part of the route table, which takes them along.
    "AWS::EC2::Route": lambda ec2, route: None,
    "AWS::EC2::SubnetRouteTableAssociation": lambda ec2, association: None,
    "AWS::EC2::RouteTable": lambda ec2, table: ec2.delete_route_table(table.id),
    "AWS::EC2::VPCGatewayAttachment": lambda ec2, it: ec2.detach_internet_gateway(
        it.gateway_id, it.vpc_id
    ),
    "AWS::EC2::InternetGateway": lambda ec2, gateway: ec2.delete_internet_gateway(gateway.id),
    "AWS::EC2::SecurityGroup": lambda ec2, group: ec2.delete_security_group(group_id=group.id),
    "AWS::EC2::EIP": lambda ec2, address: ec2.release_address(allocation_id=address.allocation_id),
    "AWS::EC2::Volume": lambda ec2, volume: ec2.delete_volume(volume.id),
}
"""How the resources go that moto's CloudFormation makes and leaves behind."""


_GROUP = "AWS::AutoScaling::AutoScalingGroup"
"""Each update of its stack reaches it, whose sizes may have changed."""


class Resources(parsing.ResourceMap):
    """The resources of a stack, changed and removed in CloudFormation's order."""

    def update(self, template: dict[str, Any], parameters: dict[str, Any] | None = None) -> None:
        """Makes what is new, changes what resolves to other properties than before, then removes what is left over."""
        old = self._wanted()
        before = {name: self._properties(declared) for name, declared in old.items()}
        self._template, self._resource_json_map = template, template["Resources"]
        if parameters is not None:
            self.input_parameters = parameters
        self.load_mapping()
        self.load_parameters()
        self.load_conditions()
        new = self._wanted()
        for name in _by_dependency(new):
            if name not in old:
                _ = self[name]  # reading a resource makes it
            elif new[name]["Type"] != old[name]["Type"]:
                raise ValidationError(message=f"{name}: the type of a resource cannot change")
            elif self._properties(new[name]) != before[name] or new[name]["Type"] == _GROUP:
                self._change(name, new[name])
        for name in reversed(_by_dependency(old)):
            if name not in new:
                self._remove(name, old[name])

    def delete(self) -> None:
        """Removes every resource, the dependent ones first."""
        wanted = self._wanted()
        for name in reversed(_by_dependency(wanted)):
            self._remove(name, wanted[name])

    def values(self) -> Any:
        """What was made; moto adds nothing for each resource whose condition does not hold."""
        return [made for made in super().values() if made is not None]

    def _wanted(self) -> dict[str, Any]:
        """The declared resources whose condition holds."""
        return {
            name: declared
            for name, declared in self._resource_json_map.items()
            if "Condition" not in declared or self.lazy_condition_map[declared["Condition"]]
        }

    def _properties(self, declared: dict[str, Any]) -> Any:
        return parsing.clean_json(declared.get("Properties", {}), self)

    def _change(self, name: str, declared: dict[str, Any]) -> None:
        changer = _known_class(declared["Type"]).update_from_cloudformation_json
        if hasattr(changer, "__isabstractmethod__"):
            raise _unhandled("changes", declared["Type"])
        self._parsed_resources[name] = parsing.parse_and_update_resource(
            name, declared, self, account_id=self._account_id, region_name=self._region_name
        )

    def _remove(self, name: str, declared: dict[str, Any]) -> None:
        if name not in self._parsed_resources:
            return  # an earlier deletion, which failed later on, removed it
        resource = self._parsed_resources[name]
        self._remove_one(declared, name, resource)
        del self._parsed_resources[name]

    def _remove_one(self, declared: dict[str, Any], name: str, resource: Any) -> None:
        ec2 = ec2_backends[self._account_id][self._region_name]
        policy = declared.get("DeletionPolicy", "Delete")
        if policy.startswith("Retain"):
            return
        if policy == "Snapshot":
            ec2.create_snapshot(resource.id, description=f"last snapshot of {name}")
        known = _known_class(declared["Type"])
        if declared["Type"] in REMOVERS:
            REMOVERS[declared["Type"]](ec2, resource)
        elif hasattr(resource, "delete"):
            resource.delete(self._account_id, self._region_name)
        elif not hasattr(known.delete_from_cloudformation_json, "__isabstractmethod__"):
            known.delete_from_cloudformation_json(
                resource.physical_resource_id, declared, self._account_id, self._region_name
            )
        else:
            raise _unhandled("removes", declared["Type"])


def _by_dependency(declared: Mapping[str, Any]) -> list[str]:
    """The logical names, each after those it refers to."""
    ordered: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in ordered:
            return
        for other in _references(declared[name]):
            if other in declared and other != name:
                visit(other)
        ordered[name] = None

    for name in declared:
        visit(name)
    return list(ordered)


def _references(value: Any) -> list[str]:
    """The names that a part of a template refers to, by `Ref`, `Fn::GetAtt`, `Fn::Sub` or `DependsOn`."""
    found: list[str] = []
    if isinstance(value, list):
        for item in value:
            found += _references(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in ("Ref", "Fn::GetAtt", "DependsOn"):
                found.append(item) if isinstance(item, str) else found.extend(item)
            elif key == "Fn::Sub":
                text = item if isinstance(item, str) else item[0]
                found += re.findall(r"\$\{(\w+)", text)
            found += _references(item)
    return found
