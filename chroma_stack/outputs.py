"""What a stack with a server tells its user: where it is, and the commands needed next."""

from __future__ import annotations

from typing import NamedTuple

import aws_cdk as cdk

from chroma_stack import auth
from chroma_stack.server import ChromaServer
from chroma_stack.tls import CA_FILE


class Output(NamedTuple):
    """An output of a stack."""

    description: str
    value: str


def of(server: ChromaServer) -> dict[str, Output]:
    """The outputs by their names."""
    url, region = server.endpoint.url, cdk.Stack.of(server).region
    curl = f"curl {server.tls._curl_options}--fail"
    group = server.auto_scaling_group.auto_scaling_group_name
    # Quoted for bash, zsh and PowerShell: brackets are patterns in one, commas make lists in another.
    instance = (
        f"$(aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names {group} "
        f"--region {region} --query 'AutoScalingGroups[0].Instances[0].InstanceId' "
        "--output text)"
    )
    outputs = {
        "ServerIp": Output("Address of the server", server.ip_address),
        "ServerUrl": Output("URL of the server", url),
        "Authentication": Output("What clients must send", server.auth.description),
        "HeartbeatCommand": Output(
            "Asks the server whether it is there",
            f"{curl} {url}/api/v2/heartbeat || {curl} {url}/api/v1/heartbeat",
        ),
        "SessionCommand": Output(
            "Opens a shell on the instance (needs the Session Manager plugin)",
            f"aws ssm start-session --region {region} --target {instance}",
        ),
        # Not by two commands: the second needs the instance and the command that the first made.
        "StatusCommand": Output(
            "Prints the server's status without a session on the instance (bash or zsh)",
            f"instance={instance} && id=$(aws ssm send-command --region {region} "
            '--instance-ids "$instance" --document-name AWS-RunShellScript '
            # The command would count as failed when the server needs attention.
            "--parameters 'commands=chroma-status || true' "
            "--query Command.CommandId --output text) && "
            f'aws ssm wait command-executed --region {region} --instance-id "$instance" '
            '--command-id "$id" && '
            f'aws ssm get-command-invocation --region {region} --instance-id "$instance" '
            '--command-id "$id" --query StandardOutputContent --output text',
        ),
        "GroupName": Output("Auto Scaling group of the instance", group),
        "VolumeId": Output("Volume that holds the data", server.volume.volume_id),
        "SnapshotsCommand": Output(
            "Lists the snapshots of the data",
            f"aws ec2 describe-snapshots --region {region} "
            f"--filters 'Name=volume-id,Values={server.volume.volume_id}'",
        ),
    }
    if server.secret is not None:
        outputs["CredentialCommand"] = Output(
            "Prints the credential",
            f"aws secretsmanager get-secret-value --region {server.secret.env.region} "
            f"--secret-id {server.secret.secret_arn} --query SecretString --output text",
        )
    if server.users:
        path = auth.users_path(server._role)
        outputs["UserCredentialCommand"] = Output(
            "Prints the credential of the user whose name replaces NAME (bash or zsh)",
            # The parameter's value is an access, a space and the ARN of a secret.
            f"user=$(aws ssm get-parameter --region {region} --name {path}/NAME "
            '--query Parameter.Value --output text) && secret="${user#* }" && '
            'aws secretsmanager get-secret-value --region "$(cut -d : -f 4 <<<"$secret")" '
            '--secret-id "$secret" --query SecretString --output text',
        )
    if server.tls._trusted_by_file:
        outputs["CaCertificateCommand"] = Output(
            f"Writes {CA_FILE}, with which clients trust the server by https:// on the same port",
            f"aws ssm get-parameter --region {region} "
            f"--name {server.ca_certificate_parameter_name} "
            f"--query Parameter.Value --output text > {CA_FILE}",
        )
    return outputs
