"""What ``gtdnet report`` is asked for."""

from dataclasses import dataclass, field


@dataclass
class ReportOptions:
    """One self-contained HTML file about one run, or about several compared

    Args:
        runs: run directories, or folders of evaluations.
        output: the file to write; default: report.html in the run's folder, of several runs in the
            current one.
        clips: worst clips to show with their frames, 0 for none.
        data: where the dataset is now, if it is not where it was for the evaluation.
        title: of the page; default: the run's name.
        overwrite: replace the file if it exists.
    """

    runs: list[str] = field(default_factory=list)
    output: str | None = None
    clips: int = 12
    data: str | None = None
    title: str | None = None
    overwrite: bool = False
