"""Long runs: their progress, duration, checkpoints, and how they are interrupted and taken up again."""
