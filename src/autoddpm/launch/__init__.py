"""The verbs' common part of the command line: refusals, help, names of runs, failed jobs."""
