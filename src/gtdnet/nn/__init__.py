"""Temporal modules for 2D networks: [N*T, C, H, W] to [N*T, C, H, W].

Two are made of several parts that stand at different places of a network, and have no such form:
``TemporalExcitationAggregation`` (TEA) and ``ShortTermDifference`` (TDN).
"""

from gtdnet.nn.action import Action
from gtdnet.nn.fast import fast_path
from gtdnet.nn.gtd import (
    AGGREGATIONS,
    AverageAggregation,
    GlobalTemporalDifference,
    LSTMAggregation,
    MTAggregation,
    channel_attention,
)
from gtdnet.nn.insert import TemporalConv2d, insert_temporal, set_num_segments, temporal_convs
from gtdnet.nn.shift import TemporalConv1d, TemporalShift, temporal_shift
from gtdnet.nn.tanet import TemporalAdaptiveModule
from gtdnet.nn.tdn import LongTermDifference, ShortTermDifference
from gtdnet.nn.tea import MotionExcitation, TemporalExcitationAggregation
from gtdnet.nn.teinet import MotionEnhancement, TemporalEnhancementInteraction

__all__ = [
    "AGGREGATIONS",
    "Action",
    "AverageAggregation",
    "GlobalTemporalDifference",
    "LSTMAggregation",
    "LongTermDifference",
    "MTAggregation",
    "MotionEnhancement",
    "MotionExcitation",
    "ShortTermDifference",
    "TemporalAdaptiveModule",
    "TemporalConv1d",
    "TemporalConv2d",
    "TemporalEnhancementInteraction",
    "TemporalExcitationAggregation",
    "TemporalShift",
    "channel_attention",
    "fast_path",
    "insert_temporal",
    "set_num_segments",
    "temporal_convs",
    "temporal_shift",
]
