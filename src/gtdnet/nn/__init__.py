"""Temporal modules for 2D networks: [N*T, C, H, W] to [N*T, C, H, W], or tokens, [N*T, ..., C].

Two are made of several parts that stand at different places of a network, and have no such form:
``TemporalExcitationAggregation`` (TEA) and ``ShortTermDifference`` (TDN).

A module may say of itself what others need to know; none of it must be there:

    num_segments                     T; :func:`set_num_segments` changes it
    identity_gain                    the number it multiplies by at its identity start
    start_at_identity()              makes that true, where it is not always so
    resize_time(state)               weights of another number of frames, fitted to its own
    extra_macs(out)                  multiply-accumulates that no layer in it shows
    shows_gate, gate(x)              it has a gate in (0, 1), [N*T, C], that is worth drawing
    channels_last                    it also takes tokens, [N*T, ..., C]; insertion sets it where it
                                     is given some. Others see them as maps
    needs_maps                       it looks at neighbours along H and W
    keeps_precision                  it computes in the precision of its weights, whatever
                                     that of the network
    causal                           no frame of it sees a later one (:mod:`gtdnet.nn.memory`)
    fused_part(channels)             what the layer behind it can take into its own pass
                                     (:class:`gtdnet.nn.fast.FusedPart`)
"""

from gtdnet.nn.action import Action
from gtdnet.nn.fast import FusedPart, fast_path
from gtdnet.nn.gtd import (
    AGGREGATIONS,
    AverageAggregation,
    GlobalTemporalDifference,
    LSTMAggregation,
    MTAggregation,
    channel_attention,
)
from gtdnet.nn.insert import insert_temporal, set_num_segments, temporal_convs, temporal_layers
from gtdnet.nn.layers import TemporalConv2d, TemporalLayer
from gtdnet.nn.shift import TemporalConv1d, TemporalShift, temporal_shift
from gtdnet.nn.tanet import TemporalAdaptiveModule
from gtdnet.nn.tdn import LongTermDifference, ShortTermDifference
from gtdnet.nn.tea import MotionExcitation, TemporalExcitationAggregation
from gtdnet.nn.teinet import MotionEnhancement, TemporalEnhancementInteraction

__all__ = [
    "AGGREGATIONS",
    "Action",
    "AverageAggregation",
    "FusedPart",
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
    "TemporalLayer",
    "TemporalShift",
    "channel_attention",
    "fast_path",
    "insert_temporal",
    "set_num_segments",
    "temporal_convs",
    "temporal_layers",
    "temporal_shift",
]
