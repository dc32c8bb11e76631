"""Several processes, on one machine or many, that run one command together.

torchrun or SLURM's srun starts them, or the first one starts the others of its machine.
"""

from gtdnet.processes.group import ALONE, Group, current
from gtdnet.processes.start import joined, keep_quiet, started, together

__all__ = ["ALONE", "Group", "current", "joined", "keep_quiet", "started", "together"]
