"""Work on this machine: devices, memory, speed, progress."""
