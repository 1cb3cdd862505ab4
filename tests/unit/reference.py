"""The public names as the code has them, and ``docs/reference.md`` made of them."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

import chroma_stack

_FIELD = re.compile(r"(?m)^:(param|raises) (\w+): ((?:.+|\n+(?!:))*)")
_UNDERSTOOD = {"self", "scope", "construct_id"}
"""Parameters that every construct and every method has."""

_HEAD = """\
# Reference

What `chroma_stack` exports: `from chroma_stack import ChromaServer`. In the types, `cdk` is
`aws_cdk`, and `ec2`, `iam` and so on are `aws_cdk.aws_ec2`, `aws_cdk.aws_iam` and so on. Parameters
are given by keyword where a `*` stands before them. `scope` and `construct_id` are those of every
construct.
"""


class Parameter(NamedTuple):
    """A parameter, and what the docstring says of it."""

    name: str
    type: str
    has_default: bool
    text: str


class Member(NamedTuple):
    """A method, property or constant of a class."""

    kind: str
    name: str
    type: str
    text: str
    call: str = ""
    parameters: tuple[Parameter, ...] = ()
    raises: tuple[str, ...] = ()


class Class(NamedTuple):
    """A public name."""

    name: str
    text: str
    bases: list[str]
    members: list[Member]


def classes() -> list[Class]:
    """Everything that the package exports."""
    return [_class(getattr(chroma_stack, name)) for name in chroma_stack.__all__]


def _class(of: type) -> Class:
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(of))).body
    assert isinstance(tree, ast.ClassDef)
    bases = [base.__name__ for base in of.__bases__ if base.__name__ in chroma_stack.__all__]
    return Class(of.__name__, ast.get_docstring(tree) or "", bases, list(_members(tree)))


def _members(tree: ast.ClassDef) -> Iterator[Member]:
    yield from _attributes(tree.body, "")
    for part in tree.body:
        if not isinstance(part, ast.FunctionDef):
            continue
        if part.name == "__init__":
            yield _method(part, "constructor", tree.name)
            yield from _attributes(part.body, "self.")
        elif not part.name.startswith("_"):
            decorators = [ast.unparse(it) for it in part.decorator_list]
            owner = f"{tree.name}." if "staticmethod" in decorators else ""
            kind = "property" if "property" in decorators else "method"
            yield _method(part, kind, owner + part.name)


def _attributes(body: list[ast.stmt], before: str) -> Iterator[Member]:
    """What is assigned or declared, each with the text under it."""
    for part, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if not isinstance(part, ast.AnnAssign | ast.Assign):
            continue
        target = part.target if isinstance(part, ast.AnnAssign) else part.targets[0]
        name = ast.unparse(target)
        if not name.startswith(before) or name.removeprefix(before).startswith("_"):
            continue
        name = name.removeprefix(before)
        if not name.isidentifier() or (before and not isinstance(target, ast.Attribute)):
            continue
        text = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = inspect.cleandoc(str(after.value.value))
        type_ = ast.unparse(part.annotation) if isinstance(part, ast.AnnAssign) else ""
        yield Member("constant" if name.isupper() else "property", name, type_, text)


def _method(of: ast.FunctionDef, kind: str, name: str) -> Member:
    documentation = ast.get_docstring(of) or ""
    texts: dict[str, str] = {}
    raises = []
    for found, subject, text in _FIELD.findall(documentation):
        if found == "param":
            texts[subject] = " ".join(text.split())
        else:
            raises.append(f"`{subject}` {' '.join(text.split())}")
    parameters = tuple(
        Parameter(name, type_, has_default, texts.pop(name, ""))
        for name, type_, has_default in _parameters(of.args)
        if name not in _UNDERSTOOD
    )
    assert not texts, f"{name} has no parameter {', '.join(texts)}"
    return Member(
        kind,
        name,
        "" if of.returns is None else ast.unparse(of.returns),
        _FIELD.sub("", documentation).strip(),
        f"{name}({_call(of.args)})",
        parameters,
        tuple(raises),
    )


def _parameters(of: ast.arguments) -> Iterator[tuple[str, str, bool]]:
    def type_(argument: ast.arg) -> str:
        return "" if argument.annotation is None else ast.unparse(argument.annotation)

    required = len(of.args) - len(of.defaults)
    for position, argument in enumerate(of.args):
        yield argument.arg, type_(argument), position >= required
    for argument, default in zip(of.kwonlyargs, of.kw_defaults, strict=True):
        yield argument.arg, type_(argument), default is not None
    if of.kwarg is not None:
        yield of.kwarg.arg, type_(of.kwarg), False


def _call(of: ast.arguments) -> str:
    names = [argument.arg for argument in of.args if argument.arg != "self"]
    if of.kwonlyargs:
        names += ["*", *(argument.arg for argument in of.kwonlyargs)]
    if of.kwarg is not None:
        names.append(f"**{of.kwarg.arg}")
    return ", ".join(names)


def page() -> str:
    """The whole of ``docs/reference.md``."""
    return "\n".join([_HEAD, *(line for it in classes() for line in _section(it))])


def _section(of: Class) -> Iterator[str]:
    yield from (f"## {of.name}", "", _markdown(of.text), "")
    if of.bases:
        yield from (f"It has all that {' and '.join(f'`{it}`' for it in of.bases)} has.", "")
    for constructor in (it for it in of.members if it.kind == "constructor"):
        yield from _described(constructor)
    if constants := [it for it in of.members if it.kind == "constant"]:
        yield from ("| member | meaning |", "| --- | --- |")
        yield from (_row(_code(it.name), it.text) for it in constants)
        yield ""
    if properties := [it for it in of.members if it.kind == "property"]:
        yield from ("| property | type | meaning |", "| --- | --- | --- |")
        yield from (_row(_code(it.name), _code(it.type), it.text) for it in properties)
        yield ""
    for method in (it for it in of.members if it.kind == "method"):
        yield from _described(method)


def _described(method: Member) -> Iterator[str]:
    returns = "" if method.type in ("", "None") else f" → `{method.type}`"
    # A constructor with many parameters is easier to read as its table.
    call = method.call if len(method.call) < 90 else f"{method.name}(…)"
    yield from (f"### `{call}`{returns}", "")
    if method.text:
        yield from (_markdown(method.text), "")
    if method.parameters:
        yield from ("| parameter | type | meaning |", "| --- | --- | --- |")
        yield from (_row(_code(it.name), _code(it.type), it.text) for it in method.parameters)
        yield ""
    for error in method.raises:
        yield from (f"Raises {_markdown(error)}", "")


def _row(*cells: str) -> str:
    texts = (_markdown(" ".join(cell.split())).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(texts)} |"


def _code(text: str) -> str:
    return f"``{text}``"


def _markdown(text: str) -> str:
    """A docstring's marks for names and code as those of Markdown."""
    return re.sub(r":\w+:`(?:chroma_stack\.)?([^`]+)`", r"`\1`", text).replace("``", "`")
