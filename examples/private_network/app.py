"""A Chroma server in a network without any way to the internet."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_logs as logs
from constructs import Construct

from chroma_stack import ChromaImage, ChromaMonitoring, ChromaServer

MIRROR = "mirror/chroma"
"""The repository in Amazon ECR that holds the image, under the release as its tag."""

SERVICES = ec2.InterfaceVpcEndpointAwsService
ENDPOINTS = {
    "Ec2": SERVICES.EC2,
    "EcrApi": SERVICES.ECR,
    "EcrDkr": SERVICES.ECR_DOCKER,
    "SecretsManager": SERVICES.SECRETS_MANAGER,
    "CloudFormation": SERVICES.CLOUDFORMATION,
    "AutoScaling": SERVICES.AUTOSCALING,
    "Logs": SERVICES.CLOUDWATCH_LOGS,
    "Monitoring": SERVICES.CLOUDWATCH_MONITORING,
    "Ssm": SERVICES.SSM,  # the instance's program and users are in Parameter Store
    "SsmMessages": SERVICES.SSM_MESSAGES,  # for Session Manager only
}
"""What the instance calls; docs/private-networks.md says what for."""


class IsolatedStack(cdk.Stack):
    """Isolated subnets with the endpoints that the instance needs, and the server in them."""

    def __init__(self, scope: Construct, construct_id: str, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, **kwargs)
        vpc = ec2.Vpc(
            self,
            "Vpc",
            # The server is placed in one zone, and endpoints are paid by the zone.
            max_azs=1,
            nat_gateways=0,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="Isolated", subnet_type=ec2.SubnetType.PRIVATE_ISOLATED
                )
            ],
            flow_logs={
                # What is refused costs little to keep, and says which endpoint is missing.
                "Refused": ec2.FlowLogOptions(
                    traffic_type=ec2.FlowLogTrafficType.REJECT,
                    destination=ec2.FlowLogDestination.to_cloud_watch_logs(
                        logs.LogGroup(
                            self,
                            "FlowLogs",
                            retention=logs.RetentionDays.ONE_MONTH,
                            removal_policy=cdk.RemovalPolicy.DESTROY,
                        )
                    ),
                )
            },
        )
        vpc.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        endpoints = {
            name: vpc.add_interface_endpoint(name, service=service, open=False)
            for name, service in ENDPOINTS.items()
        }

        mirror = ecr.Repository.from_repository_name(self, "Mirror", MIRROR)
        self.chroma = ChromaServer(
            self,
            "Chroma",
            vpc=vpc,
            image=ChromaImage.from_ecr_repository(mirror),
            monitoring=ChromaMonitoring(),
        )
        for endpoint in endpoints.values():
            endpoint.connections.allow_default_port_from(self.chroma)
        # The instance boots when it can reach all of them, and not before.
        self.chroma.auto_scaling_group.node.add_dependency(vpc)

        # Whatever has this group may use the server, and read the credential when its role may.
        clients = ec2.SecurityGroup(
            self, "Clients", vpc=vpc, description="Clients of the Chroma server"
        )
        self.chroma.connections.allow_default_port_from(clients)
        endpoints["SecretsManager"].connections.allow_default_port_from(clients)
        cdk.CfnOutput(self, "ServerUrl", value=self.chroma.endpoint.url)
        cdk.CfnOutput(self, "ClientsGroup", value=clients.security_group_id)


if __name__ == "__main__":
    app = cdk.App()
    IsolatedStack(app, "PrivateNetwork")
    app.synth()
