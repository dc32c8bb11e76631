"""Events in long videos: ``benchmarks/events.py``."""

from __future__ import annotations

from sections.markdown import Results, cell, parts, table


def render(results: Results) -> str:
    """Events in long videos: ``benchmarks/events.py``."""
    (low, high), networks = results["seconds_of_stillness"], results["networks"]
    first = next(iter(networks.values()))
    keys = {
        "background": "nothing below",
        "right": "right",
        "wrong_class": "wrong class",
        "false_alarms": "false alarms",
        "precision": "precision",
        "recall": "recall",
        "false_alarms_per_hour": "false alarms an hour",
        "median_delay_seconds": "median delay, s",
    }
    rows = [
        [network, name, *(cell(row.get(key)) for key in keys)]
        for network, found in networks.items()
        for name, row in found["events"].items()
    ]
    fit = [
        [network, found["temperature"], *(v for k in ("nll", "ece") for v in found[k].values())]
        for network, found in networks.items()
    ]
    trained = "A small GTDNet, trained on the easy built-in clips,"
    between = f"""scenes in which nothing happens: a clip's first frame, and then its last one, held
        for {low:g} to {high:g} seconds with the noise and the wavering light of a cheap camera.
        That network never saw such a scene."""
    if len(networks) > 1:
        between += """ A second one has a class for them, which its classifier alone learned of
        others."""
    if source := results.get("clips_of"):
        trained = f"A causal GTDNet, trained for a few epochs on half of {source},"
        between = f"""others of the class that is taken for nothing, played forth and back for
        {low:g} to {high:g} seconds. No video that a clip was cut from is in two of training,
        calibration and measurement."""
    return parts(
        f"""{trained} follows {first["hours"]} hours of video as a stream ({first["live"]}). In them
        {results["clips"]} test clips stand between {between} The calibration knows none of the test
        clips: it was shown {first["clips"]} others for the temperature and a precision of
        {first["precision"]:g}, and {first["hours_of_background"]} hours of nothing, in which
        there may be at most so many events an hour; so little of it cannot tell small rates apart.
        A row that is missing has no threshold that keeps to it.""",
        """An event counts for the motion that ended at most two seconds before it was reported:
        right if it has its class, once; of another class, wrong. The rest are false alarms, by the
        hour of nothing. The delay is from the beginning of the motion to the report.""",
        table(["network", "calibration", *keys.values()], rows),
        "Of the clips that were calibrated on:",
        table(
            ["network", "temperature", "NLL before", "after", "calibration error before", "after"],
            fit,
        ),
    )
