"""Charts as pictures: the page's theme in its light colours, drawn without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.artifacts import write_atomically
from ..core.errors import ConfigError
from .look import properties, theme

if TYPE_CHECKING:
    import altair as alt


def write_image(
    chart: alt.Chart | alt.LayerChart | alt.HConcatChart | alt.VConcatChart,
    path: Path,
    *,
    width: int = 760,
    scale: float = 2.0,
) -> None:
    """Write a chart as SVG or PNG, by the suffix of `path`.

    Args:
        width: of a chart that would fill its place, in pixels.
        scale: pixels of the PNG for one of the chart.

    Raises:
        ConfigError: another suffix.
    """
    import vl_convert

    spec = {**chart.to_dict(validate=False), "config": _light_theme()}
    if spec.get("width") == "container":
        spec["width"] = width
    if path.suffix == ".svg":
        write_atomically(path, vl_convert.vegalite_to_svg(spec).encode())
    elif path.suffix == ".png":
        write_atomically(path, vl_convert.vegalite_to_png(spec, scale=scale))
    else:
        raise ConfigError(f"a chart cannot be written as '{path.suffix}'", where=path, hint="Take .svg or .png.")


def _light_theme() -> dict[str, Any]:
    light = properties("light")

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: resolve(one) for key, one in value.items()}
        if isinstance(value, list):
            return [resolve(one) for one in value]
        return light[value] if isinstance(value, str) and value.startswith("--") else value

    padding = {"left": 14, "right": 18, "top": 14, "bottom": 12}
    found: dict[str, Any] = resolve(theme())
    title = {"color": light["--ink"], "fontSize": 14, "fontWeight": 600, "anchor": "start", "offset": 10}
    return found | {"background": light["--panel"], "padding": padding, "title": title}
