"""Chat templates are programs from others: Jinja2's sandbox keeps them from everything but their own variables, and
what they may spend on those is bounded here, in steps, in seconds and in characters.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigError, DataError

if TYPE_CHECKING:
    import jinja2

_SECONDS = 10.0
_STEPS = 1 << 20  # turns of loops and calls
_CHARACTERS = 1 << 24  # of the text, and of any string or list on the way
_KEY = "chat_template"


class _TooMuch(Exception):
    """A template asked for more than it may have."""


class _Budget:
    def __init__(self) -> None:
        self.steps, self.until = 0, time.monotonic() + _SECONDS

    def spend(self) -> None:
        self.steps += 1
        if self.steps > _STEPS:
            raise _TooMuch(f"it takes more than {_STEPS:,} steps")
        if time.monotonic() > self.until:
            raise _TooMuch(f"it takes longer than {_SECONDS:g} seconds")


_budget: ContextVar[_Budget] = ContextVar("budget")


def render_template(template: str, *, marks: tuple[str, str, str], **variables: Any) -> str:
    """The template's text, as in `transformers`: trimmed blocks, loop controls, its filters and functions, and
    `{% generation %}` blocks, whose text comes between the second and the third of `marks`. The first one is kept as it
    is in JSON.

    Raises:
        ConfigError: the template is not a valid one.
        DataError: it refused what it was given, or never comes to an end, or to none in sight.
    """
    import jinja2

    _budget.set(_Budget())
    try:
        parts, size = [], 0
        for part in _compiled(template, marks).generate(**variables):
            parts.append(part)
            size += len(part)
            if size > _CHARACTERS:
                raise _TooMuch(f"its text has more than {_CHARACTERS:,} characters")
        return "".join(parts)
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"the chat template is not valid: line {error.lineno}: {error.message}", where=_KEY) from None
    except (_TooMuch, RecursionError, MemoryError, OverflowError) as error:
        reason = str(error) if isinstance(error, _TooMuch) else "it asks for more than there is"
        raise DataError(f"the chat template was stopped: {reason}", where=_KEY) from None
    except (jinja2.TemplateError, TypeError, KeyError, AttributeError, ValueError, ArithmeticError) as error:
        raise DataError(f"the chat template refused the messages: {error}", where=_KEY) from None


@functools.lru_cache(maxsize=32)
def _compiled(template: str, marks: tuple[str, str, str]) -> jinja2.Template:
    """The template in an environment whose loops, calls and growing values are counted."""
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    shield, since, until = marks

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 - as Jinja2 wants it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

        def _mark(self, caller: Callable[[], str]) -> str:
            return since + caller() + until

    class Counted(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(("+", "*", "**", "%"))
        concat = staticmethod(_joined)  # of blocks that become values

        def _generate(self, source: nodes.Template, *args: Any, **options: Any) -> str:
            for loop in source.find_all(nodes.For):
                loop.iter = nodes.Filter(loop.iter, "_counted", [], [], None, None, lineno=loop.lineno)
            for joined in list(source.find_all(nodes.Concat)):
                joined.nodes = [nodes.Filter(nodes.List(joined.nodes), "_joined", [], [], None, None)]
            return super()._generate(source, *args, **options)

        def call(self, context: Any, function: Any, /, *args: Any, **options: Any) -> Any:
            _budget.get().spend()
            # The sandbox wraps the methods of strings that format.
            subject = getattr(getattr(function, "__wrapped__", function), "__self__", None)
            _require_small(subject, args, options)
            if getattr(function, "__name__", "").startswith("format"):
                _require_narrow(subject)
            return super().call(context, function, *args, **options)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" and not (isinstance(right, int | float) and abs(right) < 64):
                raise _TooMuch("it raises a number to a great power")
            if operator == "+":
                _require(_size(left) + _size(right))
            elif operator == "*":
                _require(max(_size(left), 1) * (right if isinstance(right, int) and _size(left) else 1))
                _require(max(_size(right), 1) * (left if isinstance(left, int) and _size(right) else 1))
            elif operator == "%":
                _require_narrow(left)
                _require_small(left, right if isinstance(right, tuple) else (right,), {})
            return super().call_binop(context, operator, left, right)

    environment = Counted(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    for name in ("center", "indent", "wordwrap", "replace", "join", "batch", "slice", "format"):
        environment.filters[name] = _bounded(environment.filters[name])
    environment.filters["_counted"], environment.filters["_joined"] = _counted, _joined
    environment.filters["tojson"] = functools.partial(_to_json, shield)
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    return environment.from_string(template)


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    budget = _budget.get()
    for item in items:
        budget.spend()
        yield item


def _joined(parts: Iterable[Any]) -> str:
    texts = [str(part) for part in parts]
    _require(sum(map(len, texts)))
    return "".join(texts)


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose arguments are looked at first. It keeps what tells Jinja2 to pass it the environment."""

    @functools.wraps(function)
    def bounded(*args: Any, **options: Any) -> Any:
        _budget.get().spend()
        # The environment or evaluation context, where the filter wants it, has no size.
        sized = [arg for arg in args if _size(arg) or isinstance(arg, int)]
        _require_small(sized[0] if sized else None, tuple(sized[1:]), options)
        if function.__name__ == "do_format":
            _require_narrow(sized[0] if sized else None)
        return function(*args, **options)

    return bounded


def _require_small(subject: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """What methods and filters make of texts and lists: of a width as many characters, and at most as many copies of
    one text as another has characters or a list has items."""
    values = (*args, *options.values())
    size = _size(subject)
    _require(size + sum(_size(value) for value in values))
    if size and any(isinstance(value, int) and abs(value) > _CHARACTERS for value in values):
        raise _TooMuch(f"it asks for more than {_CHARACTERS:,} characters")
    if isinstance(subject, str) and len(args) >= 2 and all(isinstance(value, str) for value in args[:2]):
        _require(subject.count(args[0]) * len(args[1]))  # replace
    elif len(args) >= 1 and isinstance(subject, str) and isinstance(args[0], list | tuple):
        _require(len(args[0]) * size)  # join
    elif len(args) >= 1 and isinstance(subject, list | tuple) and isinstance(args[0], str):
        _require(len(subject) * len(args[0]))


def _require_narrow(layout: Any) -> None:
    """A format may ask for any width."""
    if isinstance(layout, str) and re.search(r"[0-9]{8}", layout):
        raise _TooMuch("a format asks for too many characters")


def _size(value: Any) -> int:
    """Of strings the length, of lists that of all they hold."""
    if isinstance(value, list | tuple):
        return sum(max(_size(item), 1) for item in value)
    return len(value) if isinstance(value, str) else 0


def _require(size: int) -> None:
    if size > _CHARACTERS:
        raise _TooMuch(f"it makes a value of more than {_CHARACTERS:,} characters")


def _to_json(
    shield: str, value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None,
    sort_keys: bool = False,
) -> str:  # fmt: skip
    _require_small("json", (indent,), {})
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return text.replace(f"\\u{ord(shield):04x}", shield)


def _raise_exception(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)
