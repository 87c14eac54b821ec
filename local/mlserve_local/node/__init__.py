"""A node without containers: a kubelet that runs every container of a pod as a process group."""
