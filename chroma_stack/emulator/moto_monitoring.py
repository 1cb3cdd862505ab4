"""The resource types of logs, metrics, alarms, notifications and schedules, which moto's CloudFormation lacks or fakes.

Each class hands the properties of its resource to the API of the service, by a client of this very server: botocore then
refuses an unknown property or a wrong type, and what a test reads back is what was asked for. moto itself checks next to
nothing, so the classes refuse what AWS documents that it refuses, with the page beside it. Nothing here evaluates an alarm,
starts a schedule, sends a message or makes a metric of a line.
"""

from __future__ import annotations

import json
import re
import zoneinfo
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError, ParamValidationError
from botocore.validate import ParamValidator
from moto.cloudformation.exceptions import ValidationError
from moto.core.common_models import CloudFormationModel

from chroma_stack.emulator.filter_patterns import MetricFilter as FilterProperties
from chroma_stack.emulator.filter_patterns import PatternError

Properties = dict[str, Any]

_clients: dict[str, Any] = {}
_new_client: Callable[[str], Any] | None = None


def connect(new_client: Callable[[str], Any]) -> None:
    """Says how a client of the running server is made, by the name of the service."""
    global _new_client
    _clients.clear()
    _new_client = new_client


def call(service: str, operation: str, **arguments: Any) -> Any:
    """Calls an API with the properties of a resource, and refuses what botocore or moto refuses.

    As in CloudFormation, a number or a boolean may be a text, and names of members begin as the API has them.
    """
    client = _client(service)
    shape = client.meta.service_model.operation_model(
        client.meta.method_to_api_mapping[operation]
    ).input_shape
    try:
        return getattr(client, operation)(**_typed(arguments, shape))
    except (ClientError, ParamValidationError) as refused:
        raise ValidationError(message=f"{operation}: {refused}") from None


def _client(service: str) -> Any:
    if service not in _clients:
        assert _new_client is not None, "no server is running"
        _clients[service] = _new_client(service)
    return _clients[service]


def _typed(value: Any, shape: Any) -> Any:
    """The value with the names and the types of the API."""
    if isinstance(value, Mapping) and shape.type_name == "structure":
        members = {name[0].upper() + name[1:]: name for name in shape.members}
        named = {members.get(name[0].upper() + name[1:], name): it for name, it in value.items()}
        return {
            name: _typed(it, shape.members[name]) if name in shape.members else it
            for name, it in named.items()
            if it is not None
        }
    if isinstance(value, list) and shape.type_name == "list":
        return [_typed(it, shape.member) for it in value]
    if isinstance(value, str):
        if shape.type_name in ("integer", "long") and re.fullmatch(r"-?\d+", value):
            return int(value)
        if shape.type_name in ("double", "float") and re.fullmatch(r"-?\d+(\.\d+)?", value):
            return float(value)
        if shape.type_name == "boolean" and value in ("true", "false"):
            return value == "true"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if shape.type_name == "string" else value
    return value


def refuse(name: str, reason: str) -> ValidationError:
    return ValidationError(message=f"{name}: {reason}")


class _Resource:
    """A resource of one type. It is no `CloudFormationModel` itself, since moto looks at direct subclasses only."""

    type: ClassVar[str]
    name_property: ClassVar[str] = ""
    """The property with the physical name, which is generated when it is not given; empty if there is none."""

    known: ClassVar[frozenset[str] | None] = None
    """The properties that are imitated; None where an API is handed all of them."""

    fixed: ClassVar[tuple[str, ...]] = ()
    """Properties that CloudFormation changes by a replacement, which is not imitated here."""

    def __init__(self, physical_id: str, properties: Properties) -> None:
        self.physical_resource_id = physical_id
        self.properties = properties

    @classmethod
    @abstractmethod
    def put(cls, name: str, properties: Properties) -> str:
        """Makes it, or changes the one with this name. Returns the physical id."""

    @classmethod
    @abstractmethod
    def remove(cls, physical_id: str, properties: Properties) -> None:
        """Deletes it."""

    def attributes(self) -> dict[str, str]:
        """What `Fn::GetAtt` gives."""
        return {}

    @classmethod
    def cloudformation_name_type(cls) -> str:
        return cls.name_property

    @classmethod
    def cloudformation_type(cls) -> str:
        return cls.type

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr in cls("", {}).attributes()

    def get_cfn_attribute(self, attribute_name: str) -> str:
        return self.attributes()[attribute_name]

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Properties, *_: Any, **__: Any
    ) -> _Resource:
        properties = cloudformation_json.get("Properties", {})
        cls._check_names(properties)
        return cls(cls.put(resource_name, properties), properties)

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: _Resource,
        new_resource_name: str,
        cloudformation_json: Properties,
        *_: Any,
        **__: Any,
    ) -> _Resource:
        properties, before = cloudformation_json["Properties"], original_resource.properties
        for name in (*cls.fixed, *filter(None, [cls.name_property])):
            if properties.get(name) != before.get(name):
                raise refuse(cls.type, f"a change of {name} replaces it: not imitated")
        cls._check_names(properties)
        original_resource.change(properties)
        original_resource.properties = properties
        return original_resource

    @classmethod
    def _check_names(cls, properties: Properties) -> None:
        unknown = properties.keys() - cls.known if cls.known is not None else None
        if unknown:
            raise refuse(cls.type, f"not imitated: {sorted(unknown)}")

    def change(self, properties: Properties) -> None:
        self.put(self.physical_resource_id, properties)

    def delete(self, *_: Any) -> None:
        self.remove(self.physical_resource_id, self.properties)


# --- logs ------------------------------------------------------------------------------------------------------------

# fmt: off
RETENTION_DAYS = {
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731,
    1096, 1827, 2192, 2557, 2922, 3288, 3653,
}
# fmt: on
"""https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html"""

MOST_FILTERS = 100
"""Metric filters of a log group:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html"""


class LogGroup(_Resource, CloudFormationModel):
    """`AWS::Logs::LogGroup`. Its `Ref` is the name, its `Arn` ends in `:*`.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-logs-loggroup.html
    """

    type, name_property = "AWS::Logs::LogGroup", "LogGroupName"
    known = frozenset({"LogGroupName", "RetentionInDays", "KmsKeyId", "Tags"})

    def attributes(self) -> dict[str, str]:
        name = self.physical_resource_id
        if not name:
            return {"Arn": ""}
        found = call("logs", "describe_log_groups", logGroupNamePrefix=name)["logGroups"]
        return {"Arn": next(it["arn"] for it in found if it["logGroupName"] == name)}

    @classmethod
    def put(cls, name: str, properties: Properties) -> str:
        tags = {tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])}
        call(
            "logs",
            "create_log_group",
            logGroupName=name,
            kmsKeyId=properties.get("KmsKeyId"),
            tags=tags or None,
        )
        cls._retain(name, properties)
        return name

    def change(self, properties: Properties) -> None:
        if properties.get("KmsKeyId") != self.properties.get("KmsKeyId"):
            raise refuse(self.type, "a change of KmsKeyId is not imitated")
        self._retain(self.physical_resource_id, properties)

    @staticmethod
    def _retain(name: str, properties: Properties) -> None:
        if "RetentionInDays" not in properties:
            call("logs", "delete_retention_policy", logGroupName=name)
            return
        days = int(properties["RetentionInDays"])
        if days not in RETENTION_DAYS:
            raise refuse(name, f"logs cannot be kept for {days} days")
        call("logs", "put_retention_policy", logGroupName=name, retentionInDays=days)

    @classmethod
    def remove(cls, physical_id: str, properties: Properties) -> None:
        for it in call("logs", "describe_metric_filters", logGroupName=physical_id)[
            "metricFilters"
        ]:
            call(
                "logs",
                "delete_metric_filter",
                logGroupName=physical_id,
                filterName=it["filterName"],
            )
        call("logs", "delete_log_group", logGroupName=physical_id)


class MetricFilter(_Resource, CloudFormationModel):
    """`AWS::Logs::MetricFilter`, whose pattern is parsed and whose fields must be in it.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-logs-metricfilter.html
    """

    type, name_property = "AWS::Logs::MetricFilter", "FilterName"
    known = frozenset({"FilterName", "FilterPattern", "LogGroupName", "MetricTransformations"})
    fixed = ("LogGroupName",)

    @classmethod
    def put(cls, name: str, properties: Properties) -> str:
        group = properties["LogGroupName"]
        groups = call("logs", "describe_log_groups", logGroupNamePrefix=group)["logGroups"]
        if group not in {it["logGroupName"] for it in groups}:
            raise refuse(name, f"there is no log group {group}")
        try:
            FilterProperties(properties)
        except PatternError as wrong:
            raise refuse(name, str(wrong)) from None
        [transformation] = properties["MetricTransformations"]
        dimensions = {it["Key"]: it["Value"] for it in transformation.get("Dimensions", [])}
        # moto keeps the previous one beside the new one.
        others = cls._others(group, name)
        if len(others) >= MOST_FILTERS:
            raise refuse(name, f"{group} has {MOST_FILTERS} metric filters already")
        call(
            "logs",
            "put_metric_filter",
            logGroupName=group,
            filterName=name,
            filterPattern=properties["FilterPattern"],
            metricTransformations=[transformation | {"Dimensions": dimensions or None}],
        )
        return name

    @classmethod
    def _others(cls, group: str, name: str) -> list[Any]:
        there = call("logs", "describe_metric_filters", logGroupName=group)["metricFilters"]
        if any(it["filterName"] == name for it in there):
            call("logs", "delete_metric_filter", logGroupName=group, filterName=name)
        return [it for it in there if it["filterName"] != name]

    @classmethod
    def remove(cls, physical_id: str, properties: Properties) -> None:
        group = properties["LogGroupName"]
        call("logs", "delete_metric_filter", logGroupName=group, filterName=physical_id)


# --- alarms and dashboards -------------------------------------------------------------------------------------------

DAY = 86_400

TREATMENTS = ("breaching", "notBreaching", "ignore", "missing")


class Alarm(_Resource, CloudFormationModel):
    """`AWS::CloudWatch::Alarm` of one metric, or of an expression over several.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
    """

    type, name_property = "AWS::CloudWatch::Alarm", "AlarmName"

    def attributes(self) -> dict[str, str]:
        name = self.physical_resource_id
        if not name:
            return {"Arn": ""}
        return {
            "Arn": call("cloudwatch", "describe_alarms", AlarmNames=[name])["MetricAlarms"][0][
                "AlarmArn"
            ]
        }

    @classmethod
    def put(cls, name: str, properties: Properties) -> str:
        cls._check(name, properties)
        call("cloudwatch", "put_metric_alarm", **(properties | {"AlarmName": name}))
        return name

    @staticmethod
    def _check(name: str, properties: Properties) -> None:
        metrics = properties.get("Metrics", [])
        alone = [it for it in ("MetricName", "Namespace", "Period") if it in properties]
        if metrics and alone:
            raise refuse(name, f"with Metrics there is no {alone[0]}")
        if not metrics and len(alone) < 3:
            raise refuse(name, "it needs Metrics, or MetricName, Namespace and Period")
        if metrics:
            watched = [it for it in metrics if str(it.get("ReturnData", "true")).lower() == "true"]
            if len(watched) != 1:
                raise refuse(name, f"it watches {len(watched)} of its metrics, not one")
            ids = [it["Id"] for it in metrics]
            if len(set(ids)) < len(ids) or not all(re.fullmatch("[a-z]\\w*", it) for it in ids):
                raise refuse(name, f"not ids of metrics: {ids}")
            for it in metrics:
                unknown = set(re.findall(r"\b[a-z]\w*", it.get("Expression", ""))) - set(ids)
                if unknown:
                    raise refuse(name, f"its expression names no metric: {sorted(unknown)}")
        periods = [int(properties["Period"])] if "Period" in properties else []
        periods += [int(it["MetricStat"]["Period"]) for it in metrics if "MetricStat" in it]
        periods += [int(it["Period"]) for it in metrics if "Period" in it]
        evaluated = int(properties["EvaluationPeriods"])
        for period in periods:
            if period not in (10, 20, 30) and period % 60:
                raise refuse(name, f"{period} s is no period")
            if period * evaluated > (DAY if period < 3600 else 7 * DAY):
                raise refuse(name, f"{evaluated} periods of {period} s are too long")
        if int(properties.get("DatapointsToAlarm", evaluated)) > evaluated:
            raise refuse(name, "more data points to alarm than are evaluated")
        if properties.get("TreatMissingData", "missing") not in TREATMENTS:
            raise refuse(name, f"missing data is none of {', '.join(TREATMENTS)}")
        for actions in ("AlarmActions", "OKActions", "InsufficientDataActions"):
            if len(properties.get(actions, [])) > 5:
                raise refuse(name, f"more than five {actions}")
            if not all(str(it).startswith("arn:") for it in properties.get(actions, [])):
                raise refuse(name, f"an action is no ARN: {properties[actions]}")

    @classmethod
    def remove(cls, physical_id: str, properties: Properties) -> None:
        call("cloudwatch", "delete_alarms", AlarmNames=[physical_id])


MOST_WIDGETS = 500
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html"""

COLUMNS = 24


class Dashboard(_Resource, CloudFormationModel):
    """`AWS::CloudWatch::Dashboard`, which stays itself through an update (moto makes another)."""

    type, name_property = "AWS::CloudWatch::Dashboard", "DashboardName"
    known = frozenset({"DashboardName", "DashboardBody"})

    @classmethod
    def put(cls, name: str, properties: Properties) -> str:
        try:
            widgets = json.loads(properties["DashboardBody"])["widgets"]
        except (ValueError, KeyError) as wrong:
            raise refuse(name, f"not the body of a dashboard: {wrong!r}") from None
        if len(widgets) > MOST_WIDGETS:
            raise refuse(name, f"{len(widgets)} widgets; {MOST_WIDGETS} are allowed")
        for widget in widgets:
            if widget["type"] not in ("metric", "text", "log", "alarm", "explorer", "custom"):
                raise refuse(name, f"no widget: {widget['type']}")
            if widget.get("x", 0) + widget.get("width", 6) > COLUMNS:
                raise refuse(name, f"a widget ends beyond column {COLUMNS}")
        call(
            "cloudwatch",
            "put_dashboard",
            DashboardName=name,
            DashboardBody=properties["DashboardBody"],
        )
        return name

    @classmethod
    def remove(cls, physical_id: str, properties: Properties) -> None:
        call("cloudwatch", "delete_dashboards", DashboardNames=[physical_id])


# --- notifications ---------------------------------------------------------------------------------------------------


class Topic(_Resource, CloudFormationModel):
    """`AWS::SNS::Topic`. Its `Ref` is the ARN."""

    type, name_property = "AWS::SNS::Topic", "TopicName"
    known = frozenset({"TopicName", "DisplayName", "KmsMasterKeyId", "Tags"})

    def attributes(self) -> dict[str, str]:
        arn = self.physical_resource_id
        return {"TopicArn": arn, "TopicName": arn.rpartition(":")[2]}

    @classmethod
    def put(cls, name: str, properties: Properties) -> str:
        if properties.get("KmsMasterKeyId") == "alias/aws/sns":
            # https://repost.aws/knowledge-center/cloudwatch-configure-alarm-sns
            raise refuse(name, "CloudWatch cannot publish to a topic with the key alias/aws/sns")
        attributes = {
            it: properties[it] for it in ("DisplayName", "KmsMasterKeyId") if it in properties
        }
        made = call(
            "sns",
            "create_topic",
            Name=name,
            Attributes=attributes,
            Tags=properties.get("Tags", []),
        )
        return str(made["TopicArn"])

    def change(self, properties: Properties) -> None:
        for it in ("DisplayName", "KmsMasterKeyId"):
            call(
                "sns",
                "set_topic_attributes",
                TopicArn=self.physical_resource_id,
                AttributeName=it,
                AttributeValue=properties.get(it, ""),
            )

    @classmethod
    def remove(cls, physical_id: str, properties: Properties) -> None:
        # It takes its subscriptions along.
        call("sns", "delete_topic", TopicArn=physical_id)


class Subscription(_Resource, CloudFormationModel):
    """`AWS::SNS::Subscription`: another address is another subscription.

    moto confirms it at once; in AWS whoever has the address does, by a link in a message.
    """

    type = "AWS::SNS::Subscription"

    @classmethod
    def put(cls, name: str, properties: Properties) -> str:
        address = properties["Endpoint"]
        if properties["Protocol"] == "email" and not re.fullmatch(r"[^@\s]+@[^@\s]+", address):
            raise refuse(cls.type, f"no address of electronic mail: {address}")
        subscribed = call("sns", "subscribe", ReturnSubscriptionArn=True, **properties)
        return str(subscribed["SubscriptionArn"])

    def change(self, properties: Properties) -> None:
        self.remove(self.physical_resource_id, self.properties)
        self.physical_resource_id = self.put("", properties)

    @classmethod
    def remove(cls, physical_id: str, properties: Properties) -> None:
        call("sns", "unsubscribe", SubscriptionArn=physical_id)


class TopicPolicy(_Resource, CloudFormationModel):
    """`AWS::SNS::TopicPolicy`: who may publish to the topics.

    https://docs.aws.amazon.com/sns/latest/dg/sns-access-policy-use-cases.html
    """

    type = "AWS::SNS::TopicPolicy"
    known = frozenset({"PolicyDocument", "Topics"})

    @classmethod
    def put(cls, name: str, properties: Properties) -> str:
        for topic in properties["Topics"]:
            for statement in properties["PolicyDocument"]["Statement"]:
                if statement["Resource"] != topic:
                    raise refuse(name, f"the policy of {topic} is about {statement['Resource']}")
            call(
                "sns",
                "set_topic_attributes",
                TopicArn=topic,
                AttributeName="Policy",
                AttributeValue=json.dumps(properties["PolicyDocument"]),
            )
        return name

    @classmethod
    def remove(cls, physical_id: str, properties: Properties) -> None:
        """Nothing: a topic goes at once with its policy in our stacks."""


# --- schedules -------------------------------------------------------------------------------------------------------

_FIELD = r"[0-9A-Za-z,\-*/?#]+"


class Schedule(_Resource, CloudFormationModel):
    """`AWS::Scheduler::Schedule` by cron, rate or a single time.

    https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
    """

    type, name_property = "AWS::Scheduler::Schedule", "Name"
    fixed = ("GroupName",)

    def attributes(self) -> dict[str, str]:
        name = self.physical_resource_id
        return {"Arn": call("scheduler", "get_schedule", Name=name)["Arn"] if name else ""}

    @classmethod
    def put(cls, name: str, properties: Properties) -> str:
        cls._check(name, properties)
        call("scheduler", "create_schedule", **(properties | {"Name": name}))
        return name

    def change(self, properties: Properties) -> None:
        self._check(self.physical_resource_id, properties)
        called = properties | {"Name": self.physical_resource_id}
        call("scheduler", "update_schedule", **called)

    @staticmethod
    def _check(name: str, properties: Properties) -> None:
        expression, target = properties["ScheduleExpression"], properties["Target"]
        kind, _, inner = expression.rstrip(")").partition("(")
        if kind == "cron":
            fields = inner.split()
            if len(fields) != 6 or not all(re.fullmatch(_FIELD, it) for it in fields):
                raise refuse(name, f"not the six fields of a cron expression: {expression}")
            if (fields[2] == "?") == (fields[4] == "?"):
                raise refuse(name, f"one of the two fields of days is a ?: {expression}")
        elif kind not in ("rate", "at"):
            raise refuse(name, f"no schedule: {expression}")
        _check_zone(name, properties.get("ScheduleExpressionTimezone"))
        window = properties["FlexibleTimeWindow"]
        if (window["Mode"] == "FLEXIBLE") != ("MaximumWindowInMinutes" in window):
            raise refuse(name, "a flexible window, and no other, has a length")
        if not re.fullmatch(r"arn:[\w-]+:iam::\d{12}:role/.+", str(target["RoleArn"])):
            raise refuse(name, f"no role: {target['RoleArn']}")
        api = re.fullmatch(
            r"arn:[\w-]+:scheduler:::aws-sdk:([a-z0-9]+):([a-z]\w*)", str(target["Arn"])
        )
        if api is None:
            raise refuse(name, f"no target that is known here: {target['Arn']}")
        _check_input(name, api[1], api[2], target.get("Input", "{}"))

    @classmethod
    def remove(cls, physical_id: str, properties: Properties) -> None:
        call("scheduler", "delete_schedule", Name=physical_id)


def _check_input(name: str, service: str, operation: str, text: str) -> None:
    """Refuses an input that is no request to the API which the schedule calls.

    Its names begin with a capital letter:
    https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html
    """
    model = _client(service).meta.service_model
    called = operation[0].upper() + operation[1:]
    if called not in model.operation_names:
        raise refuse(name, f"{service} has no {called}")
    try:
        arguments = json.loads(text)
    except ValueError as wrong:
        raise refuse(name, f"its input is no JSON: {wrong}") from None
    report = ParamValidator().validate(arguments, model.operation_model(called).input_shape)
    if report.has_errors():
        raise refuse(name, f"its input is no {called}: {report.generate_report()}")


class ScheduledAction(_Resource, CloudFormationModel):
    """`AWS::AutoScaling::ScheduledAction` with a name of its own (moto takes the logical id, whatever the stack).

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-autoscaling-scheduledaction.html
    """

    type, name_property = "AWS::AutoScaling::ScheduledAction", "ScheduledActionName"
    fixed = ("AutoScalingGroupName",)

    @classmethod
    def put(cls, name: str, properties: Properties) -> str:
        group = properties["AutoScalingGroupName"]
        found = call("autoscaling", "describe_auto_scaling_groups", AutoScalingGroupNames=[group])
        if not found["AutoScalingGroups"]:
            raise refuse(name, f"there is no group {group}")
        order = ("MinSize", "DesiredCapacity", "MaxSize")
        sizes = [int(properties[it]) for it in order if it in properties]
        if sizes != sorted(sizes):
            raise refuse(name, f"not in order: {sizes}")
        recurrence = properties.get("Recurrence", "")
        fields = recurrence.split()
        if len(fields) != 5 or not all(re.fullmatch(r"[0-9A-Za-z,\-*/]+", it) for it in fields):
            raise refuse(name, f"not the five fields of cron: {recurrence!r}")
        _check_zone(name, properties.get("TimeZone"))
        call(
            "autoscaling",
            "put_scheduled_update_group_action",
            **(properties | {"ScheduledActionName": name}),
        )
        return name

    @classmethod
    def remove(cls, physical_id: str, properties: Properties) -> None:
        call(
            "autoscaling",
            "delete_scheduled_action",
            AutoScalingGroupName=properties["AutoScalingGroupName"],
            ScheduledActionName=physical_id,
        )


def _check_zone(name: str, zone: str | None) -> None:
    if zone is not None and zone not in zoneinfo.available_timezones():
        raise refuse(name, f"no time zone: {zone}")
