"""Ready-made studies: each a plan, a table, a figure and what must hold."""
