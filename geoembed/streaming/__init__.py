"""Table file in, table file with embeddings out, in bounded memory.

A run reads the source front to back in batches, encodes each, and lets a file grow in a folder
``NAME.part`` beside the target; the file gets its name when it is whole. A manifest in that
folder says how far the file is good, so a run that was stopped, by whatever, can be gone on with.
"""

from geoembed.streaming.frames import made_by, read_frames
from geoembed.streaming.job import EmbedReport, embed_file

__all__ = ["EmbedReport", "embed_file", "made_by", "read_frames"]
