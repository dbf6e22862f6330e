"""EasyTune Arena: text-to-motion diffusion, reward alignment and preference learning on an ordinary CPU.

Importing this package loads no model, opens no port and touches no file.
"""

__version__ = "0.1.0"


class UnavailableError(RuntimeError):
    """What was asked for can't be done yet, or not on this machine; the message is a sentence for the user."""
