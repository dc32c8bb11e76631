"""The built-in dataset: clips of moved things, of any number, drawn from a seed.

classes.py says what there is (editions, classes, what a clip shows), motions.py how things move,
scene.py what they are, draw.py makes frames of them, and write.py a dataset of these.
"""

from gtdnet.data.formats import written_formats
from gtdnet.data.synthetic.classes import EDITIONS, Edition, class_groups, class_names, compose
from gtdnet.data.synthetic.draw import render, render_clip
from gtdnet.data.synthetic.motions import Pose
from gtdnet.data.synthetic.scene import Array, Scene, Thing
from gtdnet.data.synthetic.write import FPS, write_dataset

__all__ = [
    "EDITIONS",
    "FORMATS",
    "FPS",
    "Array",
    "Edition",
    "Pose",
    "Scene",
    "Thing",
    "class_groups",
    "class_names",
    "compose",
    "render",
    "render_clip",
    "write_dataset",
]

FORMATS = tuple(written_formats())
"""The formats in which this package writes a dataset; with those that are registered later:
:func:`gtdnet.data.formats.written_formats`."""
