"""From raw scans to their maps, on each scan's own grid: one scan, a folder, a BIDS dataset."""
