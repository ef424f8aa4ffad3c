"""The far side of the sandbox: what runs in the fork server and its children.

Standard library and relative imports only. The fork server loads this folder as a package of its own, so that a program
never shares a process with the rest of the project.
"""
