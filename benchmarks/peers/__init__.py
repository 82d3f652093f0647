"""What people would pick instead, on the same workloads. Each in an environment of its own, outside of this folder."""
