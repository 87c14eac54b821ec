"""Names and addresses of Services without a cluster network: a DNS server and a TCP forwarder on loopback."""
