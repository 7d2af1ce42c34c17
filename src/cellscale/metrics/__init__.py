"""Two label images in, numbers out."""

from cellscale.metrics.frames import FrameScores, frame_scores, scores, summary, tiled_scores, total

__all__ = ["FrameScores", "frame_scores", "scores", "summary", "tiled_scores", "total"]
