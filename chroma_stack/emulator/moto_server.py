"""A moto server with the handlers of `moto_handlers`, and what a test asks it about a deployed stack."""

from __future__ import annotations

import base64
import logging
import re
import secrets
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import boto3
from moto.cloudformation.models import cloudformation_backends
from moto.server import ThreadedMotoServer
from moto.sts.models import sts_backends

from chroma_stack.emulator import moto_handlers, moto_monitoring


class MotoServer:
    """An AWS account on this computer's loopback, empty at the start.

    moto keeps its state in the process, so there is one account at a time: starting a server empties it.

        with MotoServer() as aws:
            subprocess.run(["aws", "ec2", "describe-vpcs"], env=os.environ | aws.environment)
            aws.client("ec2").describe_volumes()

    :param guarded: whether it lets in only who knows an access key id of this account, and no page of a browser. moto
        itself lets in everyone, and any user and any page of this computer can reach a port of its loopback.
    """

    region = "us-east-1"

    def __init__(self, guarded: bool = False) -> None:
        self.access_key = "testing"
        self._guarded = guarded
        self._keys: set[str] = set()
        if guarded:
            self.access_key = self.new_access_key()
        moto_handlers.install()
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no line for each request
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        if self._server._server is not None:
            self._server._server.app = _Guard(self, self._server._server.app)
        self.port = self._server.get_host_and_port()[1]
        # By name: given an address, moto takes template URLs for those of another service.
        self.endpoint = f"http://localhost:{self.port}"
        moto_monitoring.connect(self.client)
        self.reset()

    def __enter__(self) -> MotoServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.stop()

    def reset(self) -> None:
        """Empties the account."""
        request = urllib.request.Request(
            f"{self.endpoint}/moto-api/reset",
            method="POST",
            headers={"Authorization": f"AWS4-HMAC-SHA256 Credential={self.access_key}/"},
        )
        urllib.request.urlopen(request).close()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead command lines and SDKs here, and nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_SESSION_TOKEN": "testing",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    def new_access_key(self) -> str:
        """Another access key id that the account lets in: for a machine, whose calls are told from others' by it."""
        key = f"ASIA{secrets.token_hex(16).upper()}"
        self._keys.add(key)
        return key

    def lets_in(self, authorization: str, origin: str) -> bool:
        """Whether the account answers a request.

        :param authorization: the header by which it is signed; signatures are not checked.
        :param origin: the header that browsers send.
        """
        if not self._guarded:
            return True
        found = re.search(r"Credential=([^/]+)/", authorization)
        if origin or not found:
            return False
        roles = {
            role.access_key_id
            for backends in list(sts_backends.values())
            for backend in list(backends.values())
            for role in list(backend.assumed_roles)
        }
        return found[1] in self._keys | roles

    def client(self, service: str) -> Any:
        """A boto3 client of this account."""
        return boto3.Session().client(  # type: ignore[call-overload]
            service,
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key="testing",
        )

    def stacks(self) -> dict[str, str]:
        """The name and the status of each stack there is."""
        found = self.client("cloudformation").describe_stacks()["Stacks"]
        return {stack["StackName"]: stack["StackStatus"] for stack in found}

    def physical_ids(self, stack_name: str, resource_type: str) -> list[str]:
        """The ids of a stack's resources of one type."""
        found = self.client("cloudformation").describe_stack_resources(StackName=stack_name)
        of_type = [it for it in found["StackResources"] if it["ResourceType"] == resource_type]
        return [it["PhysicalResourceId"] for it in of_type]

    def physical_id(self, stack_name: str, resource_type: str) -> str:
        """The id of a stack's only resource of one type."""
        found = self.physical_ids(stack_name, resource_type)
        assert len(found) == 1, f"{stack_name} has {len(found)} of {resource_type}: {found}"
        return found[0]

    def template_body(self, stack_name: str) -> str:
        """A stack's template, character by character as it was sent."""
        [backend] = [it[self.region] for it in cloudformation_backends.values()]
        [stack] = [it for it in backend.stacks.values() if it.name == stack_name]
        return str(stack.template)

    def parameters(self, stack_name: str) -> dict[str, str]:
        """What the stack's parameters of Systems Manager hold, by their names."""
        found = self.parameters_named(self.physical_ids(stack_name, "AWS::SSM::Parameter"))
        return {it["Name"]: it["Value"] for it in found}

    def parameters_named(self, names: list[str]) -> list[Any]:
        """Those of these parameters of Systems Manager that exist; a call takes up to ten names."""
        ssm = self.client("ssm")
        calls = [names[start : start + 10] for start in range(0, len(names), 10)]
        return [it for part in calls for it in ssm.get_parameters(Names=part)["Parameters"]]

    def volume(self, volume_id: str) -> Any:
        """A volume, as `describe-volumes` gives it."""
        return self.client("ec2").describe_volumes(VolumeIds=[volume_id])["Volumes"][0]

    def open_ports(self, stack_name: str) -> set[tuple[int, str]]:
        """The ports that the stack's security group lets in, each with a network."""
        group_id = self.physical_id(stack_name, "AWS::EC2::SecurityGroup")
        [group] = self.client("ec2").describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
        return {
            (rule["FromPort"], ip["CidrIp"])
            for rule in group["IpPermissions"]
            for ip in rule["IpRanges"]
        }

    def snapshots(self, volume_id: str) -> list[Any]:
        """The snapshots of a volume, as `describe-snapshots` gives them."""
        of_volume = {"Name": "volume-id", "Values": [volume_id]}
        return list(self.client("ec2").describe_snapshots(Filters=[of_volume])["Snapshots"])

    def group_instance(self, stack_name: str) -> Any:
        """The instance that the stack's group has in service now, as `describe-instances` gives it."""
        in_service = [
            one
            for one in self._group(stack_name)["Instances"]
            if one["LifecycleState"] == "InService"
        ]
        assert len(in_service) == 1, f"{len(in_service)} instances are in service"
        described = self.client("ec2").describe_instances(InstanceIds=[in_service[0]["InstanceId"]])
        return described["Reservations"][0]["Instances"][0]

    def launch_template_version(self, stack_name: str) -> Any:
        """The launch template version the stack's group starts from, as `describe-launch-template-versions` gives it."""
        template = self._group(stack_name)["LaunchTemplate"]
        versions = self.client("ec2").describe_launch_template_versions(
            LaunchTemplateId=template["LaunchTemplateId"], Versions=[template["Version"]]
        )
        return versions["LaunchTemplateVersions"][0]

    def launched_user_data(self, stack_name: str) -> str:
        """The user data a new instance of the stack's group gets, decoded, its references resolved."""
        data = self.launch_template_version(stack_name)["LaunchTemplateData"]
        return base64.b64decode(data["UserData"], validate=True).decode()

    def _group(self, stack_name: str) -> Any:
        name = self.physical_id(stack_name, "AWS::AutoScaling::AutoScalingGroup")
        found = self.client("autoscaling").describe_auto_scaling_groups(
            AutoScalingGroupNames=[name]
        )
        return found["AutoScalingGroups"][0]


class _Guard:
    """Stands before moto's app, and refuses whom the account does not let in."""

    def __init__(self, account: MotoServer, app: Any) -> None:
        self._account, self._app = account, app

    def __call__(
        self, environ: Mapping[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        signed, origin = environ.get("HTTP_AUTHORIZATION", ""), environ.get("HTTP_ORIGIN", "")
        if self._account.lets_in(signed, origin):
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        start_response("403 Forbidden", [("Content-Type", "text/plain"), ("Connection", "close")])
        return [b"This account lets in only who has its access key id, and no browser.\n"]
