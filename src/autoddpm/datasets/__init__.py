"""Which scans there are: one file per data set, a function from a folder to records, or to raw
volumes.
"""
