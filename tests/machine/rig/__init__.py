"""A look-alike of EC2 on one computer: machines that boot the real user data.

``Rig`` holds what the machines share (AWS, image registry, golden disk), ``Machine`` is one
instance, ``Volume`` one EBS volume. What is imitated and what is not: README.md beside this file.
"""

from .aws import Call, Signal
from .machine import Machine, Volume
from .rig import Rig

__all__ = ["Call", "Machine", "Rig", "Signal", "Volume"]
