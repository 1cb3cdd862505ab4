"""An EC2 instance and the AWS account around it on one computer, without AWS.

``python -m chroma_stack.emulator`` starts the server that a deployment would start (docs/try.md). The modules need what
the extra ``emulator`` installs, so this one imports none of them. ``rig.Rig`` holds what machines share (AWS, image
registry, golden disk), ``machine.Machine`` is one instance, ``machine.Volume`` one EBS volume; ``moto_server.MotoServer``
is the account. What is imitated and what is not: README.md beside this file.
"""
