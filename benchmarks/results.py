"""Make docs/results.md of benchmarks/results/*.yaml, or see whether they agree.

    python benchmarks/results.py            # writes the page
    python benchmarks/results.py --check    # exit status 1 and one sentence if it is another

The files are what measurements leave behind; nobody edits them or the page by hand. A file that no
section here is made for is shown plainly.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml
from scale_section import scale

from gtdnet.files import write_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"
Results = Mapping[str, Any]

INTRODUCTION = """\
# Results

What this project has measured itself. `python benchmarks/results.py` makes this page of the files
in `benchmarks/results`, and `make lint` sees that it still agrees with them; each section names the
command that wrote its file.

No row of the GTDNet paper's table on Something-Something or Kinetics has been reproduced yet: that
takes the datasets and GPUs. [reproduce.md](reproduce.md) has the commands.
"""


def page(folder: Path) -> str:
    """The page of all files in a folder, in the order of ``SECTIONS``, then by name."""
    order = list(SECTIONS)
    paths = sorted(
        folder.glob("*.yaml"),
        key=lambda p: (order.index(p.stem) if p.stem in order else len(order), p.stem),
    )
    return "\n".join([INTRODUCTION, *(section(path) for path in paths)])


def section(path: Path) -> str:
    """What one file says, under a heading."""
    try:
        results = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        sys.exit(f"{path} is not YAML: {' '.join(str(error).split())}")
    if not isinstance(results, dict):
        sys.exit(f"{path} holds no mapping of names to results; write it anew by its command")
    title = results.get("title") or path.stem.replace("_", " ").capitalize()
    render = ablation if {"grid", "variants", "runs"} <= set(results) else plain
    render = real_video if {"methods", "pairs", "folds"} <= set(results) else render
    render = bench if "bench" in results else render
    title, render = SECTIONS.get(path.stem, (title, render))
    try:
        body = render(results)
    except KeyError as error:
        sys.exit(f"{path} lacks {error}; write it anew by its command")
    return f"## {title}\n\n{origin(path, results)}\n\n{body}\n"


def origin(path: Path, results: Results) -> str:
    """Which command wrote the file, when, with and on what."""
    facts = [str(results.get("date") or results.get("written", ""))[:10]]
    versions = results.get("versions", {})
    facts += [f"{name} {version}" for name, version in versions.items()]
    machine = results.get("machine", "")
    if isinstance(machine, Mapping):
        machine = ", ".join(f"{k} {v}" for k, v in machine.items() if k != "system")
    facts.append(str(machine))
    told = ", ".join(fact for fact in facts if fact)
    return f"`{results.get('command', path.name)}` ({told or 'no date'}):"


# ------------------------------------------------------------------------------------- sections


def complexity(results: Results) -> str:
    heads = ["model", "frames", "M parameters", "GMACs", "MiB inference", "MiB training"]
    costs = [
        [name, frames, cost["m_parameters"], cost["gmacs"], *map(cost.get, _MEMORY)]
        for name, by_frames in results["models"].items()
        for frames, cost in by_frames.items()
    ]
    sizes = results["gtdnet_m_parameters"]
    reductions = [f"r = {r}" for r in next(iter(sizes.values()))]
    size = results["crop_size"]
    nearest = [list(reading.values()) for reading in results.get("gtdnet_nearest", ())]
    return parts(
        f"""Of one view of {size}x{size} pixels at {results["num_classes"]} classes. The numbers
        follow from the architecture alone, so the machine does not matter. GMACs: billions of
        multiply-accumulates, which this field's papers print as GFLOPs; a protocol costs as many
        times that as it has views. Batch norms, activations, pooling and gates are not counted.
        MiB: activations of one clip in float32, the clip included: the most that is alive at one
        time in inference, and what training keeps for the backward pass. GTDNet's attention
        matrices are among them; fused kernels do without. Weights, optimizer and the convolutions'
        work space come on top. For any model, size and protocol: `gtdnet models --complexity`.""",
        table(heads, costs),
        """Millions of parameters of `gtdnet_resnet50` by aggregation and reduction r; the paper
        says 33.9 ([fidelity.md](fidelity.md)):""",
        table(["aggregation", *reductions], [[name, *row.values()] for name, row in sizes.items()]),
        """And the readings whose parameters come nearest to that, GTD blocks in all residual blocks
        or in every second one among them:""",
        table(
            [
                "aggregation",
                "r",
                "in every n-th block",
                "M parameters",
                *(f"GMACs, {frames} frames" for frames in (8, 16)),
            ],
            nearest,
        ),
    )


_MEMORY = ("inference_mib", "training_mib")


def peers(results: Results) -> str:
    kinds = {"gmacs_8": "GMACs, 8 frames", "gmacs_16": "16 frames", "parameters": "M parameters"}
    costs = [
        [f"{name}_resnet50", *(v for k in kinds for v in (row[k], cell(row[f"published_{k}"])))]
        for name, row in results["models"].items()
    ]
    official = [
        [row["source"], row["commit"].split("==")[-1][:12], row["model"], row["largest_difference"]]
        for row in results["official"].values()
    ]
    return parts(
        f"""Beside what the papers print for ResNet-50, at {results["num_classes"]} classes. The
        published parameters of TSN, TSM, TEINet and TANet are those of 400 classes: 0.46 M more, by
        the classifier alone.""",
        table(["model", *(h for kind in kinds.values() for h in (kind, "published"))], costs),
        """Checkpoints of the official code, made model files by `gtdnet convert`: the largest
        difference of a logit to what the official code computes, as a share of the logits' standard
        deviation, in float32.""",
        table(["official code", "version", "model here", "largest difference"], official),
    )


def start_points(results: Results) -> str:
    means, deviations = results["val_top1_mean"], results["val_top1_stdev"]
    names = {
        "tsm": "a TSM that knows the easy edition, by `--init-from`",
        "stills": "a 2D network that knows the shapes, by `--pretrained`",
        "random": "random weights",
    }
    rows = [
        [names.get(s, s), *(f"{m} ± {d}" for m, d in zip(means[s], deviations[s], strict=True))]
        for s in means
    ]
    runs = len(next(iter(results["val_top1_by_seed"].values())))
    return parts(
        f"""A GTDNet learns {results["classes"]} actions of the built-in data (`full`) from three
        starts, on the same {results["training_clips"]} clips; top-1 in % on
        {results["validation_clips"]} others after each epoch, mean ± sample standard deviation of
        {runs} runs.""",
        table(["start", *(f"{steps} steps" for steps in results["steps"])], rows),
        f"""Top-1 in % after each epoch of what they start from: the TSM, begun from the demo's 2D
        weights, {listed(results["tsm_on_easy_top1"])}; the same from random weights
        {listed(results["tsm_from_random_on_easy_top1"])}; the 2D network, on the shapes in single
        frames, {listed(results["shapes_of_stills_top1"])}.""",
    )


def ablation(results: Results) -> str:
    from gtdnet.ablate.summary import table as table_of_variants

    data = results["data"]
    return parts(
        f"""Top-1 on {data["validation_clips"]} validation clips of {data["classes"]} classes after
        the last of {results["epochs"]} epochs of {data["training_clips"]} clips: mean ± sample
        standard deviation over the seeds {listed(results["grid"]["seeds"])}. Differences are taken
        seed by seed, then averaged. "best epoch" is chosen on the same clips and therefore too
        high.""",
        table_of_variants(results),
        *(
            f"Failed: {run['variant']}, seed {run['seed']}: {run['reason']}"
            for run in results["runs"]
            if run["status"] == "failed"
        ),
    )


def ablation_classes(results: Results) -> str:
    means, deviations = results["means"], results["standard_deviations"]
    heads = {
        "top1_neighbouring": "top-1, neighbouring frames",
        "top1_whole_clip": "top-1, whole clip",
        "group": "group",
        "order_neighbouring": "order, neighbouring frames",
        "order_whole_clip": "order, whole clip",
    }
    gates = ("gate_from_half", "gate_sd_within_clip", "gate_sd_between_clips")
    rows = [
        [
            variant,
            *(f"{mean[k]} ± {deviations[variant].get(k, '-')}" for k in heads),
            *map(mean.get, gates),
        ]
        for variant, mean in means.items()
    ]
    return parts(
        f"""Of the classes that neighbouring frames tell apart and of those that only the whole clip
        does, on {results["validation_clips"]} clips; in %, mean ± sample standard deviation over
        the seeds. Group: how often the best class is of the clip's own group, whose classes show
        the same frames in another order. Order: how often, of the classes of that group alone, the
        right one scores best; guessing gives 50 % by neighbouring frames, 40 % by the whole clip.
        Gates: mean distance from 1/2, where they begin, and standard deviation over the frames of a
        clip and between clips.""",
        table(["variant", *heads.values(), "gates from 1/2", "within clip", "between clips"], rows),
    )


def bench(results: Results) -> str:
    from gtdnet.bench.result import blocks

    if results["bench"] == "several":
        return _several(results)
    results = {**results, "cases": [_what_explains(case) for case in results.get("cases", [])]}
    told = [*_peaks(results), *blocks(results)]
    return "\n\n".join(
        "\n".join(map(parts, block.splitlines()))
        if isinstance(block, str)
        else table(block[0], block[1:])
        for block in told
    )


def _several(results: Results) -> str:
    """Several benches that were run one after the other."""
    told = [
        f"### {part['title']}\n\n`{part['command']}`\n\n{bench(part)}" for part in results["parts"]
    ]
    failed = [parts(f"- {title}: {reason}") for title, reason in results["failed"].items()]
    return "\n\n".join([*told, "\n".join(["Not measured:", *failed])] if failed else told)


def _peaks(results: Results) -> list[str]:
    """What GFLOP/s are a share of."""
    peaks = [peak for peak in results.get("peak_gflops", []) if peak["gflops"]]
    several = len({peak["threads"] for peak in peaks}) > 1
    told = [
        f"{peak['gflops']:.0f} in {peak['precision']}"
        + (f" with {peak['threads']} threads" if several else "")
        for peak in peaks
    ]
    if not told:
        return []
    return [f"The most GFLOP/s seen here, of large products and convolutions: {', '.join(told)}."]


def _what_explains(case: Results) -> Results:
    """A case with no more of its profile than the comparison with the floor; the file has all."""
    compared = any("floor_ms" in kind for kind in case.get("kinds", []))
    left_out = {"operators"} if compared else {"operators", "kinds"}
    return {key: value for key, value in case.items() if key not in left_out}


def fuzz(results: Results) -> str:
    kinds = results["kinds"]
    silent = {
        kind: told["silent_damage"] for kind, told in kinds.items() if "silent_damage" in told
    }
    verdicts = [
        (kind, cases if i == 0 else "", verdict, count)
        for kind, cases, found in ((k, t["cases"], t["verdicts"]) for k, t in kinds.items())
        for i, (verdict, count) in enumerate(found.items())
    ]
    causes = [(k, *pair) for k, told in silent.items() for pair in told["by_cause"].items()]
    codecs = "; ".join(f"{codec} {share}" for codec, share in silent["videos"]["by_codec"].items())
    compared = "; ".join(
        f"{count} {what}"
        for what, count in kinds["videos"]["against_an_independent_decode"].items()
    )
    return parts(
        f"""{results["cases"]} damaged files of all kinds, each read by what the commands call, in
        processes with limits of time and memory: {len(results["faults"])} faults (crashes, hangs,
        exceptions other than a refusal, frames that an independent decode does not give). A file
        is whole, refused (wholly or in single frames, by name and reason), or silently other than
        it was: that is "other frames".""",
        table(["kind", "cases", "what became of them", "cases"], verdicts),
        f"Videos against an independent decode: {compared}.",
        """Silent damage, by what it did to the packets that the decoder was given. Why a decoder
        takes changed bytes is not told apart here: some codecs have no checksums, and some of it
        could be noticed. Pictures "shown otherwise" are not compared value by value.""",
        table(["kind", "frames: what the decoder was given", "cases"], causes),
        f"Silent damage of all cases, by codec: {codecs}.",
    )


def events(results: Results) -> str:
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
    second = ""
    if len(networks) > 1:
        second = "A second one has a class for them, which its classifier alone learned of others."
    return parts(
        f"""A small GTDNet, trained on the easy built-in clips, follows {first["hours"]} hours of
        video as a stream ({first["live"]}). In them {results["clips"]} test clips stand between
        scenes in which nothing happens: a clip's first frame, and then its last one, held for
        {low:g} to {high:g} seconds with the noise and the wavering light of a cheap camera. That
        network never saw such a scene. {second} The calibration knows none of the test clips: it
        was shown {first["clips"]} others for the temperature and a precision of
        {first["precision"]:g}, and {first["hours_of_background"]} hours of stillness, in which
        there may be at most so many events an hour; so little of it cannot tell small rates apart.
        A row that is missing has no threshold that keeps to it.""",
        """An event counts for the motion that ended at most two seconds before it was reported:
        right if it has its class, once; of another class, wrong. The rest are false alarms, by the
        hour of stillness. The delay is from the beginning of the motion to the report.""",
        table(["network", "calibration", *keys.values()], rows),
        "Of the clips that were calibrated on:",
        table(
            ["network", "temperature", "NLL before", "after", "calibration error before", "after"],
            fit,
        ),
    )


def timm(results: Results) -> str:
    """``benchmarks/timm_networks.py``."""
    networks = results["networks"]
    found = {name: row for name, row in networks.items() if "refused" not in row}
    heads = ["network", "M", "modules", "first", "of stages", "pixels"]
    differences = ["features", "identity", "shift", "file", "onnx"]
    rows = [
        [
            name, row["m_parameters"], row["modules"], f"`{row['first']}`",
            ", ".join(f"{stage}: {number}" for stage, number in row["stages"].items()),
            row["size"], *(row.get(name, "-") for name in differences),
        ]
        for name, row in found.items()
    ]  # fmt: skip
    return parts(
        """Networks of timm ([backbones.md](backbones.md)), with random numbers in all weights, and
        what differs, at most, in units of the largest number compared: features of
        `tsn_timm/NAME` from timm's own before its classifier; logits of a fresh `gtdnet_timm/NAME`
        from `tsm_timm/NAME` (identity), and from `tsn_timm/NAME` (shift: that must differ); of a
        model file, read again, from the model; of some an ONNX file from the model. M: millions of
        parameters, timm's classifier included.""",
        table([*heads, *differences], rows),
        "Refused, and what is said:",
        table(
            ["network", "what is said"],
            [[name, row["refused"]] for name, row in networks.items() if "refused" in row],
        ),
    )


def load(results: Results) -> str:
    rows = [
        [kind, ", ".join(f"{code}: {n}" for code, n in counts.items()), *took.values()]
        for (kind, counts), took in zip(
            results["answers"].items(), results["seconds"].values(), strict=True
        )
    ]
    before, after = results["memory_mib"].values()
    return parts(
        f"""{results["clients"]} clients for {results["minutes"]:g} minutes on loopback, beside the
        server on its cores, each doing one of these things after another: {results["requests"]} in
        all, {len(results["faults"])} faults (who waits gets no answer, or one without a sentence;
        memory grows; more lies on the disk than may; a file, a process or an error in the log is
        left at the end). 503 is the queue being full, 408 an upload that was too slow.""",
        table(["what clients do", "what came of it", "seconds, median", "99 %"], rows),
        f"""The server and its processes took at most {before} MiB in the first third of the time
        and {after} MiB in the last; its files at most {results["disk_mb_most"]} MB of the
        {results["disk_mb_allowed"]} that its limits allow; {results["files_open_most"]} files were
        open at most, {results["processes_most"]} processes ran, and
        {results["decoders_replaced"]} decoders were replaced.""",
    )


def bulk(results: Results) -> str:
    killed = [
        [engine, found["clips"], victim, number, "; ".join(found["faults"]) or "none"]
        for engine, found in results.get("kills", {}).items()
        for victim, number in found["kills"].items()
    ]
    told = [
        """SIGKILL at random to the command, to its processes and, on Ray, to an actor or to the
        node's raylet; then the same command again, where it had ended. Blocks may be tried nine
        times, so that no kill makes a clip a row. At the end every id must be there once, and the
        files of answers must be those of an undisturbed run, byte by byte: else it is a fault.""",
        table(["runner", "clips", "killed", "times", "faults"], killed),
    ]
    if cost := results.get("cost"):
        ratio = cost["times_as_fast_as_a_plain_loop"]
        told.append(
            f"""A block beside a plain loop over `Recognizer.predict`, by turns in one process:
            {ratio["median"]} times as many clips per CPU second (median of {cost["rounds"]}
            rounds, {ratio["lowest"]} to {ratio["highest"]}); {cost["cpu_ms_a_clip"]} ms a clip with
            this tiny model."""
        )
    if plan := results.get("plan"):
        told.append(
            f"""A table of {plan["rows"]} rows ({plan["table_mib"]} MiB): its ids are seen to be
            unique in {plan["cpu_s_ids"]} CPU seconds, its blocks are made in
            {plan["cpu_s_blocks"]}; memory grows by {plan["memory_mib"]} MiB."""
        )
    if memory := results.get("memory"):
        quarters = memory["mib_by_quarter"]
        told += [
            f"""Memory while {memory["clips"]} clips go through one process: the most in each
            quarter of the run, MiB.""",
            table(
                ["", "first", "second", "third", "last"],
                [[name, *values] for name, values in quarters.items()],
            ),
        ]
    return parts(*told)


SECTIONS: dict[str, tuple[str, Callable[[Results], str]]] = {
    "complexity": ("What the networks cost", complexity),
    "peers": ("The other methods beside their papers", peers),
    "start_points": ("What a good start is worth", start_points),
    "ablation": ("Ablation", ablation),
    "ablation_classes": ("Ablation: which classes are told apart", ablation_classes),
    "ablation_rates": ("Ablation: the start and the rate of the block", ablation),
    "ablation_longer": ("Ablation: twice the budget", ablation),
    "ablation_classes_longer": ("Ablation: twice the budget, classes", ablation_classes),
    "speed_engines": ("Speed: engines", bench),
    "speed_eager": ("Speed: PyTorch, with and without the fast path", bench),
    "speed_training": ("Speed: training steps", bench),
    "speed_training_batch4": ("Speed: training steps of four clips", bench),
    "speed_reading_h264": ("Speed: reading ten seconds of H.264", bench),
    "speed_reading_vp9": ("Speed: reading four seconds of VP9", bench),
    "predict": ("Speed: a timeline of a long video", lambda results: plain(results)),
    "events": ("Events before and after calibration", events),
    "fuzz": ("Damaged files", fuzz),
    "timm": ("Networks of timm", timm),
    "load": ("Under load", load),
    "bulk": ("Many clips at a time", bulk),
    "scale": ("On paper: a billion clips", lambda results: scale(results, parts, table)),
}


def real_video(results: Results) -> str:
    """Cross-validation over groups: ``benchmarks/real_video.py``."""
    methods, pairs, folds = results["methods"], results["pairs"], results["folds"]
    if not folds:
        return "No fold has been run by all methods yet."
    heads = ["method", "top-1 %", "95 % interval", "sd of folds", "frames shuffled", "training"]
    figures = [
        [
            name,
            row["top1"],
            "{} to {}".format(*row["interval"]),
            row["sd_of_folds"],
            row["shuffled"],
            row["training"],
        ]
        for name, row in methods.items()
    ]
    compared = [
        [
            f"{pair['first']} minus {pair['second']}",
            pair["difference"],
            "{} to {}".format(*pair["interval"]),
            pair["won"],
            pair["lost"],
            pair["p"],
        ]
        for pair in pairs
    ]
    return parts(
        f"""{results["classes"]} classes; {results["clips"]} answers on held-out clips, in
        {len(folds)} trainings of each method, of groups (`{results["group"]}`) that it has not
        seen; {results["hours"]} hours of one core. Settings:
        `benchmarks/real_video/{results["grid"]}`, the same for all, written down before the first
        run. Weights are those of the last step. The
        answer for every clip is in `benchmarks/results/real_video/`. Shuffled: the same weights
        with the held-out clips' frames in random order. Training: top-1 on augmented training clips
        in the last epoch.""",
        table(heads, figures),
        """Clip by clip: won and lost are the clips that one of the two alone has right, p is
        McNemar's exact test over clips. Clips of one group are not independent, so that p is too
        sure of itself: look at the folds as well.""",
        table(["", "points", "95 % interval", "won", "lost", "p"], compared),
        table(
            ["held out", "seed", *methods],
            [[fold["held_out"], fold["seed"], *(fold[m] for m in methods)] for fold in folds],
        ),
    )


# ---------------------------------------------------------------------------------------- plain

_TOLD = ("title", "bench", "command", "date", "written", "versions", "machine")  # above the tables


def plain(results: Results) -> str:
    """Any file: values as one table, mappings as another, a table for each nested one."""
    kinds: dict[str, dict[str, Any]] = {"values": {}, "mappings": {}, "tables": {}}
    for key, value in results.items():
        rows = value.values() if isinstance(value, dict) else value
        nested = isinstance(value, (dict, list)) and all(isinstance(r, dict) for r in rows)
        kind = "tables" if nested and value else "mappings" if isinstance(value, dict) else "values"
        if key not in _TOLD:
            kinds[kind][key] = value
    blocks = [table(["", ""], kinds["values"].items())] if kinds["values"] else []
    blocks += [_of_mappings(kinds["mappings"])] if kinds["mappings"] else []
    for key, value in kinds["tables"].items():
        rows = value if isinstance(value, dict) else dict(enumerate(value, 1))
        blocks += [f"{key}:", _of_mappings(rows)]
    return parts(*blocks)


def _of_mappings(rows: Mapping[Any, Mapping[str, Any]]) -> str:
    """A table with a row for each mapping, under the keys of them all."""
    heads = list(dict.fromkeys(key for row in rows.values() for key in row))
    cells = [[name, *(row.get(head) for head in heads)] for name, row in rows.items()]
    return table(["", *map(str, heads)], cells)


# --------------------------------------------------------------------------------------- Markdown


def parts(*blocks: str) -> str:
    """Tables as they are and paragraphs filled to 100 columns, with empty lines between."""
    fill = textwrap.TextWrapper(100, break_long_words=False, break_on_hyphens=False).fill
    return "\n\n".join(b if b.startswith("|") else fill(" ".join(b.split())) for b in blocks)


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; numbers stand to the right."""
    columns = [_shown(column) for column in zip(*rows, strict=True)]
    numbers = (all(re.fullmatch(r"[-+]?\d[\d.e-]*|-", v) for v in column) for column in columns)
    rule = ["---:" if right else "---" for right in numbers]
    lines = [list(heads), rule, *zip(*columns, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(column: Sequence[Any]) -> list[str]:
    """The values of a column as text, its fractions with the same number of digits."""
    fractions = [v for v in column if isinstance(v, float)]
    digits = max((len(repr(v).partition(".")[2]) for v in fractions), default=0)
    same = all("e" not in repr(v) for v in fractions)
    return [f"{v:.{digits}f}" if same and isinstance(v, float) else cell(v) for v in column]


def cell(value: Any) -> str:
    """A value as text: "-" for none, at most five digits of a number."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {cell(v)}" for key, v in value.items())
    if isinstance(value, list):
        return listed(value)
    return " ".join(str(value).replace("|", "\\|").split())


def listed(values: Sequence[Any]) -> str:
    return ("; " if any(isinstance(v, list) for v in values) else ", ").join(map(cell, values))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if they disagree")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the files")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page")
    args = parser.parse_args(arguments)
    wanted = page(args.results)
    if not args.check:
        write_text(args.page, wanted)
        return 0
    there = args.page.read_text(encoding="utf-8") if args.page.is_file() else ""
    if there == wanted:
        return 0
    lines = zip_longest(there.splitlines(), wanted.splitlines())
    first = next((n for n, (old, new) in enumerate(lines, 1) if old != new), 1)
    print(
        f"{args.page} is not what the files in {args.results} say, from line {first} on; "
        f"make it anew with: python benchmarks/results.py",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
