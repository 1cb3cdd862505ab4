"""A service on AWS Fargate that uses Chroma."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_logs as logs
from constructs import Construct

from chroma_stack import ChromaAccess, ChromaServer


class ServiceStack(cdk.Stack):
    """A network, a Chroma server in its private subnets, and the service beside it."""

    def __init__(self, scope: Construct, construct_id: str, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, **kwargs)
        vpc = ec2.Vpc(
            self,
            "Vpc",
            max_azs=2,
            nat_gateways=1,
            flow_logs={
                # What is refused costs little to keep, and says who was refused.
                "Refused": ec2.FlowLogOptions(
                    traffic_type=ec2.FlowLogTrafficType.REJECT,
                    destination=ec2.FlowLogDestination.to_cloud_watch_logs(
                        self._log_group("FlowLogs")
                    ),
                )
            },
        )
        self.chroma = ChromaServer(self, "Chroma", vpc=vpc)
        user = self.chroma.add_user("service", access=ChromaAccess.READ)

        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            runtime_platform=ecs.RuntimePlatform(cpu_architecture=ecs.CpuArchitecture.ARM64),
        )
        task.add_container(
            "App",
            image=ecs.ContainerImage.from_registry(
                "public.ecr.aws/docker/library/python:3.13-slim"
            ),
            command=["python", "-c", (Path(__file__).parent / "service.py").read_text()],
            environment={
                "CHROMA_HOST": self.chroma.endpoint.hostname,
                "CHROMA_PORT": str(self.chroma.endpoint.port),
            },
            secrets={"CHROMA_CREDENTIAL": ecs.Secret.from_secrets_manager(user.secret)},
            logging=ecs.LogDrivers.aws_logs(
                stream_prefix="app", log_group=self._log_group("ServiceLogs")
            ),
        )
        service = ecs.FargateService(
            self,
            "Service",
            cluster=ecs.Cluster(
                self, "Cluster", vpc=vpc, container_insights_v2=ecs.ContainerInsights.ENABLED
            ),
            task_definition=task,
            min_healthy_percent=100,
            circuit_breaker=ecs.DeploymentCircuitBreaker(rollback=True),
        )
        # ECS reads the credential for the container, by the execution role.
        self.chroma.grant_connect(service, task.obtain_execution_role(), user=user)
        # Its tasks start when the server serves and its port is open. Not the whole service waits:
        # the port is opened for its security group, which has to be there before.
        service.node.find_child("Service").node.add_dependency(self.chroma)
        cdk.Validations.of(task).acknowledge(
            cdk.Acknowledgment(
                id="AwsSolutions-ECS2",
                reason="The server's name and port are no secret; the credential is given as one.",
            )
        )
        cdk.CfnOutput(self, "ClusterName", value=service.cluster.cluster_name)
        cdk.CfnOutput(self, "ServiceName", value=service.service_name)

    def _log_group(self, construct_id: str) -> logs.LogGroup:
        """One that is emptied after a month, and leaves nothing behind."""
        return logs.LogGroup(
            self,
            construct_id,
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )


if __name__ == "__main__":
    app = cdk.App()
    ServiceStack(app, "FargateService")
    app.synth()
