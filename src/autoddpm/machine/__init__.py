"""How work is put on this machine: devices, memory, speed, progress."""
