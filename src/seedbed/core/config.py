"""Configs: frozen, keyword-only, without unknown keys; YAML in, dotted overrides on top, errors that name the key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_jsonable_python

from .errors import ConfigError


class Config(BaseModel):
    """Base of every config. Write it beside the component that it configures; nothing mutates it.

    The string below a field is its description: the command line's help shows it.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def replace(self, **changes: Any) -> Self:
        """A copy with `changes`, validated again."""
        return build(type(self), {**self.model_dump(), **changes})

    def fingerprint(self) -> str:
        return fingerprint(self.model_dump(mode="json"))


C = TypeVar("C", bound=Config)


def fingerprint(value: Any) -> str:
    """sha256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def build(cls: type[C], values: Mapping[str, Any], *, where: str | Path | None = None) -> C:
    """`cls(**values)` whose errors are ConfigErrors that name the key and say what is allowed."""
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(_sentence(cls, error), where=where) from None


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys at which two nested mappings differ."""
    found: list[str] = []
    for key in sorted({*one, *other}):
        left, right = one.get(key), other.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differing_keys(left, right, f"{prefix}{key}.")
        elif left != right:
            found.append(f"{prefix}{key}")
    return found


def _sentence(cls: type[Config], error: ValidationError) -> str:
    parts = []
    for problem in error.errors():
        location = problem["loc"]
        key = ".".join(str(step) for step in location)
        if problem["type"] == "extra_forbidden":
            known = _known_keys(cls, location[:-1])
            parts.append(f"unknown key '{key}'" + (f" (known here: {', '.join(known)})" if known else ""))
        else:
            message = problem["msg"].removeprefix("Value error, ")
            parts.append(f"'{key}': {message[:1].lower()}{message[1:]}" if key else message)
    return "; ".join(parts)


def _known_keys(cls: type[Config], location: Iterable[int | str]) -> list[str]:
    for step in location:
        field = cls.model_fields.get(str(step))
        inner = _config_in(field.annotation) if field is not None else None
        if inner is None:
            return []
        cls = inner
    return list(cls.model_fields)


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """`["pretraining.steps=200"]` to `{"pretraining.steps": 200}`; values are YAML scalars or lists."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"'{pair}' is not an override", hint="Write key=value, for example pretraining.steps=200."
            )
        try:
            # YAML reads 3e-3 as text; people who write it mean the number.
            values[key.strip()] = float(text) if _is_scientific(text) else yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"the value of '{key}' is not YAML: {text}") from None
    return values


def _is_scientific(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "e" in text.lower() and "." not in text


def load_config(cls: type[C], path: Path, overrides: Mapping[str, Any] | None = None) -> C:
    """Read a YAML file into `cls`, with dotted `overrides` on top."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read this recipe ({error.strerror})", where=path) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"not YAML: {' '.join(str(error).split())}", where=path) from None
    if not isinstance(values, dict):
        raise ConfigError("a recipe is a mapping of keys to values", where=path)
    return build(cls, merge_overrides(values, overrides or {}), where=path)


def describe(cls: type[Config], prefix: str = "") -> list[tuple[str, str, str]]:
    """(dotted key, default, description) of every field, depth first: the command line's help."""
    rows: list[tuple[str, str, str]] = []
    for name, info in cls.model_fields.items():
        key, default = f"{prefix}{name}", info.get_default(call_default_factory=True)
        inner = _config_in(info.annotation)
        if inner is not None:
            rows += describe(inner, f"{key}.")
        else:
            shown = "required" if info.is_required() else json.dumps(to_jsonable_python(default))
            rows.append((key, shown, " ".join((info.description or "").split())))
    return rows


def _config_in(annotation: Any) -> type[Config] | None:
    """The config class of a field that holds one, or one or none."""
    for one in (annotation, *(get_args(annotation) if isinstance(annotation, UnionType) else ())):
        if isinstance(one, type) and issubclass(one, Config):
            return one
    return None


def merge_overrides(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Set dotted keys in a copy of a nested mapping."""
    merged = json.loads(json.dumps(values))
    for key, value in overrides.items():
        *path, last = key.split(".")
        place = merged
        for step in path:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                raise ConfigError(f"'{key}' goes through '{step}', which is not a group of keys")
        place[last] = value
    return merged
