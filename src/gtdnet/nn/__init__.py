"""Temporal modules for 2D networks: each maps [N*T, C, H, W] to [N*T, C, H, W]."""

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

__all__ = [
    "AGGREGATIONS",
    "AverageAggregation",
    "GlobalTemporalDifference",
    "LSTMAggregation",
    "MTAggregation",
    "TemporalConv1d",
    "TemporalConv2d",
    "TemporalShift",
    "channel_attention",
    "insert_temporal",
    "set_num_segments",
    "temporal_convs",
    "temporal_shift",
]
