"""A stream of very many frames: ``benchmarks/long_stream.py``."""

from __future__ import annotations

from sections.markdown import Results, parts, table


def render(results: Results) -> str:
    heads = {
        "largest_difference": "largest difference",
        "of_the_last_frame": "of the last frame",
        "state_bytes": "state, bytes",
        "resident_mib_after_a_tenth": "MiB after a tenth",
        "resident_mib_most_since": "most since",
        "resident_mib_at_the_end": "at the end",
        "cpu_ms_a_frame": "CPU ms a frame",
    }
    return parts(
        f"""A small causal GTDNet of random weights, whose answers depend on what it remembers, is
        run frame by frame on {results["frames"]:,} pictures of noise (engine {results["engine"]}).
        At {results["compared"]} frames, drawn at random but for the last one, the same model sees
        as one clip, in PyTorch, the {results["frames_seen_for_each"]} frames that can have an
        influence on the newest. Differences are those of the logits, in {results["difference_in"]}.
        MiB: the resident memory of the process.""",
        table([*heads.values()], [[results[key] for key in heads]]),
    )
