"""An exhibit: a claim of the textbooks, measured on a run, with a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, get_args

from pydantic import Field

from ..core.config import Config
from ..core.errors import FormatError

if TYPE_CHECKING:
    from ..reports.charts import Chart
    from .bench import Bench

Verdict = Literal["holds", "holds in part", "does not hold"]
VERDICTS: tuple[str, ...] = get_args(Verdict)


class Settings(Config):
    """What an exhibit measures: sizes, lengths, steps. Its subclass stands in the exhibit's file."""

    seed: int = Field(0, ge=0, description="of everything random")


@dataclass(frozen=True)
class Finding:
    """What an exhibit measured.

    Attributes:
        sentences: two, of numbers that were measured just now.
        columns, rows: the table behind them; values are numbers or short texts.
        charts: (heading, chart) pairs; a heading may be empty where there is one chart.
        numbers: the measured values that the verdict rests on, by name, for those who compute them again.
    """

    verdict: Verdict
    sentences: tuple[str, str]
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    charts: Sequence[tuple[str, Chart | Mapping[str, Any]]]
    numbers: Mapping[str, float]
    caption: str = ""

    def to_json(self) -> dict[str, Any]:
        charts = [
            {"heading": heading, "spec": dict(chart) if isinstance(chart, Mapping) else chart.to_dict(validate=False)}
            for heading, chart in self.charts
        ]
        return {
            "verdict": self.verdict, "sentences": list(self.sentences), "columns": list(self.columns),
            "rows": [list(row) for row in self.rows], "charts": charts, "numbers": dict(self.numbers),
            "caption": self.caption,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Finding:
        """Raises: FormatError: it is not what `to_json` makes."""
        try:
            charts = [(one["heading"], one["spec"]) for one in values["charts"]]
            first, second = values["sentences"]
            if values["verdict"] not in VERDICTS:
                raise ValueError(f"there is no verdict {values['verdict']!r}")
            return cls(
                values["verdict"], (first, second), values["columns"], values["rows"], charts, values["numbers"],
                values["caption"],
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"this is no finding of an exhibit ({error!r})", hint="Run the exhibit again.") from None


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Exhibit(Generic[S]):
    """
    Attributes:
        question: what is asked, in a sentence that ends with a question mark.
        claim: what the textbooks say, in a sentence; the verdict is about it.
        formula: the law behind it, in plain text.
        source: paper and section of claim and formula.
        measure: a function of the run and the settings; says itself when what it needs is not in the run.
        needs: stages of the run that it reads.
    """

    question: str
    claim: str
    formula: str
    source: str
    settings: type[S]
    measure: Callable[[Bench, S], Finding]
    needs: Sequence[str] = field(default=())
