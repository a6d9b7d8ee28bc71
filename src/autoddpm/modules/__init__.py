"""Lightning modules, their callbacks, checkpoints and run folders."""
