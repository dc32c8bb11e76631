"""What ``gtdnet collect`` is asked for."""

from dataclasses import dataclass


@dataclass
class CollectOptions:
    """Cut labelled clips from a camera or a video, into a folder for each class

    Args:
        folder: where the clips go, FOLDER/CLASS/*.mp4; more are added to those that are there.
        source: a camera (0, /dev/video0), a stream (rtsp://, http://), a video, which is played, or
            with marks cut by them.
        classes: names, separated by commas: the first has the key 1, the second 2, ...; default:
            the folders that are there. Have one for what is none of them, as "nothing".
        seconds: of a clip; 0: until its key, or space, is pressed again.
        countdown: seconds between the key and the clip, to take one's place.
        per_class: clips that are wanted of each class.
        hands_free: the classes come up one after the other, until per_class clips of each are
            there.
        marks: table of start, end, label (seconds or 1:23.5) by which a video is cut, without keys.
        size: WIDTHxHEIGHT that a camera is asked for.
        rate: frames per second that a camera is asked for, or of a video that does not say.
        preview: show what the camera sees, in the terminal.
    """

    folder: str
    source: str
    classes: str | None = None
    seconds: float = 3.0
    countdown: float = 2.0
    per_class: int | None = None
    hands_free: bool = False
    marks: str | None = None
    size: str | None = None
    rate: float | None = None
    preview: bool = True
