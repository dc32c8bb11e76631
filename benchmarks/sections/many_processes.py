"""Several processes beside one: ``benchmarks/many_processes.py``."""

from __future__ import annotations

from sections.markdown import Results, parts, table


def render(results: Results) -> str:
    equal = [
        [
            case["processes"],
            case["largest_difference_of_a_loss"],
            case["clips_evaluated_once"],
            "yes" if case["same_scores_to_the_bit"] else "NO",
        ]
        for case in results["equality"]
    ]
    killed = [
        [
            case["processes"],
            case["killed"],
            case["seconds_to_the_sentence"],
            case["seconds_to_the_end"],
            case["exit_status"],
            case["left_running"],
            case["sentence"],
        ]
        for case in results["kills"]
    ]
    return parts(
        f"""A small GTDNet is trained by several processes on one machine (gloo), with
        {results["clips_a_step"]} clips a step in all and batch norms {results["batch_norms"]}, and
        by one process with as many. Compared are the losses of each epoch, of training and
        validation; rounding alone, by two threads in that one process, takes them
        {results["largest_difference_by_rounding"]} apart.
        Then the validation clips are evaluated with one process's model: how many of
        the ids that come back are different ones, and whether they, the scores and the labels are
        those of one process, bit for bit.""",
        table(["processes", "loss differs by", "clips once", "same scores"], equal),
        """SIGKILL to one of the processes while it trains: seconds until the first that is left
        says how to go on (-: none did), seconds until all have ended, what the command that was
        started returns (-9: it was the one killed), and how many processes of the run are left.""",
        table(
            [
                "processes",
                "rank killed",
                "s to the sentence",
                "s to the end",
                "status",
                "left",
                "sentence",
            ],
            killed,
        ),
    )
