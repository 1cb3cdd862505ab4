"""A Lambda function that answers questions from documents in Chroma, with Amazon Bedrock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_bedrock as bedrock
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from chroma_stack import ChromaAccess, ChromaServer

ANSWER_MODEL = "amazon.nova-lite-v1:0"
"""Offered on demand in us-east-1; in most other regions only by an inference profile, which
needs further permissions:
https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-prereq.html"""


class RagStack(cdk.Stack):
    """A network, a Chroma server in its private subnets, and the function beside it.

    The context value ``answerModel`` is the id of another model that answers.
    """

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
        # It makes a collection and fills it, and can delete none.
        user = self.chroma.add_user("rag", access=ChromaAccess.WRITE)

        embedding = bedrock.FoundationModel.from_foundation_model_id(
            self,
            "EmbeddingModel",
            bedrock.FoundationModelIdentifier.AMAZON_TITAN_EMBED_TEXT_V2_0,
        )
        answer = bedrock.FoundationModel.from_foundation_model_id(
            self,
            "AnswerModel",
            bedrock.FoundationModelIdentifier(
                self.node.try_get_context("answerModel") or ANSWER_MODEL
            ),
        )
        function = lambda_.Function(
            self,
            "Function",
            runtime=lambda_.Runtime.PYTHON_3_14,
            architecture=lambda_.Architecture.ARM_64,
            code=lambda_.Code.from_asset(
                str(Path(__file__).parent / "function"), exclude=["__pycache__"]
            ),
            handler="index.handler",
            vpc=vpc,
            memory_size=256,
            timeout=cdk.Duration.minutes(2),
            log_group=self._log_group("FunctionLogs"),
            environment={
                "CHROMA_URL": self.chroma.endpoint.url,
                "CHROMA_SECRET": user.secret.secret_arn,
                "EMBEDDING_MODEL": embedding.model_id,
                "ANSWER_MODEL": answer.model_id,
            },
        )
        self.chroma.grant_connect(function, user=user)
        # Converse is allowed by the same action:
        # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
        function.add_to_role_policy(
            iam.PolicyStatement(
                actions=["bedrock:InvokeModel"],
                resources=[embedding.model_arn, answer.model_arn],
            )
        )
        cdk.Validations.of(function).acknowledge(
            *(
                cdk.Acknowledgment(
                    id="AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/"
                    f"service-role/{policy}]",
                    reason="AWS maintains this policy for what every function in a VPC needs.",
                )
                for policy in ("AWSLambdaBasicExecutionRole", "AWSLambdaVPCAccessExecutionRole")
            )
        )
        cdk.CfnOutput(self, "FunctionName", value=function.function_name)

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
    RagStack(app, "LambdaRag")
    app.synth()
