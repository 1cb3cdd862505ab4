"""CloudWatch Logs' filter patterns for JSON, and the metrics that a metric filter makes of a line.

Only what is documented, and of that what our filters may need: comparisons, `*` in values, `IS NULL`, `IS TRUE`, `IS FALSE`,
`NOT EXISTS`, `&&`, `||` and parentheses. Everything else is a `PatternError`. Where the documentation leaves open what AWS
does with a line, the answer is `Undocumented` rather than a guess, so that no filter of ours relies on it.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/matching-terms-json-log-events.html
https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntaxForMetricFilters.html
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Event = Mapping[str, Any]
Test = Callable[[Event], bool]

LONGEST = 1024
"""Characters of a pattern: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutMetricFilter.html"""

MOST_DIMENSIONS = 3


class PatternError(ValueError):
    """No pattern for JSON, or one with something that is not handled here."""


class Undocumented(Exception):
    """What AWS does with this line and this pattern is not documented."""


@dataclass(frozen=True)
class Datum:
    """What a metric filter adds to a metric for one line."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    """Names and values, sorted by name."""

    value: float
    unit: str


class Pattern:
    """A filter pattern for JSON, such as `{ $.unit = "chroma-proxy" && $.status >= 500 }`."""

    def __init__(self, text: str) -> None:
        """:raises PatternError: when it is no such pattern."""
        if len(text) > LONGEST:
            raise PatternError(f"longer than {LONGEST} characters: {text}")
        self.text = text
        self.selectors: set[str] = set()
        """The fields that it names, such as `$.status`."""

        self._tokens = _tokens(text)
        self._next = 0
        self._take("{")
        self._test = self._any()
        self._take("}")
        if self._next != len(self._tokens):
            raise PatternError(f"something follows the pattern: {text}")

    def matches(self, line: str) -> bool:
        """Whether it finds a line of a log. A line that is no JSON object is never found."""
        try:
            event = json.loads(line)
        except ValueError:
            return False
        return isinstance(event, dict) and self._test(event)

    def _any(self) -> Test:
        tests = [self._all()]
        while self._skip("||"):
            tests.append(self._all())
        return lambda event: any(test(event) for test in tests)

    def _all(self) -> Test:
        tests = [self._condition()]
        while self._skip("&&"):
            tests.append(self._condition())
        return lambda event: all(test(event) for test in tests)

    def _condition(self) -> Test:
        if self._skip("("):
            inner = self._any()
            self._take(")")
            return inner
        selector = self._word()
        path = _path(selector)
        self.selectors.add(selector)
        if self._skip("IS"):
            wanted = {"NULL": None, "TRUE": True, "FALSE": False}
            name = self._word()
            if name not in wanted:
                raise PatternError(f"IS takes NULL, TRUE or FALSE, not {name}: {self.text}")
            return lambda event: _find(event, path) is wanted[name]
        if self._skip("NOT"):
            self._take("EXISTS")
            return lambda event: _find(event, path) is _MISSING
        compare = self._word()
        if compare not in _COMPARISONS:
            raise PatternError(f"{compare} is no comparison: {self.text}")
        return _comparison(path, compare, self._word(), self.text)

    def _word(self) -> str:
        if self._next == len(self._tokens):
            raise PatternError(f"the pattern breaks off: {self.text}")
        self._next += 1
        return self._tokens[self._next - 1]

    def _skip(self, token: str) -> bool:
        found = self._next < len(self._tokens) and self._tokens[self._next] == token
        self._next += found
        return found

    def _take(self, token: str) -> None:
        if not self._skip(token):
            raise PatternError(f"{token} is missing: {self.text}")


class MetricFilter:
    """The properties of an `AWS::Logs::MetricFilter`, with its references resolved."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        """:raises PatternError: when AWS refuses them."""
        self.pattern = Pattern(properties["FilterPattern"])
        [self._metric] = properties["MetricTransformations"]
        self._dimensions = {it["Key"]: it["Value"] for it in self._metric.get("Dimensions", [])}
        if len(self._dimensions) > MOST_DIMENSIONS:
            raise PatternError(f"more than {MOST_DIMENSIONS} dimensions")
        if self._dimensions and "DefaultValue" in self._metric:
            raise PatternError("a metric with dimensions has no default value")
        value = str(self._metric["MetricValue"])
        named = [*self._dimensions.values(), *([value] if value.startswith("$") else [])]
        for selector in named:
            if selector not in self.pattern.selectors:
                raise PatternError(f"the pattern does not name {selector}: {self.pattern.text}")

    def datum(self, line: str) -> Datum | None:
        """What it makes of a line; None if it does not find it."""
        if not self.pattern.matches(line):
            return None
        event = json.loads(line)
        value = str(self._metric["MetricValue"])
        number = self._of(event, value) if value.startswith("$") else float(value)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise Undocumented(f"{value} is no number in {line}")
        dimensions = {name: str(self._of(event, it)) for name, it in self._dimensions.items()}
        return Datum(
            self._metric["MetricNamespace"],
            self._metric["MetricName"],
            tuple(sorted(dimensions.items())),
            float(number),
            self._metric.get("Unit", "None"),
        )

    @staticmethod
    def _of(event: Event, selector: str) -> Any:
        found = _find(event, _path(selector))
        if found is _MISSING or found is None or isinstance(found, dict | list):
            raise Undocumented(f"no value at {selector}")
        return found


# --- fields ----------------------------------------------------------------------------------------------------------

_MISSING = object()

_TOKEN = re.compile(
    r"""\s*(
        \$(?:\.?\['[^']*'\] | \.[\w-]+ | \[\d+\])+      # a field
      | "(?:[^"\\]|\\.)*"                               # a text
      | && | \|\| | != | >= | <= | [{}()=<>]
      | [\w.*+:/-]+                                     # a number, or a text without quotes
    )""",
    re.VERBOSE,
)


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if found is None:
            raise PatternError(f"what is {text[at:].strip()!r}? {text}")
        tokens.append(found[1])
        at = found.end()
    return tokens


def _path(selector: str) -> list[str | int]:
    """The keys and indexes of a field such as `$.users[0].['cluster.name']`."""
    if not selector.startswith("$"):
        raise PatternError(f"{selector} is no field: it does not begin with $")
    steps = re.findall(r"\['([^']*)'\]|\.([\w-]+)|\[(\d+)\]", selector)
    return [int(index) if index else quoted or plain for quoted, plain, index in steps]


def _find(event: Event, path: list[str | int]) -> Any:
    at: Any = event
    for step in path:
        try:
            at = at[step]
        except (KeyError, IndexError, TypeError):
            return _MISSING
    return at


# --- values ----------------------------------------------------------------------------------------------------------

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def _comparison(path: list[str | int], compare: str, wanted: str, pattern: str) -> Test:
    quoted = wanted.startswith('"')
    text = re.sub(r"\\(.)", r"\1", wanted[1:-1]) if quoted else wanted
    number = None if quoted else _number(text)
    if number is None and compare not in ("=", "!="):
        raise PatternError(f"{compare} needs a number: {pattern}")
    like = re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)

    def test(event: Event) -> bool:
        found = _find(event, path)
        if found is _MISSING or found is None or isinstance(found, dict | list):
            if compare == "!=":
                raise Undocumented(f"no value to compare at {path}: {pattern}")
            return False
        if text == "*" and compare == "=":
            return True
        if number is not None:
            is_number = isinstance(found, int | float) and not isinstance(found, bool)
            if compare == "!=" and not is_number:
                raise Undocumented(f"{found!r} is no number: {pattern}")
            return is_number and _COMPARISONS[compare](found, number)
        if isinstance(found, str):
            return (like.fullmatch(found) is not None) == (compare == "=")
        raise Undocumented(f"{found!r} is no text: {pattern}")

    return test


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", text) else None
