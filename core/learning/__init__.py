"""The live loop: votes -> reward head -> EasyTune -> a new immutable version, in a process of its own."""
