"""A Chroma server for each team; one policy that takes the snapshots of all of them, one dashboard."""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_dlm as dlm
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_route53 as route53
from aws_cdk import aws_sns as sns
from constructs import Construct

from chroma_stack import ChromaDashboard, ChromaMonitoring, ChromaServer

KEPT_SNAPSHOTS = 14


class TeamsStack(cdk.Stack):
    """A network, and in it a server and a security group for each team.

    The context value ``teams`` says which, and the type of each team's instance and the GiB of
    its volume.
    """

    def __init__(self, scope: Construct, construct_id: str, **kwargs: Any) -> None:
        super().__init__(scope, construct_id, **kwargs)
        vpc = ec2.Vpc(
            self,
            "Vpc",
            max_azs=2,
            nat_gateways=1,
            flow_logs={
                # What is refused costs little to keep, and says which team called which server.
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
        zone = route53.PrivateHostedZone(self, "Zone", vpc=vpc, zone_name="chroma.internal")
        self.servers: dict[str, ChromaServer] = {}
        for team, wants in self.node.get_context("teams").items():
            scope_of_team = Construct(self, f"Team-{team}")
            # Whatever of theirs has this group may use their server, and no other.
            clients = ec2.SecurityGroup(
                scope_of_team, "Clients", vpc=vpc, description=f"Clients of {team}"
            )
            server = ChromaServer(
                scope_of_team,
                "Chroma",
                vpc=vpc,
                hosted_zone=zone,
                domain_name=f"{team}.chroma.internal",
                instance_type=ec2.InstanceType(wants["instanceType"]),
                volume_size=cdk.Size.gibibytes(wants["volumeSize"]),
                backup_retention=cdk.Duration.days(0),
                monitoring=ChromaMonitoring(),
            )
            server.connections.allow_default_port_from(clients)
            cdk.Tags.of(scope_of_team).add("team", team)
            # In the stack itself their names have no hash.
            cdk.CfnOutput(self, f"{team}-ServerUrl", value=server.endpoint.url)
            cdk.CfnOutput(self, f"{team}-ClientsGroup", value=clients.security_group_id)
            self.servers[team] = server
        self._add_snapshots()
        self._add_alarms()
        ChromaDashboard(self, "Dashboard", servers=list(self.servers.values()))

    def _add_snapshots(self) -> None:
        """A snapshot of every team's volume each night, all by one policy that finds them by a
        tag."""
        tag = cdk.CfnTag(key="chroma-snapshots", value=self.stack_name)
        for server in self.servers.values():
            cdk.Tags.of(server.volume).add(tag.key, tag.value)
        role = iam.Role(
            self,
            "SnapshotsRole",
            assumed_by=iam.ServicePrincipal("dlm.amazonaws.com"),
            managed_policies=[
                iam.ManagedPolicy.from_aws_managed_policy_name(
                    "service-role/AWSDataLifecycleManagerServiceRole"
                )
            ],
        )
        cdk.Validations.of(role).acknowledge(
            cdk.Acknowledgment(
                id="AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/"
                "service-role/AWSDataLifecycleManagerServiceRole]",
                reason="AWS maintains this policy for the service that takes the snapshots.",
            )
        )
        dlm.CfnLifecyclePolicy(
            self,
            "Snapshots",
            description="Snapshots of the data of every team",
            state="ENABLED",
            execution_role_arn=role.role_arn,
            policy_details=dlm.CfnLifecyclePolicy.PolicyDetailsProperty(
                resource_types=["VOLUME"],
                target_tags=[tag],
                schedules=[
                    dlm.CfnLifecyclePolicy.ScheduleProperty(
                        name="Nightly",
                        create_rule=dlm.CfnLifecyclePolicy.CreateRuleProperty(
                            interval=24, interval_unit="HOURS", times=["02:00"]
                        ),
                        retain_rule=dlm.CfnLifecyclePolicy.RetainRuleProperty(count=KEPT_SNAPSHOTS),
                        copy_tags=True,
                    )
                ],
            ),
        )

    def _add_alarms(self) -> None:
        """Alarms on every team's server, to one topic that people subscribe to."""
        topic = sns.Topic(self, "Alarms", enforce_ssl=True)
        # With a policy of its own, the topic lets CloudWatch publish only when that says so.
        topic.grant_publish(iam.ServicePrincipal("cloudwatch.amazonaws.com"))
        for server in self.servers.values():
            server.add_alarms(topic)
        cdk.CfnOutput(self, "AlarmTopic", value=topic.topic_arn)


if __name__ == "__main__":
    app = cdk.App()
    TeamsStack(app, "SeveralServers")
    app.synth()
