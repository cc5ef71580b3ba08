"""Configs refuse unknown keys and name the key that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from seedbed.core.config import Config, build, load_config, merge_overrides, parse_overrides
from seedbed.core.errors import ConfigError


class _Inner(Config):
    steps: int = Field(10, ge=1)
    rate: float = 0.1


class _Outer(Config):
    inner: _Inner = _Inner()
    name: str = "x"


def test_overrides_reach_nested_keys(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("inner: {steps: 5}\n")
    config = load_config(_Outer, recipe, parse_overrides(["inner.rate=3e-3", "name=demo"]))
    assert config == _Outer(inner=_Inner(steps=5, rate=0.003), name="demo")
    assert config.fingerprint() != _Outer().fingerprint()
    assert config.inner.replace(steps=7).steps == 7


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"stepz": 5}}, r"unknown key 'inner.stepz' \(known here: steps, rate\)"),
        ({"nam": 1}, r"unknown key 'nam' \(known here: inner, name\)"),
        ({"inner": {"steps": 0}}, "'inner.steps': input should be greater than or equal to 1"),
        ({"inner": {"rate": "fast"}}, "'inner.rate'"),
    ],
)
def test_errors_name_the_key(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(_Outer, values)


def test_files_and_overrides_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(_Outer, tmp_path / "none.yaml")
    for text in ("a: [", "- 1", "\xff"):
        (tmp_path / "bad.yaml").write_text(text, encoding="latin-1")
        with pytest.raises(ConfigError, match=r"bad\.yaml"):
            load_config(_Outer, tmp_path / "bad.yaml")
    with pytest.raises(ConfigError, match="is not an override"):
        parse_overrides(["steps"])
    with pytest.raises(ConfigError, match="goes through 'name'"):
        merge_overrides({"name": "x"}, {"name.deep": 1})
