"""What CloudFormation makes of a template's parameters, as far as our template asks it to."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Body = dict[str, Any]


def resolved(template: Body, **given: str) -> Body:
    """What is left of the template when its parameters are filled in and its conditions
    carried out. References to resources and to the stack itself stay."""
    evaluate = _Evaluation(template, given)
    return {
        section: {
            name: evaluate({key: part for key, part in member.items() if key != "Condition"})
            for name, member in template[section].items()
            if "Condition" not in member or evaluate.condition(member["Condition"])
        }
        for section in ("Resources", "Outputs")
    }


def refusals(template: Body, **given: str) -> list[str]:
    """The sentences with which CloudFormation refuses the parameters."""
    parameters = template["Parameters"]
    found = [f"no parameter {name}" for name in given if name not in parameters]
    found += [
        f"{name} {parameters[name].get('ConstraintDescription', 'is not allowed')}"
        for name, value in given.items()
        if name in parameters and not _allowed(parameters[name], value)
    ]
    evaluate = _Evaluation(template, given)
    for rule in template["Rules"].values():
        if evaluate(rule["RuleCondition"]):
            found += [
                assertion["AssertDescription"]
                for assertion in rule["Assertions"]
                if not evaluate(assertion["Assert"])
            ]
    return found


def _allowed(parameter: Body, value: str) -> bool:
    if parameter["Type"] == "Number":
        return parameter["MinValue"] <= float(value) <= parameter["MaxValue"]
    if "AllowedValues" in parameter:
        return value in parameter["AllowedValues"]
    # "The pattern must match the entire parameter value provided."
    return re.fullmatch(parameter["AllowedPattern"], value) is not None


def _are_texts(parts: Any) -> bool:
    return isinstance(parts, list) and all(isinstance(part, str) for part in parts)


def _joined(argument: Any) -> Any:
    """What is put together, as far as it is known: as aws-cdk-lib writes it, which has no text
    beside another and none in another."""
    separator, parts = argument
    if _are_texts(parts):
        return separator.join(parts)
    if separator != "" or not isinstance(parts, list):
        return {"Fn::Join": argument}
    left: list[Any] = []
    for part in parts:
        inner = [part]
        if isinstance(part, dict) and part.get("Fn::Join", [None])[0] == "":
            inner = part["Fn::Join"][1]
        for one in inner:
            if isinstance(one, str) and left and isinstance(left[-1], str):
                left[-1] += one
            elif one != "":
                left.append(one)
    return {"Fn::Join": ["", left]}


_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "Fn::Not": lambda it: not it[0],
    "Fn::Or": any,
    "Fn::And": all,
    "Fn::Equals": lambda it: it[0] == it[1],
    "Fn::Contains": lambda it: it[1] in it[0],
    # What is put together from texts, or taken apart, unless a reference is in it.
    "Fn::Split": lambda it: it[1].split(it[0]) if isinstance(it[1], str) else {"Fn::Split": it},
    "Fn::Join": _joined,
    # From a list that is known; not from the zones of the region.
    "Fn::Select": lambda it: it[1][int(it[0])] if isinstance(it[1], list) else {"Fn::Select": it},
}


class _Evaluation:
    """Carries out the functions in a part of a template."""

    def __init__(self, template: Body, given: dict[str, str]) -> None:
        parameters = template["Parameters"]
        texts = {name: it["Default"] for name, it in parameters.items()} | given
        self._values = {
            name: int(text) if parameters[name]["Type"] == "Number" else text
            for name, text in texts.items()
            if name in parameters
        }
        self._conditions = template["Conditions"]

    def condition(self, name: str) -> bool:
        return bool(self(self._conditions[name]))

    def __call__(self, part: Any) -> Any:
        if isinstance(part, list):
            return [item for item in map(self, part) if item != {"Ref": "AWS::NoValue"}]
        if not isinstance(part, dict):
            return part
        if len(part) == 1:
            [(name, argument)] = part.items()
            if name == "Ref":
                return self._values.get(argument, part)
            if name == "Condition":
                return self.condition(argument)
            if name == "Fn::If":
                condition, if_true, if_false = argument
                return self(if_true if self.condition(condition) else if_false)
            if name in _FUNCTIONS:
                return _FUNCTIONS[name](self(argument))
        evaluated = {name: self(value) for name, value in part.items()}
        return {name: it for name, it in evaluated.items() if it != {"Ref": "AWS::NoValue"}}
