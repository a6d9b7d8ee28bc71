"""What a run leaves on disk: written and read here, nowhere else."""
