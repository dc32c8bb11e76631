"""What ``gtdnet ablate`` is asked for."""

from dataclasses import dataclass


@dataclass
class AblateOptions:
    """Train every variant of a grid with every seed

    Args:
        grid: YAML file with base, variants and seeds (docs/ablation.md).
        data: dataset folder, list file or manifest; default: the one in the grid's base.
        output: folder of the runs and the results; default: the grid's name in runs/. Runs that
            are in it are not trained again, those that were stopped go on.
        device: where to compute; default: as the grid's base says.
        num_workers: decoding processes; default: the number in the grid's base.
    """

    grid: str
    data: str | None = None
    output: str | None = None
    device: str | None = None
    num_workers: int | None = None
