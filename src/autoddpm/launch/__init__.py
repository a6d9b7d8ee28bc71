"""What the verbs share on the command line: refusals, help, names of runs, failed jobs."""
