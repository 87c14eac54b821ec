"""Sockets and the life of the process: the HTTP front, the management port, start, drain and end."""
