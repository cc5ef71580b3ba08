"""Which layers an adapter or a quantisation is put on."""

from __future__ import annotations

import math

import regex

from ..core.errors import ConfigError

# A head's or pooler's output is no hidden state: "all-linear" leaves them as they are, as PEFT does with heads.
_HEADS = frozenset({"lm_head", "score", "pooler"})
_SECONDS = 1.0  # for a name that is matched with an expression out of an adapter's file
_REPEATS = 10_000  # counts in braces, multiplied

Targets = str | tuple[str, ...]


def match(paths: dict[str, str], targets: Targets) -> list[str]:
    """Our paths of the linear layers that `targets` names.

    Args:
        paths: our path of every linear layer -> Hugging Face's; either may be named.
        targets: "all-linear" (all but heads), a regular expression of whole paths, or names: whole paths or their ends.

    Raises: ConfigError where a target matches no layer, or an expression is not valid or takes too long.
    """
    if targets == "all-linear":
        return [name for name in paths if name.rpartition(".")[2] not in _HEADS]
    chosen: set[str] = set()
    for target in (targets,) if isinstance(targets, str) else targets:
        if isinstance(targets, str):
            found = _matching(paths, target)
        else:
            found = {name for name, theirs in paths.items() if any(_ends(path, target) for path in (name, theirs))}
        if not found:
            leaves = sorted({path.rpartition(".")[2] for path in paths.values()})
            raise ConfigError(
                f"'{target}' matches no linear layer", where="targets", hint=f"There are: {', '.join(leaves)}."
            )
        chosen |= found
    if not chosen:
        raise ConfigError("names no layer", where="targets")
    return [name for name in paths if name in chosen]


def shortest_names(chosen: list[str], every: list[str]) -> list[str]:
    """Last names where they say the same as whole paths."""
    leaves = {path.rpartition(".")[2] for path in chosen}
    same = {path for path in every if path.rpartition(".")[2] in leaves} == set(chosen)
    return sorted(leaves) if same else sorted(chosen)


def _matching(paths: dict[str, str], expression: str) -> set[str]:
    pattern = _compiled(expression)
    try:
        return {
            name
            for name, theirs in paths.items()
            if any(pattern.fullmatch(path, timeout=_SECONDS) for path in (name, theirs))
        }
    except TimeoutError:
        raise ConfigError(
            f"the expression '{expression:.80}' takes too long on a layer's name",
            where="targets",
            hint="It tries the same characters in too many ways: name the layers instead.",
        ) from None


def _compiled(expression: str) -> regex.Pattern[str]:
    """An expression out of a foreign file. Counted repeats within each other are unrolled when one is compiled."""
    if math.prod(int(count) or 1 for count in regex.findall(r"(\d{1,9})\}", expression)) > _REPEATS:
        raise ConfigError(f"the expression '{expression:.80}' repeats too often", where="targets")
    try:
        return regex.compile(expression)
    except (regex.error, RecursionError) as error:
        raise ConfigError(f"'{expression:.80}' is not a regular expression ({error})", where="targets") from None


def _ends(path: str, name: str) -> bool:
    return path == name or path.endswith("." + name)
