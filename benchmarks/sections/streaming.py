"""What a frame of a stream costs: ``benchmarks/streaming.py``."""

from gtdnet.measure.machine import describe_load
from sections.markdown import Results, parts, table


def render(results: Results) -> str:
    rows = []
    for name, row in results["frames"].items():
        model, engine = name.split(", ")
        against = row["vs_floor"]
        rows.append([
            model, engine, row["floor_cpu_ms"], row["cpu_ms"],
            f"{against['ratio']:.2f} [{against['low']:.2f}, {against['high']:.2f}]",
            row["cpu_ms_with_decoding"], row["frames_per_cpu_second"],
        ])  # fmt: skip
    load = describe_load(results["load"], results["machine"]["cores"])
    return parts(
        f"""Causal GTDNet frame by frame, exported as a stream, beside the 2D network alone on the
        same frames, by turns in one run; {results["threads"]} thread, 224x224 pixels, CPU
        milliseconds a frame and the ratio with its 95 % interval. Then from the file on: decoding
        640x480 H.264, resizing, the network. Meanwhile: {load}.""",
        table(
            ["model", "engine", "floor, ms", "GTDNet, ms", "ratio", "with decoding, ms",
             "frames a CPU second"],
            rows,
        ),
    )  # fmt: skip
