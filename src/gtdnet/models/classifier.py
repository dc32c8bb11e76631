"""A clip classifier around any 2D backbone: fold, backbone, pool, classifier, consensus."""

from __future__ import annotations

from torch import Tensor, nn

from gtdnet.data.spec import ClipSpec
from gtdnet.errors import InputError, check_at_least
from gtdnet.nn.frames import check_num_segments


class VideoClassifier(nn.Module):
    """Classifies every frame of a clip and averages over the clip's frames.

    Wang et al., "Temporal Segment Networks", ECCV 2016: the average consensus; the backbone decides
    whether the frames see each other on the way.

    Args:
        backbone: [N*T, 3, H, W] -> features [N*T, C] or feature maps [N*T, C, h, w].
        num_features: C.
        num_classes: K.
        num_segments: T.
        dropout: probability, before the classifier.
        frames_per_segment: f, frames of which the backbone makes one segment's features; the clip
            then is [N, T*f, 3, H, W] and the backbone [N*T*f, 3, H, W] -> [N*T, C(, h, w)].

    Attributes:
        name, options: how create_model made this network (empty for one of the user's own); they go
            into the model file.

    Raises:
        ValueError: an argument out of range; in forward, an input that is not [N, T*f, 3, H, W]
            with T = num_segments.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_features: int,
        num_classes: int,
        num_segments: int = 8,
        dropout: float = 0.5,
        *,
        frames_per_segment: int = 1,
    ) -> None:
        super().__init__()
        check_num_segments(num_segments)
        check_at_least(1, frames_per_segment=frames_per_segment, num_classes=num_classes)
        if not 0 <= dropout < 1:
            raise InputError(f"dropout must be in [0, 1), got {dropout}")
        self.num_segments = num_segments
        self.frames_per_segment = frames_per_segment
        self.num_classes = num_classes
        self.name = ""
        self.options: dict[str, object] = {}
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(num_features, num_classes)
        nn.init.normal_(self.classifier.weight, std=0.001)
        nn.init.zeros_(self.classifier.bias)

    def forward_features(self, clip: Tensor) -> Tensor:
        """What the classifier sees of every segment: [N, T*f, 3, H, W] -> [N, T, C]."""
        return self._pooled(clip).unflatten(0, (clip.shape[0], self.num_segments))

    def classify(self, features: Tensor) -> Tensor:
        """Logits of every segment from its features: [N, T, C] -> [N, T, K]."""
        return self.classifier(self.dropout(features))

    def forward_frames(self, clip: Tensor) -> Tensor:
        """Logits of every segment: [N, T*f, 3, H, W] -> [N, T, K]."""
        logits = self.classifier(self.dropout(self._pooled(clip)))
        return logits.unflatten(0, (clip.shape[0], self.num_segments))

    def _pooled(self, clip: Tensor) -> Tensor:
        """[N, T*f, 3, H, W] -> [N*T, C]."""
        if clip.ndim != 5 or clip.shape[2] != 3:
            raise InputError(
                f"expected a clip as [N, T, 3, H, W], got a tensor of shape {list(clip.shape)}"
            )
        frames, t, f = clip.shape[1], self.num_segments, self.frames_per_segment
        if frames != t * f:
            each = f" of {f} frames each" if f > 1 else " frames"
            raise InputError(
                f"the model was built for num_segments={t}{each}, got {frames}; sample "
                f"{t * f} frames or load the model with another num_segments"
            )
        features = self.backbone(clip.flatten(0, 1))  # [N*T*f, 3, H, W] -> [N*T, C(, h, w)]
        return features.mean(dim=(2, 3)) if features.ndim == 4 else features

    def forward(self, clip: Tensor) -> Tensor:
        """Logits of every clip: normalised [N, T*f, 3, H, W] -> [N, K]."""
        return self.forward_frames(clip).mean(dim=1)


def probabilities(logits: Tensor, spec: ClipSpec) -> Tensor:
    """What logits [..., K] of a model of this spec say, in [0, 1].

    Softmax over the classes; of a multi-label model, whose classes are questions of their own, the
    sigmoid of each. The logits of a calibrated model are divided by its temperature first.
    """
    if spec.calibration is not None:
        logits = logits / spec.calibration.temperature
    return logits.sigmoid() if spec.multi_label else logits.softmax(dim=-1)
