"""What ``gtdnet bulk`` is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from gtdnet.errors import check_at_least, check_choice, check_positive
from gtdnet.spread.each import RUNNERS


@dataclass
class BulkOptions:
    """Recognise what happens in any number of videos

    Args:
        model: a run folder, a model file (*.safetensors), an exported one (*.onnx, *.xml) or its
            folder, or hf://user/name.
        listing: a table of clips (*.parquet, *.csv, *.tsv) with a column path and, where paths are
            not what clips are called, a column id; or a folder with videos below. Here, or as a
            URL (s3://, gs://, az://, https://, ...).
        to: folder for the answers, here or as a URL of an object store; the same command goes on
            where it was stopped.
        topk: most classes to give per clip; default: 5, of a multi-label model all that reach the
            threshold.
        threshold: classes of a lower probability are left out; default: 0.5 of a multi-label model,
            of others none are.
        features: also keep what the classifier sees of each clip, the mean over its frames.
        clips: test clips per video.
        crops: test crops per clip: 1 (centre) or 3 (along the longer side).
        average: over the crops and clips.
        num_segments: frames per clip; default: as in training.
        block_size: clips in a block, which is one file of answers, and what is done again when a
            process dies.
        batch_size: views that go through the model at a time.
        runner: what spreads the blocks: processes of this machine, or a Ray cluster; auto: ray
            where --ray_address or RAY_ADDRESS names a cluster, else processes.
        num_workers: processes, or actors of Ray, each with the model; default: one per core, on
            GPUs at most 8 for each.
        ray_address: of the cluster, auto for the one of this machine; default: RAY_ADDRESS, else
            one is started here for this run.
        attempts: how often a block is tried whose process dies, before its clips are tried one by
            one.
        timeout: seconds that a clip, and the batch that it completes, may take before their process
            is taken for hung and killed.
        max_mib: MiB that are fetched of a clip elsewhere (a URL), at most; one that is larger has
            no answer.
        device: where to compute; auto: on a GPU if there is one; cuda:1: on the second.
        engine: that computes; default: torch, of an exported model its own.
        precision: auto: what is fast on the device; default: fp32, of an exported model its own.
        retry_failed: do blocks again that hold clips without an answer.
    """

    model: str
    listing: str
    to: str
    topk: int | None = None
    threshold: float | None = None
    features: bool = False
    clips: int = 1
    crops: int = 1
    average: str = "probabilities"
    num_segments: int | None = None
    block_size: int = 256
    batch_size: int = 8
    runner: str = "auto"
    num_workers: int | None = None
    ray_address: str | None = None
    attempts: int = 3
    timeout: float = 600.0
    max_mib: int = 1024
    device: str = "auto"
    engine: str | None = None
    precision: str | None = None
    retry_failed: bool = False

    def check(self) -> None:
        """Raise InputError for what makes no sense."""
        from gtdnet.infer.answers import check_threshold  # with them comes PyTorch
        from gtdnet.infer.recognizer import check_average, check_views
        from gtdnet.infer.scoring import check_loading

        check_at_least(
            1,
            topk=self.topk,
            block_size=self.block_size,
            attempts=self.attempts,
            max_mib=self.max_mib,
            num_workers=self.num_workers,
        )
        check_threshold(self.threshold)
        check_views(self.clips, self.crops)
        check_average(self.average)
        check_loading(self.batch_size, self.num_workers)
        check_positive(timeout=self.timeout)
        check_choice("runner", self.runner, ("auto", *RUNNERS))
