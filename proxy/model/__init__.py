"""The contract between controller and proxy: frozen values, how they are encoded, and nothing else.

No behaviour that needs a clock, a socket or a log belongs here; the controller imports this package and no other of the proxy.
"""
