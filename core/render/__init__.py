"""Pictures, video and browser packs of moving bodies."""
