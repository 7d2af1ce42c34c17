"""Two label images in, numbers out."""

from cellscale.metrics.frames import FrameScores, frame_scores, scores, summary, tiled_scores, total
from cellscale.metrics.result import Scores

__all__ = ["FrameScores", "Scores", "frame_scores", "scores", "summary", "tiled_scores", "total"]
